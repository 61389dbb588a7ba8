package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// verb runs a verb of the program with the gateway's configuration.
func (g *gateway) verb(t testing.TB, args ...string) string {
	t.Helper()
	command := exec.Command(binary, append(args, "-c", filepath.Join(g.dir, "gateway.toml"))...)
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("sluice %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// An operator sees the bucket of a client that is refused, and fills it; the client's next request passes,
// and nobody else's bucket has changed.
func TestInspectAndResetALimit(t *testing.T) {
	t.Parallel()
	up := startNamed(t, "a")
	g := startGateway(t, `
[admin]
listen = "$ADMIN"
token  = "sesame"
[upstream.a]
targets = ["`+up.url()+`"]
[[limit]]
name  = "per-key"
key   = ["header:X-Key", "route"]
rate  = "3/h"
burst = 3
`+routeTo("/*", "a", `limits = ["per-key"]`))
	route := "anya"
	client := g.dial(t)
	drain := func(key string) {
		t.Helper()
		for i, want := range []int{200, 200, 200, 429} {
			if r := client.ask("/", "X-Key: "+key); r.status != want {
				t.Fatalf("request %d of %s: status %d, want %d", i, key, r.status, want)
			}
		}
	}
	drain("alice")
	drain("bob")
	if out := g.verb(t, "limits", "show"); !strings.Contains(out, "per-key") || !strings.Contains(out, "2 of ") {
		t.Errorf("all limits:\n%s", out)
	}
	if out := g.verb(t, "limits", "show", "per-key", "alice", route); !strings.Contains(out, "-     3/h   0          3   59m") {
		t.Errorf("the drained bucket:\n%s", out)
	}
	if out := g.verb(t, "limits", "show", "per-key", "carol", route); !strings.HasPrefix(out, "full") {
		t.Errorf("the bucket of somebody who was never here:\n%s", out)
	}
	if out := g.verb(t, "limits", "reset", "per-key", "alice", route); out != "reset 1 bucket\n" {
		t.Errorf("the reset:\n%s", out)
	}
	drain("alice")
	if r := client.ask("/", "X-Key: bob"); r.status != 429 {
		t.Errorf("another client passes too: status %d", r.status)
	}
}
