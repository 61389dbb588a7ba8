package engine

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/telemetry"
)

// TestOffendersAreTold: requests of a real client, over the network, are told in the status.
func TestOffendersAreTold(t *testing.T) {
	g := startGateway(t, limitTable("tight", "rate = \"1/d\"\nkey = [\"ip\"]")+"[auth.keys]\nfile = \"keys.toml\"\n"+
		publicRoute(rawServer(t, smallAnswer))+`
limits = ["tight"]
[[route]]
name = "secret"
path = "/secret"
auth = ["keys"]
to   = "origin"
`)
	client := dial(t, g.address)
	for _, path := range []string{"/", "/", "/", "/secret", "/secret", "/%zz"} {
		if _, err := io.WriteString(client, "GET "+path+" HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := readAnswer(client.in, "GET"); err != nil {
			t.Fatal(err)
		}
	}
	client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := g.conns.wait(ctx); err != nil { // its last exchange is over then
		t.Fatal(err)
	}
	told := g.Status(time.Now()).Offenders
	want := Offenders{
		Limited: []telemetry.Offender{{Address: "127.0.0.1", Count: 2, Limit: "tight"}},
		Refused: []telemetry.Offender{{Address: "127.0.0.1", Count: 2}},
		Slow:    []telemetry.Offender{},
	}
	if fmt.Sprint(told) != fmt.Sprint(want) {
		t.Errorf("told %+v, want %+v", told, want)
	}
}
