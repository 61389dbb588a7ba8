package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/listen"
)

// serveMember runs a gateway in the test's process that is a member of a cluster.
func serveMember(t *testing.T, name, gossip, peer string) (config string) {
	t.Helper()
	config = writeConfig(t, fmt.Sprintf(`
[server]
listen = ["%s"]
[admin]
listen = "%s"
[cluster]
listen = "%s"
peers  = ["%s"]
secret = "0123456789abcdef0123456789abcdef"
name   = "%s"
[[limit]]
name  = "per-ip"
key   = ["ip"]
rate  = "5/h"
scope = "cluster"
[upstream.v1]
targets = ["http://127.0.0.1:9"]
[[route]]
name   = "one"
path   = "/*"
auth   = ["none"]
limits = ["per-ip"]
to     = "v1"
`, freeAddress(t), freeAddress(t), gossip, peer, name))
	p, err := newProcess(config, &listen.Set{}, io.Discard, io.Discard, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.end(make(chan os.Signal), false) })
	return config
}

func TestClusterStatus(t *testing.T) {
	a, b := freeAddress(t), freeAddress(t)
	first, _ := serveMember(t, "left", a, b), serveMember(t, "right", b, a)
	wanted := []string{"left and 1 peer; shared limits: per-ip\n", "PEER   ADDRESS", "right  " + b, "  alive  ", " ago\n", "in: ", "out: "}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		code, out, errOut := sluice("cluster", "status", "--config", first)
		if code != 0 || errOut != "" {
			t.Fatalf("exit %d: %s", code, errOut)
		}
		missing := ""
		for _, want := range wanted {
			if !strings.Contains(out, want) {
				missing = want
			}
		}
		if missing == "" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%q is missing in:\n%s", missing, out)
		}
	}
	code, out, _ := sluice("cluster", "status", "--format", "json", "--config", first)
	if code != 0 || !strings.Contains(out, `"name": "right"`) {
		t.Errorf("exit %d, no peer in the JSON form:\n%s", code, out)
	}
}

func TestClusterStatusOfOneOnItsOwn(t *testing.T) {
	_, config := serveLimits(t, freeAddress(t))
	if code, out, errOut := sluice("cluster", "status", "--config", config); code != 0 || out != "on its own: the configuration has no [cluster]\n" {
		t.Errorf("exit %d: %s%s", code, out, errOut)
	}
}
