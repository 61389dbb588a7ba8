package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// oracle is an authority that is asked about opaque tokens, at an address that stays the same.
type oracle struct {
	t       testing.TB
	address string
	asked   atomic.Int64
	server  *http.Server

	mu     sync.Mutex
	tokens map[string]string // answers by token
	faults []string          // of the requests
}

const (
	oracleID     = "gate way"
	oracleSecret = "s3cret/of+the gateway"
)

func newOracle(t testing.TB) *oracle {
	t.Helper()
	o := &oracle{t: t, address: freeAddress(t), tokens: map[string]string{}}
	t.Cleanup(o.down)
	return o
}

func (o *oracle) up() {
	o.t.Helper()
	l, err := net.Listen("tcp", o.address)
	if err != nil {
		o.t.Fatal(err)
	}
	o.server = &http.Server{Handler: http.HandlerFunc(o.serve)}
	go func() { _ = o.server.Serve(l) }()
}

func (o *oracle) down() {
	if o.server != nil {
		_ = o.server.Close()
	}
}

func (o *oracle) say(token, answer string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tokens[token] = answer
}

func (o *oracle) serve(w http.ResponseWriter, r *http.Request) {
	o.asked.Add(1)
	o.mu.Lock()
	defer o.mu.Unlock()
	id, secret, _ := r.BasicAuth()
	if id != "gate+way" || secret != "s3cret%2Fof%2Bthe+gateway" { // RFC 6749 section 2.3.1
		o.faults = append(o.faults, fmt.Sprintf("credentials %q %q", id, secret))
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if r.Method != "POST" || r.URL.RawQuery != "" || r.PostFormValue("client_secret") != "" {
		o.faults = append(o.faults, r.Method+" "+r.URL.String())
	}
	answer, known := o.tokens[r.PostFormValue("token")]
	if !known {
		answer = `{"active":false}`
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(answer))
}

func (o *oracle) table(more string) string {
	return fmt.Sprintf("[auth.introspection.partner]\nurl = \"http://%s/ask\"\nclient_id = %q\nclient_secret = \"env:ORACLE_SECRET\"\n%s\n",
		o.address, oracleID, more)
}

// active is an answer about a good token.
func active(more map[string]any) string {
	all := map[string]any{"active": true, "sub": "paula", "client_id": "partner-app", "scope": "read write", "exp": time.Now().Add(time.Hour).Unix()}
	for name, v := range more {
		all[name] = v
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func startAsking(t testing.TB, o *oracle, more string) (*gateway, *recorder) {
	t.Helper()
	up := startAnswering(t, ok)
	return startGateway(t, upstreamTable(up.url())+o.table(more)+guarded("token", `"introspection:partner"`, `scopes = ["read"]`),
		"ORACLE_SECRET="+oracleSecret), up
}

// The authority decides about opaque tokens, each asked about once while its answer is remembered.
func TestIntrospection(t *testing.T) {
	t.Parallel()
	o := newOracle(t)
	o.up()
	now := time.Now()
	for token, answer := range map[string]string{
		"good": active(nil), "scopeless": active(map[string]any{"scope": "write"}), "listed": active(map[string]any{"scope": []string{"read"}}),
		"expired": active(map[string]any{"exp": now.Add(-time.Minute).Unix()}), "early": active(map[string]any{"nbf": now.Add(time.Hour).Unix()}),
		"said-inactive": `{"active":false,"sub":"paula","scope":"read"}`, "text": active(map[string]any{"active": "true"}), "garbage": "<html>",
		"nobody": `{"active":true,"scope":"read"}`,
	} {
		o.say(token, answer)
	}
	g, up := startAsking(t, o, "")
	for range 5 {
		if r := g.with(t, "/token/x", bearer("good")); r.status != 200 {
			t.Fatalf("a good token: %d\n%s", r.status, r.body)
		}
	}
	if n := o.asked.Load(); n != 1 {
		t.Errorf("the authority was asked %d times about one token", n)
	}
	if got := up.take()[0]; got.fields.get("X-User-ID") != "paula" || got.fields.get("X-User-Scopes") != "read write" || got.fields.has("Authorization") {
		t.Errorf("the upstream got %v", got.fields)
	}
	mark := up.size()
	for _, c := range []struct {
		token, reason string
		status        int
	}{
		{"unknown", "credentials_invalid", 401}, {"said-inactive", "credentials_invalid", 401}, {"expired", "credentials_invalid", 401},
		{"early", "credentials_invalid", 401}, {"nobody", "credentials_invalid", 401}, {"scopeless", "insufficient_scope", 403},
		{"listed", "insufficient_scope", 403}, {"a token", "credentials_invalid", 401},
		{"text", "auth_store_unavailable", 503}, {"garbage", "auth_store_unavailable", 503},
	} {
		g.with(t, "/token/x", bearer(c.token)).expectProblem(t, c.status, c.reason)
	}
	up.expectNothing(t, mark)
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.faults) > 0 {
		t.Errorf("the authority complains: %q", o.faults)
	}
	g.expectSecret(t, oracleSecret, "s3cret")
}

// While the authority is down, tokens it has spoken of lately work and others get 503; when it comes back, they
// work without anybody's doing.
func TestAuthorityDown(t *testing.T) {
	t.Parallel()
	o := newOracle(t)
	o.say("seen", active(nil))
	o.say("unseen", active(map[string]any{"sub": "quentin"}))
	g, up := startAsking(t, o, "")
	g.with(t, "/token/x", bearer("seen")).expectProblem(t, 503, "auth_store_unavailable")
	g.with(t, "/token/x").expectProblem(t, 401, "credentials_missing")
	up.expectNothing(t, 0)
	o.up()
	eventually(t, "the authority is asked", func() bool { return g.token(t, "seen") == 200 })
	o.down()
	for range 10 {
		if status := g.token(t, "seen"); status != 200 {
			t.Errorf("a token that is remembered gets %d", status)
		}
		r := g.with(t, "/token/x", bearer("unseen"))
		r.expectProblem(t, 503, "auth_store_unavailable")
		if r.fields.get("Retry-After") == "" {
			t.Errorf("a 503 says %v", r.fields)
		}
	}
	o.up()
	begun := time.Now()
	eventually(t, "the authority is asked again", func() bool { return g.token(t, "unseen") == 200 })
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("recovered after %v", took)
	}
	if n := o.asked.Load(); n > 5 {
		t.Errorf("the authority was asked %d times", n)
	}
}
