package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startKeyed runs a gateway with a route that needs a key.
func startKeyed(t testing.TB) (*gateway, *recorder) {
	t.Helper()
	up := startAnswering(t, ok)
	g := newGateway(t, upstreamTable(up.url())+guarded("key", `"keys"`, ""))
	return g, up
}

// key asks with a key, and gives the status.
func (g *gateway) key(t testing.TB, key string) int {
	t.Helper()
	return g.with(t, "/key/x", "X-API-Key: "+key).status
}

// The key file may come, change and go while the gateway runs: what it says is true within a second.
func TestKeyFileWhileRunning(t *testing.T) {
	t.Parallel()
	g, _ := startKeyed(t)
	g.start()
	path := filepath.Join(g.dir, "keys.toml")
	becomes := func(what, key string, status int) {
		t.Helper()
		soon(t, what, func() bool { return g.key(t, key) == status })
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if status := g.key(t, "one"); status != 401 {
		t.Errorf("without a file: %d", status)
	}
	write(keyRecord("one", "a", ""))
	becomes("created", "one", 200)
	write(keyRecord("one", "a", "") + keyRecord("two", "b", ""))
	becomes("edited in place", "two", 200)
	g.place("keys.toml", keyRecord("two", "b", ""))
	becomes("replaced: a key is gone", "one", 401)
	if status := g.key(t, "two"); status != 200 {
		t.Errorf("replaced: the other key gets %d", status)
	}
	g.place("keys.toml", keyRecord("two", "b", "disabled = true"))
	becomes("disabled", "two", 401)
	g.place("keys.toml", keyRecord("two", "b", ""))
	becomes("enabled again", "two", 200)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	becomes("removed", "two", 401)
	folder := filepath.Join(g.dir, "elsewhere")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "keys"), []byte(keyRecord("three", "c", "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(folder, "keys"), path); err != nil {
		t.Fatal(err)
	}
	becomes("a link to a file", "three", 200)
	if err := os.WriteFile(filepath.Join(folder, "keys"), []byte(keyRecord("four", "c", "")), 0o600); err != nil {
		t.Fatal(err)
	}
	becomes("what the link leads to has changed", "four", 200)
}

// A key stops at its end, which nothing has to announce.
func TestKeyExpires(t *testing.T) {
	t.Parallel()
	g, _ := startKeyed(t)
	end := time.Now().Add(2 * time.Second)
	g.place("keys.toml", keyRecord("brief", "a", fmt.Sprintf("expires = %q", end.UTC().Format(time.RFC3339Nano))))
	g.start()
	if status := g.key(t, "brief"); status != 200 && time.Now().Before(end) {
		t.Errorf("before its end: %d", status)
	}
	eventually(t, "it ends", func() bool { return time.Now().After(end) })
	if status := g.key(t, "brief"); status != 401 {
		t.Errorf("after its end: %d", status)
	}
}

// A key file that cannot be used changes nothing, and says so without a secret; at the start it is a fault.
func TestBadKeyFileKeepsTheKeys(t *testing.T) {
	t.Parallel()
	g, _ := startKeyed(t)
	good := keyRecord("one", "a", "")
	g.place("keys.toml", good)
	g.start()
	said := func() int { return strings.Count(g.log.String(), "API keys kept") }
	for intent, text := range map[string]string{
		"no TOML":          "[[key",
		"a key for a hash": "[[key]]\nhash = \"canary-key-in-the-clear\"\nclient = \"a\"\n",
		"an unknown field": good + "colour = \"red\"\n",
		"a hash twice":     good + good,
		"no client":        "[[key]]\nhash = \"" + hashOf("x") + "\"\n",
		"not a scope":      keyRecord("x", "a", `scopes = ["a b"]`),
		"another's id":     keyRecord("x", "a", `id = "`+idOf("y")+`"`),
	} {
		before := said()
		g.place("keys.toml", keyRecord("new", "n", "")+text)
		soon(t, intent+" is noticed", func() bool { return said() > before })
		if old, fresh := g.key(t, "one"), g.key(t, "new"); old != 200 || fresh != 401 {
			t.Errorf("%s: the old key gets %d, the new one %d", intent, old, fresh)
		}
	}
	g.place("keys.toml", good+keyRecord("new", "n", ""))
	soon(t, "a good file is used again", func() bool { return g.key(t, "new") == 200 })
	g.expectSecret(t, "canary-key-in-the-clear")
}
