package e2e

import (
	"bufio"
	"fmt"
	"net"
	"testing"
	"time"
)

// from is a connection from another address of this machine.
func (g *gateway) from(t testing.TB, address string) *client {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: patience}
	c, err := dialer.DialContext(t.Context(), "tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return &client{TCPConn: c.(*net.TCPConn), t: t, in: bufio.NewReader(c)}
}

// limitTable is a limit by whole days, so that nothing comes back during a test.
func limitTable(name, key, rate, more string) string {
	return fmt.Sprintf("[[limit]]\nname = %q\nkey = [%s]\nalgorithm = \"fixed_window\"\nrate = %q\n%s\n", name, key, rate, more)
}

// startMetered runs a gateway with limits by identity.
func startMetered(t testing.TB) (g *gateway, up *recorder, s *signer) {
	t.Helper()
	up, s = startAnswering(t, ok), newSigner(t, "1")
	i := startIssuer(t, s)
	both := `"jwt:main", "keys"`
	g = startWithKeys(t, upstreamTable(up.url())+i.table("main", "")+
		limitTable("per-client", `"client"`, "3/d", `tiers = { gold = "5/d", none = "2/d" }`)+
		limitTable("per-org", `"claim:org"`, "2/d", "")+
		limitTable("guard", `"ip"`, "6/d", "before_auth = true")+
		guarded("metered", both, `limits = ["per-client"]`)+guarded("scoped", both, "scopes = [\"admin\"]\nlimits = [\"per-client\"]")+
		guarded("org", both, `limits = ["per-org"]`)+guarded("guarded", both, `limits = ["guard", "per-client"]`)+
		guarded("open", `"none"`, `limits = ["per-client"]`),
		keyRecord("key-1", "carol", "")+keyRecord("key-2", "carol", "")+keyRecord("key-gold", "dora", `tier = "gold"`)+
			keyRecord("key-rated", "erin", "tier = \"gold\"\nrate = \"4/d\"")+keyRecord("key-few", "frank", `rate = "1/d"`)+
			keyRecord("key-ip", "127.0.0.1", ""))
	return g, up, s
}

// passes counts how many of n requests are admitted before the first refusal; after it none may be.
func (c *client) passes(path, credential string, n int) (admitted int) {
	c.t.Helper()
	refused := false
	for range n {
		switch r := c.ask(path, credential); {
		case r.status == 200 && !refused:
			admitted++
		case r.status == 429:
			refused = true
		default:
			c.t.Fatalf("%s: status %d after %d were admitted\n%s", path, r.status, admitted, r.body)
		}
	}
	return admitted
}

// Limits count by client, wherever it comes from and whatever it shows, at the rate of its tier or its key.
func TestLimitsByIdentity(t *testing.T) {
	t.Parallel()
	g, _, s := startMetered(t)
	user := func(sub, tier string) string { return bearer(s.token(claims{"sub": sub, "tier": tier})) }
	org := func(sub string, org any) string { return bearer(s.token(claims{"sub": sub, "org": org})) }
	for _, c := range []struct {
		intent, address, path, credential string
		want                              int
	}{
		{"nobody's tier", "127.0.0.1", "/metered/x", user("alice", "unknown"), 3},
		{"the same client by another token", "127.0.0.1", "/metered/x", user("alice", "other"), 0},
		{"from another address", "127.0.0.2", "/metered/x", user("alice", "unknown"), 0},
		{"another client at the same address", "127.0.0.1", "/metered/x", user("bob", ""), 3},
		{"a client by its key", "127.0.0.1", "/metered/x", "X-API-Key: key-1", 3},
		{"the same by its other key", "127.0.0.1", "/metered/x", "X-API-Key: key-2", 0},
		{"the same by a token", "127.0.0.1", "/metered/x", user("carol", ""), 0},
		{"a better tier by a key", "127.0.0.1", "/metered/x", "X-API-Key: key-gold", 5},
		{"a better tier by a token", "127.0.0.1", "/metered/x", user("gina", "gold"), 5},
		{"a worse tier", "127.0.0.1", "/metered/x", user("hugo", "none"), 2},
		{"a key's own rate wins over its tier", "127.0.0.1", "/metered/x", "X-API-Key: key-rated", 4},
		{"a key's own rate wins over the limit's", "127.0.0.1", "/metered/x", "X-API-Key: key-few", 1},
		{"a client named as an address", "127.0.0.1", "/metered/x", "X-API-Key: key-ip", 3},
		{"nobody is known by its address", "127.0.0.1", "/open/x", "X-User-ID: zoe", 3},
		{"nobody at the same address", "127.0.0.1", "/open/x", "X-User-ID: yan", 0},
		{"nobody with a credential that nobody asked for", "127.0.0.1", "/open/x", user("kim", ""), 0},
		{"nobody at another address", "127.0.0.3", "/open/x", "X-User-ID: zoe", 3},
		{"a claim", "127.0.0.1", "/org/x", org("a", "acme"), 2},
		{"a claim that others share", "127.0.0.2", "/org/x", org("b", "acme"), 0},
		{"a claim with another value", "127.0.0.1", "/org/x", org("a", "other"), 2},
		{"a claim that is a number", "127.0.0.1", "/org/x", org("a", 7), 2},
		{"a claim that is no value", "127.0.0.1", "/org/x", org("a", []string{"acme"}), 2},
		{"no claim, as with one that is no value", "127.0.0.1", "/org/x", org("a", nil), 0},
		{"no claim, by a key", "127.0.0.1", "/org/x", "X-API-Key: key-1", 0},
	} {
		if got := g.from(t, c.address).passes(c.path, c.credential, c.want+2); got != c.want {
			t.Errorf("%s: %d requests were admitted, want %d", c.intent, got, c.want)
		}
	}
}

// Bad credentials are charged to the guard, and to no client: neither the one they name nor the one they
// come from. A guard refuses before it is asked who is there.
func TestGuardsAndFailures(t *testing.T) {
	t.Parallel()
	g, up, s := startMetered(t)
	alice := bearer(s.token(nil)) // who is gold: 5
	bad := bearer(newSigner(t, "1").token(nil))

	c := g.dial(t)
	for range 7 {
		c.ask("/metered/x", bad).expectProblem(t, 401, "credentials_invalid")
		c.ask("/metered/x", alice, alice).expectProblem(t, 401, "credentials_invalid")
		c.ask("/scoped/x", alice).expectProblem(t, 403, "insufficient_scope")
		c.ask("/metered/x").expectProblem(t, 401, "credentials_missing")
	}
	up.expectNothing(t, 0)
	if r := c.ask("/metered/x", alice); r.status != 200 || r.fields.get("X-RateLimit-Remaining") != "4" {
		t.Errorf("refused requests cost quota: %d, %v", r.status, r.fields)
	}

	for i := range 20 {
		r := c.ask("/guarded/x", bad)
		if i < 6 && r.status != 401 || i >= 6 && r.status != 429 {
			t.Errorf("bad token %d: status %d", i, r.status)
		}
		if r.status == 429 && (r.fields.get("Retry-After") == "" || r.fields.has("WWW-Authenticate")) {
			t.Errorf("the guard's refusal: %v", r.fields)
		}
	}
	if r := c.ask("/guarded/x", alice); r.status != 429 {
		t.Errorf("the guard lets a good token pass: %d", r.status)
	}
	if r := g.from(t, "127.0.0.9").ask("/guarded/x", alice); r.status != 200 || r.fields.get("X-RateLimit-Remaining") != "3" {
		t.Errorf("from elsewhere: %d, %v", r.status, r.fields)
	}
	if n := len(up.take()); n != 2 {
		t.Errorf("the upstream got %d requests, want 2", n)
	}
}
