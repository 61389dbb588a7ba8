package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// revoke asks the admin side to revoke what a JSON object names.
func (g *gateway) revoke(t testing.TB, object string) {
	t.Helper()
	r, err := adminClient.Post("http://"+g.admin+"/revocations", "application/json", strings.NewReader(object))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if text, _ := io.ReadAll(r.Body); r.StatusCode != http.StatusCreated {
		t.Fatalf("revoking %s: %s\n%s", object, r.Status, text)
	}
}

// revocable is a gateway with two issuers that have the same keys, and keys.
func revocable(t testing.TB, url string, i *issuer, more string) *gateway {
	t.Helper()
	other := strings.ReplaceAll(i.table("other", ""), issuerName, "https://other.test/")
	g := newGateway(t, more+upstreamTable(url)+i.table("main", "")+other+
		guarded("token", `"jwt:main"`, "")+guarded("other", `"jwt:other"`, "")+guarded("key", `"keys"`, "")+guarded("any", `"jwt:main", "keys"`, ""))
	g.place("keys.toml", keyRecord("key-1", "carol", "")+keyRecord("key-2", "carol", "")+keyRecord("key-3", "dora", ""))
	return g
}

// What is revoked is refused from the next request on, though the gateway has verified and remembered it; all
// else passes as before.
func TestRevocation(t *testing.T) {
	t.Parallel()
	up, s := startAnswering(t, ok), newSigner(t, "1")
	i := startIssuer(t, s)
	g := revocable(t, up.url(), i, "")
	g.start()
	now := time.Now()
	type shown struct{ path, line string }
	token := func(path string, over claims) shown { return shown{path, bearer(s.token(over))} }
	all := map[string]shown{
		"jti":            token("/token/x", claims{"sub": "a", "jti": "id-1"}),
		"another jti":    token("/token/x", claims{"sub": "a", "jti": "id-2"}),
		"jti elsewhere":  token("/other/x", claims{"sub": "a", "jti": "id-1", "iss": "https://other.test/"}),
		"sub":            token("/token/x", claims{"sub": "b"}),
		"sub elsewhere":  token("/other/x", claims{"sub": "b", "iss": "https://other.test/"}),
		"old":            token("/token/x", claims{"sub": "c", "iat": now.Add(-2 * time.Minute).Unix()}),
		"of unknown age": token("/token/x", claims{"sub": "c", "iat": nil}),
		"new":            token("/token/x", claims{"sub": "c", "iat": now.Add(-time.Second).Unix()}),
		"key":            {"/key/x", "X-API-Key: key-1"},
		"another key":    {"/key/x", "X-API-Key: key-2"},
		"client's key":   {"/key/x", "X-API-Key: key-3"},
		"client's token": token("/token/x", claims{"sub": "dora"}),
		"by the way":     token("/token/x", claims{"sub": "eve", "jti": idOf("key-1")}),
	}
	refused := map[string]bool{}
	check := func(after string) {
		t.Helper()
		for range 2 {
			for name, c := range all {
				mark := up.size()
				switch r := g.with(t, c.path, c.line); {
				case !refused[name] && r.status != 200:
					t.Errorf("after %s: %q gets %d", after, name, r.status)
				case refused[name]:
					r.expectProblem(t, 401, "credentials_invalid")
					up.expectNothing(t, mark)
					if got := r.fields.get("WWW-Authenticate"); strings.HasPrefix(c.line, "Auth") && got != bearerInvalid {
						t.Errorf("after %s: %q is challenged by %q", after, name, got)
					}
				}
			}
		}
	}
	check("nothing")
	for _, c := range []struct {
		object string
		names  []string
	}{
		{`{"jti":"id-1","issuer":"main"}`, []string{"jti"}},
		{`{"sub":"b","issuer":"https://issuer.test/"}`, []string{"sub"}},
		{`{"sub":"c","before":"` + now.Add(-time.Minute).UTC().Format(time.RFC3339) + `"}`, []string{"old", "of unknown age"}},
		{`{"key":"` + idOf("key-1") + `"}`, []string{"key"}},
		{`{"client":"dora"}`, []string{"client's key", "client's token"}},
		{`{"jti":"id-1"}`, []string{"jti elsewhere"}},
	} {
		g.revoke(t, c.object)
		for _, name := range c.names {
			refused[name] = true
		}
		check(c.object)
	}
}

// Revocations survive a restart by their file, and end at their end.
func TestRevocationSurvives(t *testing.T) {
	t.Parallel()
	up, s := startAnswering(t, ok), newSigner(t, "1")
	g := revocable(t, up.url(), startIssuer(t, s), "")
	g.start()
	dead, alive, brief := s.token(claims{"jti": "dead"}), s.token(claims{"jti": "alive"}), s.token(claims{"jti": "brief"})
	end := time.Now().Add(3 * time.Second)
	g.revoke(t, `{"jti":"dead"}`)
	g.revoke(t, `{"jti":"brief","expires":"`+end.UTC().Format(time.RFC3339Nano)+`"}`)
	g.signal(syscall.SIGKILL)
	g.wait()
	if log, err := os.ReadFile(filepath.Join(g.dir, "revoked.log")); err != nil || !strings.Contains(string(log), "dead") {
		t.Errorf("the file of revocations: %q, %v", log, err)
	}
	g.start()
	if status := g.token(t, dead); status != 401 {
		t.Errorf("after a restart, a revoked token gets %d", status)
	}
	if status := g.token(t, alive); status != 200 {
		t.Errorf("after a restart, another token gets %d", status)
	}
	if status := g.token(t, brief); status != 401 && time.Now().Before(end) {
		t.Errorf("before the end of its revocation, a token gets %d", status)
	}
	eventually(t, "the revocation ends", func() bool { return g.token(t, brief) == 200 })
	if time.Now().Before(end) {
		t.Error("the revocation ended too early")
	}
}

// A reload that waits for an issuer holds no revocation up.
func TestRevocationDuringAReload(t *testing.T) {
	t.Parallel()
	up, s := startAnswering(t, ok), newSigner(t, "1")
	i, slow := startIssuer(t, s), startIssuer(t, s)
	g := revocable(t, up.url(), i, "")
	g.start()
	release := make(chan struct{})
	slow.hold(release)
	g.configure(upstreamTable(up.url()) + i.table("main", "") + slow.table("slow", "") + guarded("token", `"jwt:main", "jwt:slow"`, ""))
	eventually(t, "the reload asks the issuer", func() bool { return slow.fetches.Load() > 0 })
	begun := time.Now()
	g.revoke(t, `{"sub":"alice"}`)
	if took := time.Since(begun); took > time.Second && !raceDetector() || took > 3*time.Second {
		t.Errorf("took %v", took)
	}
	if status := g.token(t, s.token(nil)); status != 401 {
		t.Errorf("status %d", status)
	}
	close(release)
	g.expectLogged(t, "configuration live")
}

// Without a file, revocations are in force as long as the process is.
func TestRevocationInMemory(t *testing.T) {
	t.Parallel()
	up, s := startAnswering(t, ok), newSigner(t, "1")
	g := revocable(t, up.url(), startIssuer(t, s), "[auth.revocation]\nfile = \"\"\n")
	g.start()
	token := s.token(claims{"jti": "dead"})
	g.revoke(t, `{"jti":"dead"}`)
	g.signal(syscall.SIGHUP)
	g.expectLogged(t, "configuration live")
	if status := g.token(t, token); status != 401 {
		t.Errorf("after a reload, a revoked token gets %d", status)
	}
	if _, err := os.Stat(filepath.Join(g.dir, "revoked.log")); err == nil {
		t.Error("there is a file of revocations")
	}
}

// With Redis, what is revoked at one gateway is refused by all within a second, and still is when Redis dies.
func TestRevocationInRedis(t *testing.T) {
	t.Parallel()
	up, s, redis := startAnswering(t, ok), newSigner(t, "1"), newRedis(t)
	redis.start()
	i := startIssuer(t, s)
	tables := fmt.Sprintf("[redis]\nurl = \"redis://%s\"\n[auth.revocation]\nstore = \"redis\"\n", redis.address)
	one, two := revocable(t, up.url(), i, tables), revocable(t, up.url(), i, tables)
	one.start()
	two.start()
	dead, alive := s.token(claims{"jti": "dead"}), s.token(claims{"jti": "alive"})
	if a, b := one.token(t, dead), two.token(t, dead); a != 200 || b != 200 {
		t.Fatalf("at first: %d and %d", a, b)
	}
	eventually(t, "Redis takes a revocation", func() bool {
		r, err := adminClient.Post("http://"+one.admin+"/revocations", "application/json", strings.NewReader(`{"jti":"dead"}`))
		if err != nil {
			return false
		}
		defer r.Body.Close()
		return r.StatusCode == http.StatusCreated
	})
	if status := one.token(t, dead); status != 401 {
		t.Errorf("where it was revoked: %d", status)
	}
	soon(t, "the other gateway knows", func() bool { return two.token(t, dead) == 401 })
	redis.kill()
	for _, g := range []*gateway{one, two} {
		if status := g.token(t, dead); status != 401 {
			t.Errorf("without Redis, a revoked token gets %d", status)
		}
		if status := g.token(t, alive); status != 200 {
			t.Errorf("without Redis, another token gets %d", status)
		}
	}
}

// Who is revoked is not known before Redis has said so once: until then nobody passes.
func TestRevocationsUnknown(t *testing.T) {
	t.Parallel()
	up, s, redis := startAnswering(t, ok), newSigner(t, "1"), newRedis(t)
	i := startIssuer(t, s)
	g := revocable(t, up.url(), i, fmt.Sprintf("[redis]\nurl = \"redis://%s\"\n[auth.revocation]\nstore = \"redis\"\n", redis.address))
	g.start()
	token := s.token(claims{"jti": "any"})
	if status := g.token(t, token); status != 503 {
		t.Errorf("before Redis was heard, a token gets %d", status)
	}
	redis.start()
	eventually(t, "tokens pass once Redis is there", func() bool { return g.token(t, token) == 200 })
	redis.kill()
	if status := g.token(t, token); status != 200 {
		t.Errorf("when Redis goes away, a token gets %d", status)
	}
}
