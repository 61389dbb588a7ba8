package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
)

// TestCheckTellsAllAtOnce: what the loader finds, what the router finds and what only building finds
// come together, each with its place.
func TestCheckTellsAllAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.toml")
	text := `[server]
drian = "1s"

[server.tls]
certificates = [{ cert = "none.pem", key = "none.pem" }]

[upstream.a]
targets = ["https://127.0.0.1:1"]
[upstream.a.tls]
ca = "none.pem"

[[route]]
name = "one"
path = "/x/{a}"
auth = ["none"]
to   = "a"

[[route]]
name = "two"
path = "/x/{b}"
auth = ["none"]
to   = "nowhere"

[[route]]
name = "three"
path = "/a//b"
auth = ["none"]
to   = "a"

[[route]]
name = "four"
path = "/y/{id}"
rewrite = "/z/{what}"
auth = ["none"]
to   = "a"
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range Check(path).Sorted() {
		got = append(got, fmt.Sprintf("%d %s", f.Line, f.Key))
	}
	want := []string{
		"2 server.drian", "5 server.tls.certificates", "7 upstream.a", "20 route[1].path", "22 route[1].to",
		"26 route[2].path", "33 route[3].rewrite",
	}
	if !slices.Equal(got, want) {
		t.Errorf("faults at\n%s\nwant\n%s\n%v", strings.Join(got, "\n"), strings.Join(want, "\n"), Check(path))
	}
}

// TestReloadKeepsWhatDidNotChange: pools hand their connections on, unless their table changed.
func TestReloadKeepsWhatDidNotChange(t *testing.T) {
	parse := func(text string) *config.File {
		f, faults := config.Parse("gateway.toml", []byte(text), config.Environment{})
		if err := faults.Err(); err != nil {
			t.Fatal(err)
		}
		return f
	}
	const same, before, after = "[upstream.same]\ntargets = [\"http://127.0.0.1:1\"]\n",
		"[upstream.other]\ntargets = [\"http://127.0.0.1:2\"]\n",
		"[upstream.other]\ntargets = [\"http://127.0.0.1:3\"]\n"
	first, faults := compile(parse(same+before), nil, lookedAt(), time.Now())
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	from := lookedAt()
	from.last = first
	second, faults := compile(parse(after+same), nil, from, time.Now())
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if first.pools["same"] != second.pools["same"] {
		t.Error("an upstream that did not change lost its pool")
	}
	if first.pools["other"] == second.pools["other"] {
		t.Error("an upstream that changed kept its pool")
	}
}

// TestFaultyReloadChangesNothing: the snapshot stays the same one, and the fault is counted.
func TestFaultyReloadChangesNothing(t *testing.T) {
	g := startGateway(t, publicRoute("127.0.0.1:1"))
	before := g.snapshot.Load()
	for _, c := range []struct{ intent, tables string }{
		{"a typo", "[upstrem.a]\n"},
		{"no TOML", "[["},
		{"a route that leads nowhere", "[[route]]\nname = \"x\"\npath = \"/\"\nauth = [\"none\"]\nto = \"y\"\n"},
		{"TLS without a certificate", "[server.tls]\n"},
	} {
		failures := g.Status(time.Now()).Config.Failures
		g.write(t, c.tables)
		if err := g.Reload(); err == nil {
			t.Errorf("%s: accepted", c.intent)
		}
		if g.snapshot.Load() != before {
			t.Errorf("%s: the snapshot changed", c.intent)
		}
		if got := g.Status(time.Now()).Config.Failures; got == failures {
			t.Errorf("%s: not counted", c.intent)
		}
	}
}
