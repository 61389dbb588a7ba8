package e2e

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// startVerifying runs a gateway with a route for tokens of an issuer.
func startVerifying(t testing.TB, i *issuer, more string) (*gateway, *recorder) {
	t.Helper()
	up := startAnswering(t, ok)
	return startGateway(t, upstreamTable(up.url())+i.table("main", more)+guarded("token", `"jwt:main"`, "")+guarded("open", `"none"`, "")), up
}

// token asks with a token, and gives the status.
func (g *gateway) token(t testing.TB, token string) int {
	t.Helper()
	return g.with(t, "/token/x", bearer(token)).status
}

// An issuer that is down does not stop the start: its routes answer 503 until there are keys, then work by
// themselves.
func TestIssuerDownAtStart(t *testing.T) {
	t.Parallel()
	s := newSigner(t, "1")
	i := newIssuer(t, s)
	g, up := startVerifying(t, i, "")
	if r := g.with(t, "/open/x"); r.status != 200 {
		t.Errorf("a public route: %d", r.status)
	}
	mark := up.size()
	g.with(t, "/token/x").expectProblem(t, 401, "credentials_missing")
	g.with(t, "/token/x", bearer("not-a-token")).expectProblem(t, 401, "credentials_invalid")
	r := g.with(t, "/token/x", bearer(s.token(nil)))
	r.expectProblem(t, 503, "auth_store_unavailable")
	if r.fields.has("WWW-Authenticate") || r.fields.get("Retry-After") == "" {
		t.Errorf("a 503 says %v", r.fields)
	}
	up.expectNothing(t, mark)
	i.say("<html>not yet</html>")
	i.up()
	eventually(t, "the issuer is asked again", func() bool { return i.fetches.Load() > 0 })
	if status := g.token(t, s.token(nil)); status != 503 {
		t.Errorf("the issuer serves garbage: %d", status)
	}
	i.publish(s)
	eventually(t, "the keys have come", func() bool { return g.token(t, s.token(nil)) == 200 })
}

// An issuer that is slow, serves garbage or goes away after the start takes nothing from those whose keys are
// known, and delays nobody.
func TestIssuerFailsLater(t *testing.T) {
	t.Parallel()
	s := newSigner(t, "1")
	i := startIssuer(t, s)
	g, _ := startVerifying(t, i, `jwks_refresh = "1s"`)
	refused := newSigner(t, "1")
	works := func(what string) {
		t.Helper()
		begun := time.Now()
		for range 5 {
			if status := g.token(t, s.token(nil)); status != 200 {
				t.Errorf("%s: a good token gets %d", what, status)
			}
		}
		if status := g.token(t, refused.token(nil)); status != 401 {
			t.Errorf("%s: a bad token gets %d", what, status)
		}
		if took := time.Since(begun); took > 4*time.Second {
			t.Errorf("%s: requests waited, %v in all", what, took)
		}
	}
	asked := func(n int64) {
		t.Helper()
		want := i.fetches.Load() + n
		eventually(t, "the issuer is asked again", func() bool { return i.fetches.Load() >= want })
	}
	works("at first")
	for _, garbage := range []string{"", "<html>", "{}", `{"keys":[]}`, `{"keys":{}}`, `{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`,
		`{"keys":[` + s.jwk(), strings.Repeat("x", 2<<20)} {
		i.say(garbage)
		asked(1)
		works(fmt.Sprintf("garbage %.20q", garbage))
	}
	release := make(chan struct{})
	i.hold(release)
	asked(1)
	works("slow")
	close(release)
	i.hold(nil)
	i.down()
	works("down")
	next := newSigner(t, "2")
	i.publish(next)
	i.up()
	eventually(t, "new keys are taken", func() bool { return g.token(t, next.token(nil)) == 200 })
	if status := g.token(t, s.token(nil)); status != 401 {
		t.Errorf("a key that was withdrawn still opens: %d", status)
	}
}

// A new key is believed as soon as a token names it. A flood of kids that do not exist fetches once, and costs
// good tokens nothing.
func TestRotationAndUnknownKids(t *testing.T) {
	t.Parallel()
	first, second := newSigner(t, "1"), newSigner(t, "2")
	i := startIssuer(t, first)
	g, up := startVerifying(t, i, "")
	old := first.token(nil)
	if status := g.token(t, old); status != 200 || i.fetches.Load() != 1 {
		t.Fatalf("at first: %d after %d fetches", status, i.fetches.Load())
	}
	i.publish(first, second)
	if status := g.token(t, second.token(nil)); status != 200 {
		t.Errorf("a token of a new key: %d", status)
	}
	if status := g.token(t, old); status != 200 {
		t.Errorf("a token of the old key: %d", status)
	}
	up.take()

	var flood sync.WaitGroup
	var refused atomic.Int64
	for worker := range 8 {
		flood.Go(func() {
			c := g.dial(t)
			for n := range 40 {
				token := (&signer{kid: fmt.Sprintf("unknown-%d-%d", worker, n), key: first.key}).token(nil)
				if c.ask("/token/x", bearer(token)).status == 401 {
					refused.Add(1)
				}
			}
		})
	}
	for range 20 {
		if status := g.token(t, old); status != 200 {
			t.Errorf("a good token in the flood: %d", status)
		}
	}
	flood.Wait()
	if refused.Load() != 320 || len(up.take()) != 20 {
		t.Errorf("%d of 320 unknown kids were refused", refused.Load())
	}
	if n := i.fetches.Load(); n > 3 {
		t.Errorf("the flood fetched keys %d times", n-2)
	}
}

// A key set may be a file.
func TestKeySetInAFile(t *testing.T) {
	t.Parallel()
	up, s := startAnswering(t, ok), newSigner(t, "1")
	i := newIssuer(t, s)
	g := newGateway(t, upstreamTable(up.url())+strings.Replace(i.table("main", ""), "http://"+i.address+"/keys", "set.json", 1)+
		guarded("token", `"jwt:main"`, ""))
	g.place("set.json", i.body)
	g.start()
	if status := g.token(t, s.token(nil)); status != 200 {
		t.Errorf("status %d", status)
	}
}
