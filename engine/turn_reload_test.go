package engine

import (
	"os"
	"strings"
	"testing"
)

// rewrite puts another configuration, of the same [server], in force.
func (g *gateway) rewrite(t testing.TB, tables string) {
	t.Helper()
	text, err := os.ReadFile(g.path)
	if err != nil {
		t.Fatal(err)
	}
	server, _, _ := strings.Cut(string(text), "[admin]")
	if err := os.WriteFile(g.path, []byte(server+"[admin]\nlisten = \"\"\n"+tables), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
}

// A request that waits while its limits go and others of the same names come takes nothing from those, and
// gives them nothing back.
func TestQueueOutlivesRules(t *testing.T) {
	target, asked := countingOrigin(t)
	rules := limitTable("queue", slowQueue+"burst = 5\nmax_wait = \"1h\"") + limitTable("bucket", "rate = \"1/d\"\nburst = 9\nkey = []")
	with, without := limitedRoutes(target, rules, "queue", "bucket"), publicRoute(target)
	g := startLimited(t, "drain = \"10ms\"", with)
	client := dial(t, g.address)
	client.ask(t, "GET /").expect(t, 200)
	waiting := g.queue(t, "")
	for range 2 {
		g.rewrite(t, without)
		g.rewrite(t, with)
	}
	client.ask(t, "GET /").expect(t, 200)
	second := g.queue(t, "")
	if q, b := g.bucket(t, "queue").Remaining, g.bucket(t, "bucket").Remaining; q != 4 || b != 7 {
		t.Errorf("%d and %d are left, want 4 and 7", q, b)
	}
	waiting.Close()
	g.awaitWaiting(t, 1)
	if q, b := g.bucket(t, "queue").Remaining, g.bucket(t, "bucket").Remaining; q != 4 || b != 7 {
		t.Errorf("after one of the rules before has left, %d and %d are left, want 4 and 7", q, b)
	}
	second.Close()
	g.awaitWaiting(t, 0)
	if q, b := g.bucket(t, "queue").Remaining, g.bucket(t, "bucket").Remaining; q != 5 || b != 8 {
		t.Errorf("at the end %d and %d are left, want 5 and 8", q, b)
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("the target got %d requests, want 2", n)
	}
}
