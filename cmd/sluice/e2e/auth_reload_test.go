package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Settings of an issuer, and methods, change while requests flow. A method that stays the same keeps what it
// knows: neither keys nor verdicts are asked for again.
func TestReloadOfMethods(t *testing.T) {
	t.Parallel()
	up, s := startAnswering(t, ok), newSigner(t, "1")
	stays, changes, o := startIssuer(t, s), startIssuer(t, s), newOracle(t)
	o.up()
	o.say("opaque", active(nil))
	tables := func(aud, methods string) string {
		return upstreamTable(up.url()) + stays.table("main", "") + strings.ReplaceAll(changes.table("next", ""), audience, aud) + o.table("") +
			guarded("token", `"jwt:main", "introspection:partner"`, "") + guarded("next", methods, "")
	}
	g := newGateway(t, tables("one", `"jwt:next"`))
	g.place("keys.toml", keyRecord(goodKey, "mobile", ""))
	g.start("ORACLE_SECRET=" + oracleSecret)
	token, one, two := s.token(nil), s.token(claims{"aud": "one"}), s.token(claims{"aud": "two"})
	statuses := func() string {
		var all []string
		for _, line := range []string{bearer(one), bearer(two), "X-API-Key: " + goodKey, "X-None: 1"} {
			all = append(all, fmt.Sprint(g.with(t, "/next/x", line).status))
		}
		return strings.Join(all, " ")
	}
	always := startAsker(t, g, bearer(token), bearer("opaque"))
	for _, c := range []struct{ intent, aud, methods, want string }{
		{"at first", "one", `"jwt:next"`, "200 401 401 401"},
		{"another audience", "two", `"jwt:next"`, "401 200 401 401"},
		{"a method more", "two", `"jwt:next", "keys"`, "401 200 200 401"},
		{"a method less", "two", `"keys"`, "401 401 200 401"},
		{"public", "two", `"none"`, "200 200 200 200"},
		{"closed again", "one", `"keys", "jwt:next"`, "200 401 200 401"},
	} {
		g.configure(tables(c.aud, c.methods))
		if status, body := g.postReload(t); status != 200 {
			t.Fatalf("%s: %d\n%s", c.intent, status, body)
		}
		if got := statuses(); got != c.want {
			t.Errorf("%s: %s, want %s", c.intent, got, c.want)
		}
	}
	always.expectOK()
	if n := stays.fetches.Load(); n != 1 {
		t.Errorf("the keys of the issuer that stayed were fetched %d times", n)
	}
	if n := o.asked.Load(); n != 1 {
		t.Errorf("the authority that stayed was asked %d times", n)
	}
}

// asker asks all the time, with each of some credentials in turn, on connections that last.
type asker struct {
	t    testing.TB
	stop func()
	done sync.WaitGroup
	n    atomic.Int64

	mu  sync.Mutex
	bad []string
}

func startAsker(t testing.TB, g *gateway, lines ...string) *asker {
	t.Helper()
	halt := make(chan struct{})
	a := &asker{t: t, stop: sync.OnceFunc(func() { close(halt) })}
	client := &http.Client{Timeout: patience}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		a.done.Go(func() {
			for {
				select {
				case <-halt:
					return
				case <-time.After(2 * time.Millisecond):
					a.ask(client, g, name, value)
				}
			}
		})
	}
	t.Cleanup(func() { a.stop(); a.done.Wait(); client.CloseIdleConnections() })
	eventually(t, "requests flow", func() bool { return a.n.Load() > 20 })
	return a
}

func (a *asker) ask(client *http.Client, g *gateway, name, value string) {
	request, _ := http.NewRequest("GET", "http://"+g.address+"/token/x", nil)
	request.Header.Set(name, value)
	r, err := client.Do(request)
	verdict := fmt.Sprint(err)
	if err == nil {
		body, _ := io.ReadAll(r.Body)
		r.Body.Close()
		verdict = r.Status + string(body)
	}
	a.n.Add(1)
	if err != nil || r.StatusCode != 200 {
		a.mu.Lock()
		a.bad = append(a.bad, verdict)
		a.mu.Unlock()
	}
}

func (a *asker) expectOK() {
	a.t.Helper()
	a.stop()
	a.done.Wait()
	if len(a.bad) > 0 {
		a.t.Errorf("%d of %d requests failed: %q", len(a.bad), a.n.Load(), a.bad[:min(3, len(a.bad))])
	}
}

// Configurations and key files that change as fast as they can lose no request of a key that is always there,
// and never let one pass that never is.
func TestReloadStormWithKeys(t *testing.T) {
	t.Parallel()
	up, s := startAnswering(t, ok), newSigner(t, "1")
	i := startIssuer(t, s)
	tables := func(n int) string {
		return upstreamTable(up.url()) + i.table("main", fmt.Sprintf("cache = %d", 1000+n%3)) +
			guarded("token", `"keys", "jwt:main"`, fmt.Sprintf("timeout = \"%ds\"", 20+n%5)) + guarded(fmt.Sprintf("more%d", n%2), `"keys"`, "")
	}
	g := newGateway(t, tables(0))
	keys := func() string {
		text := keyRecord("always", "a", "")
		for n := range rand.IntN(30) {
			text += keyRecord(fmt.Sprint("key-", n), "b", "")
		}
		return text
	}
	g.place("keys.toml", keys())
	g.start()
	always := startAsker(t, g, "X-API-Key: always", bearer(s.token(nil)))
	reloads := 0
	for begun := time.Now(); time.Since(begun) < 2*time.Second; reloads++ {
		g.place("keys.toml", keys())
		g.configure(tables(reloads))
		if reloads%2 == 0 {
			g.signal(syscall.SIGHUP)
		} else if status, body := g.postReload(t); status != 200 {
			t.Fatalf("%d\n%s", status, body)
		}
		if status := g.with(t, "/token/x", "X-API-Key: never").status; status != 401 {
			t.Errorf("a key that never was gets %d", status)
		}
	}
	always.expectOK()
	t.Logf("%d reloads, %d requests", reloads, always.n.Load())
}

// Nothing that could open a door is in what the gateway writes or tells, however it was shown, even at its
// most talkative.
func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	up, s, o := startAnswering(t, ok), newSigner(t, "1"), newOracle(t)
	o.up()
	i := startIssuer(t, s)
	const canary = "canary"
	g := newGateway(t, "[log]\nlevel = \"debug\"\n[admin]\nlisten = \"$ADMIN\"\n[redis]\nurl = \"redis://:canary-redis@"+freeAddress(t)+"\"\n"+
		upstreamTable(up.url())+i.table("main", "")+
		"[auth.jwt.shared]\nissuer = \"https://shared.test/\"\naudiences = [\"api\"]\nalgorithms = [\"HS256\"]\nsecret = \"canary-hmac-0123456789-0123456789\"\n"+
		o.table("")+"[auth.keys]\nstore = \"redis\"\n"+
		guarded("token", `"jwt:main", "jwt:shared", "introspection:partner"`, "")+guarded("key", `"keys"`, "")+guarded("open", `"none"`, ""))
	g.start("ORACLE_SECRET=canary-oracle")
	payload := claims{"sub": "canary-sub", "iss": "https://shared.test/"}.text()
	tokens := []string{"canary.token", "canary", s.token(claims{"sub": "alice", "jti": "canary-jti"}), s.signed(`{"alg":"canary","kid":"canary"}`, payload),
		hmacToken(`{"alg":"HS256"}`, payload, []byte("wrong")), strings.Repeat("canary", 2000), strings.Repeat("canary", 4000), "cana\x00ry canary"}
	for _, path := range []string{"/token/x", "/key/x", "/open/x", "/canary-path-is-no-secret/x"} {
		for _, token := range tokens {
			for _, line := range []string{bearer(token), "Authorization: Basic canary", "X-API-Key: " + token, "Cookie: session=canary"} {
				r := g.with(t, path, line)
				if strings.Contains(r.body, canary) || strings.Contains(fmt.Sprint(r.fields), canary) {
					t.Errorf("the answer to %.60q tells: %v %s", line, r.fields, r.body)
				}
			}
		}
	}
	g.configure("[[route]]\nname = \"bad\"\npath = \"/\"\nauth = [\"keys\"]\nto = \"nowhere\"\n[auth.jwt.shared]\nissuer = \"x\"\naudiences = [\"a\"]\n" +
		"algorithms = [\"HS256\"]\nsecret = \"canary-short\"\n")
	if status, body := g.postReload(t); status != 422 || strings.Contains(body, canary) {
		t.Errorf("a bad configuration: %d\n%s", status, body)
	}
	for _, token := range tokens[2:5] {
		g.expectSecret(t, token[strings.LastIndexByte(token, '.')+1:])
	}
	g.expectSecret(t, "canary-redis", "canary-hmac", "canary-oracle", "canary-short", "canary-sub", "canary.token", "session=", b64([]byte(payload)))
	g.expectSecret(t, canary+canary)
}

// A reload that changes an issuer's settings while it is away keeps the keys that it gave.
func TestReloadWhileIssuerIsDown(t *testing.T) {
	t.Parallel()
	up, s := startAnswering(t, ok), newSigner(t, "1")
	i := startIssuer(t, s)
	text := func(more string) string {
		return upstreamTable(up.url()) + i.table("main", more) + guarded("token", `"jwt:main"`, "")
	}
	g := newGateway(t, text(""))
	g.start()
	token := s.token(nil)
	if status := g.with(t, "/token/x", bearer(token)).status; status != 200 {
		t.Fatalf("at first: %d", status)
	}
	i.down()
	g.configure(text(`jwks_stale_max = "20h"`))
	if status, body := g.postReload(t); status != 200 {
		t.Fatalf("reload: %d\n%s", status, body)
	}
	if status := g.with(t, "/token/x", bearer(token)).status; status != 200 {
		t.Errorf("after a reload without the issuer: %d", status)
	}
}
