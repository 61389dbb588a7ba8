package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-gateway/sluice/engine"
	"github.com/sluice-gateway/sluice/engine/config"
)

// fakeGateway answers as it is told and counts what it was asked to do.
type fakeGateway struct {
	state     string
	token     string
	reloadErr error
	revokeErr error

	statusTime time.Duration // that a Status takes

	reloads, drains, resets, revokes, statuses atomic.Int32
	unready                                    atomic.Bool
}

func (g *fakeGateway) Ready() (bool, string) {
	return g.state == "serving" && !g.unready.Load(), g.state
}

func (g *fakeGateway) Admin() config.Admin {
	return config.Admin{Token: config.NewSecret(g.token)}
}

func (g *fakeGateway) Status(now time.Time) engine.Status {
	g.statuses.Add(1)
	time.Sleep(g.statusTime)
	return engine.Status{Version: "v1", State: g.state, Config: engine.ConfigStatus{Hash: "0123456789ab"}}
}

func (g *fakeGateway) Metrics() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "sluice_ready 1\n") })
}

func (g *fakeGateway) Reload() error {
	g.reloads.Add(1)
	return g.reloadErr
}

func (g *fakeGateway) Explain(r engine.ExplainRequest) (*engine.Explanation, error) {
	if r.URL == "" {
		return nil, errors.New("it names no host")
	}
	return &engine.Explanation{Method: r.Method, Path: r.URL, Client: r.Client.String(), Provided: r.Header, Query: fmt.Sprint(r.BodySize)}, nil
}

func (g *fakeGateway) AskDrain() { g.drains.Add(1) }

func (g *fakeGateway) Limits() []engine.LimitSummary {
	return []engine.LimitSummary{{Name: "two", Key: []string{"ip", "route"}, Refused: 7}}
}

func (g *fakeGateway) LimitTable() engine.LimitTable {
	return engine.LimitTable{Capacity: 1024, Live: 3}
}

func (g *fakeGateway) LimitStore() *engine.LimitStore { return &engine.LimitStore{Asked: 12} }

// checkKey knows one limit, "two", whose key has two values.
func (g *fakeGateway) checkKey(limit string, key []string) error {
	switch {
	case limit == "away":
		return fmt.Errorf("%w: cannot read sluice:limit:away", engine.ErrLimitStore)
	case limit != "two":
		return fmt.Errorf("%w: %q", engine.ErrNoLimit, limit)
	case len(key) != 2:
		return fmt.Errorf("%w: want 2 values: ip, route", engine.ErrLimitKey)
	}
	return nil
}

func (g *fakeGateway) LimitStates(limit string, key []string) ([]engine.LimitState, error) {
	if err := g.checkKey(limit, key); err != nil {
		return nil, err
	}
	if key[1] == "quiet" {
		return []engine.LimitState{}, nil
	}
	return []engine.LimitState{{Rate: "5/h", Limit: 5, Remaining: 2, Reset: 2160}}, nil
}

func (g *fakeGateway) ResetLimit(limit string, key []string) (int, error) {
	if err := g.checkKey(limit, key); err != nil {
		return 0, err
	}
	g.resets.Add(1)
	return 1, nil
}

// serve runs the admin side on l for the length of the test.
func serve(t *testing.T, g Gateway, l net.Listener) {
	t.Helper()
	s := New(g, zerolog.Nop())
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// request is one request of a table; header values are "Name: value".
type request struct {
	method, path, host string
	headers            []string
}

// ask sends a request to l, whatever its Host says.
func ask(t *testing.T, l net.Listener, q request) (*http.Response, []byte) {
	t.Helper()
	address := l.Addr()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, address.Network(), address.String())
		},
	}
	host := q.host
	if host == "" {
		host = "localhost"
	}
	req, err := http.NewRequest(q.method, "http://"+host+q.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range q.headers {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	response, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, body
}

func TestEndpoints(t *testing.T) {
	faults := config.Faults{
		{File: "gateway.toml", Line: 3, Column: 1, Key: "server.listn", Message: "unknown key", Suggestion: "listen"},
		{File: "gateway.toml", Line: 9, Column: 1, Key: "route[0].to", Message: `there is no upstream, split or switch "x"`},
	}
	tests := []struct {
		intent    string
		state     string
		reloadErr error
		method    string
		path      string
		status    int
		body      []string // each must be in it
	}{
		{"a process that answers is alive", "serving", nil, "GET", "/livez", 200, []string{"ok\n"}},
		{"... even while it ends", "draining", nil, "GET", "/livez", 200, []string{"ok\n"}},
		{"a serving gateway is ready", "serving", nil, "GET", "/readyz", 200, []string{"ready\n"}},
		{"one that waits for balancers to notice is not", "unready", nil, "GET", "/readyz", 503, []string{`"reason":"unready"`}},
		{"nor one that drains", "draining", nil, "GET", "/readyz", 503, []string{"not ready: draining", `"reason":"draining"`}},
		{"the status is the engine's", "serving", nil, "GET", "/status", 200, []string{`"version":"v1"`, `"hash":"0123456789ab"`}},
		{"a reload tells what is live now", "serving", nil, "POST", "/reload", 200, []string{`{"config":"0123456789ab"}`}},
		{"a bad configuration tells all its faults", "serving", faults, "POST", "/reload", 422,
			[]string{"gateway.toml:3:1: server.listn", "gateway.toml:9:1: route[0].to", `"reason":"not_reloaded"`}},
		{"an address that is taken is no better", "serving", errors.New("address in use"), "POST", "/reload", 422, []string{"address in use"}},
		{"there is nothing to reload in a gateway that ends", "draining", engine.ErrDraining, "POST", "/reload", 503, []string{`"reason":"draining"`}},
		{"a drain is asked for, not waited for", "serving", nil, "POST", "/drain", 202, []string{`{"state":"draining"}`}},
		{"what changes the gateway is no GET", "serving", nil, "GET", "/reload", 405, []string{`"reason":"method_not_allowed"`}},
		{"what only looks is no POST", "serving", nil, "POST", "/livez", 405, []string{"Allowed here: GET, HEAD"}},
		{"metrics are the engine's", "serving", nil, "GET", "/metrics", 200, []string{"sluice_ready 1"}},
		{"HEAD is GET without a body", "serving", nil, "HEAD", "/status", 200, nil},
		{"the limits, and how full their table is", "serving", nil, "GET", "/limits", 200,
			[]string{`"name":"two"`, `"key":["ip","route"]`, `"refused":7`, `"table":{"capacity":1024,"live":3`, `"store":{"up":false,"asked":12`}},
		{"the limits are not to be changed", "serving", nil, "DELETE", "/limits", 405, []string{"Allowed here: GET, HEAD"}},
		{"a bucket", "serving", nil, "GET", "/limits/two?key=192.0.2.1&key=all", 200,
			[]string{`"limit":"two"`, `"key":["192.0.2.1","all"]`, `"buckets":[{"rate":"5/h","limit":5,"remaining":2,"reset_seconds":2160}]`}},
		{"a bucket that is full", "serving", nil, "GET", "/limits/two?key=192.0.2.1&key=quiet", 200, []string{`"buckets":[]`}},
		{"values may have escapes, and be empty", "serving", nil, "GET", "/limits/two?key=a%20%26%2Bb&key=", 200, []string{`"key":["a \u0026+b",""]`}},
		{"a bucket is filled", "serving", nil, "DELETE", "/limits/two?key=192.0.2.1&key=all", 200, []string{`"limit":"two"`, `"reset":1}`}},
		{"an unknown limit", "serving", nil, "GET", "/limits/three?key=a", 404, []string{`"reason":"no_limit"`, `There is no limit \"three\".`}},
		{"... has no bucket to fill", "serving", nil, "DELETE", "/limits/three", 404, []string{`"reason":"no_limit"`}},
		{"a limit whose store is away", "serving", nil, "GET", "/limits/away", 503, []string{`"reason":"limit_store_unavailable"`}},
		{"... cannot be reset", "serving", nil, "DELETE", "/limits/away", 503, []string{`"reason":"limit_store_unavailable"`}},
		{"a key of another limit", "serving", nil, "GET", "/limits/two?key=a", 400, []string{`"reason":"bad_limit_key"`, "want 2 values: ip, route"}},
		{"... fills nothing", "serving", nil, "DELETE", "/limits/two?key=a", 400, []string{`"reason":"bad_limit_key"`}},
		{"a parameter that is misspelt", "serving", nil, "DELETE", "/limits/two?keys=a&key=b&key=c", 400, []string{`there is no parameter \"keys\"`}},
		{"a query that is none", "serving", nil, "DELETE", "/limits/two?key=%zz&key=a&key=b", 400, []string{"cannot read the query"}},
		{"what else a limit can do", "serving", nil, "POST", "/limits/two?key=a&key=b", 405, []string{"Allowed here: GET, HEAD, DELETE"}},
		{"a limit without a name", "serving", nil, "GET", "/limits/", 404, []string{`"reason":"not_found"`}},
		{"nothing lies below a limit", "serving", nil, "GET", "/limits/two/three", 404, []string{`"reason":"not_found"`}},
		{"what would become of a request", "serving", nil, "GET", "/explain?method=PUT&url=/a%3Fb&header=A:+1&header=B:+2&body_size=7&client=192.0.2.1", 200,
			[]string{`"method":"PUT"`, `"path":"/a?b"`, `"client":"192.0.2.1"`, `"provided":["A: 1","B: 2"]`, `"query":"7"`}},
		{"... of one from where the question comes", "serving", nil, "GET", "/explain?method=GET&url=/", 200, []string{`"client":"127.0.0.1"`}},
		{"... of one that nobody could send", "serving", nil, "GET", "/explain?method=GET", 400, []string{`"reason":"bad_request"`, "it names no host"}},
		{"... with an address that is none", "serving", nil, "GET", "/explain?url=/&client=me", 400, []string{"cannot read client"}},
		{"... with less than no body", "serving", nil, "GET", "/explain?url=/&body_size=-1", 400, []string{"cannot read body_size"}},
		{"... with two methods", "serving", nil, "GET", "/explain?url=/&method=GET&method=PUT", 400, []string{"method is there 2 times"}},
		{"... with a word that means nothing", "serving", nil, "GET", "/explain?url=/&verb=GET", 400, []string{`there is no parameter \"verb\"`}},
		{"... with a query that is none", "serving", nil, "GET", "/explain?url=%zz", 400, []string{"cannot read the query"}},
		{"to explain changes nothing", "serving", nil, "POST", "/explain?url=/", 405, []string{"Allowed here: GET, HEAD"}},
		{"a stream has no body for HEAD", "serving", nil, "HEAD", "/events", 200, nil},
		{"the page", "serving", nil, "GET", "/", 200, []string{"<title>Sluice</title>"}},
		{"the page's scripts", "serving", nil, "GET", "/page/main.js", 200, []string{"import "}},
		{"... are not to be changed", "serving", nil, "PUT", "/page/main.js", 405, []string{"Allowed here: GET, HEAD"}},
		{"there is nothing beside them", "serving", nil, "GET", "/page/none.js", 404, []string{`"reason":"not_found"`}},
		{"... nor above", "serving", nil, "GET", "/page/../page.go", 404, []string{`"reason":"not_found"`}},
		{"a folder is no file", "serving", nil, "GET", "/page/uplot", 404, []string{`"reason":"not_found"`}},
		{"paths are exact", "serving", nil, "GET", "/status/", 404, []string{`"reason":"not_found"`}},
	}
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			l := listen(t, "tcp", "127.0.0.1:0")
			serve(t, &fakeGateway{state: test.state, reloadErr: test.reloadErr}, l)
			response, body := ask(t, l, request{method: test.method, path: test.path})
			if response.StatusCode != test.status {
				t.Fatalf("status %d, want %d: %s", response.StatusCode, test.status, body)
			}
			for _, want := range test.body {
				if !strings.Contains(string(body), want) {
					t.Errorf("body %q lacks %q", body, want)
				}
			}
			checkHeaders(t, response, body)
		})
	}
}

// checkHeaders holds what is true of every answer.
func checkHeaders(t *testing.T, response *http.Response, body []byte) {
	t.Helper()
	h := response.Header
	if h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers %v lack no-store or nosniff", h)
	}
	if response.StatusCode < 400 {
		return
	}
	var p problem
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&p); err != nil || p.Status != response.StatusCode || p.Detail == "" {
		t.Errorf("%q is no problem of status %d (%v)", body, response.StatusCode, err)
	}
	if h.Get("Content-Type") != "application/problem+json" {
		t.Errorf("Content-Type %q", h.Get("Content-Type"))
	}
	if (response.StatusCode == 405) != (h.Get("Allow") != "") {
		t.Errorf("status %d with Allow %q", response.StatusCode, h.Get("Allow"))
	}
	if (response.StatusCode == 401) != (h.Get("WWW-Authenticate") != "") {
		t.Errorf("status %d with WWW-Authenticate %q", response.StatusCode, h.Get("WWW-Authenticate"))
	}
}

func TestWhoMayAsk(t *testing.T) {
	bearer := func(token string) []string { return []string{"Authorization: Bearer " + token} }
	tests := []struct {
		intent  string
		network string // of the listener
		address string
		token   string
		request request
		status  int
	}{
		{"a token opens the door", "tcp", "127.0.0.1:0", "secret", request{"POST", "/drain", "", bearer("secret")}, 202},
		{"the scheme may be in any case", "tcp", "127.0.0.1:0", "secret", request{"POST", "/drain", "", []string{"Authorization: bearer secret"}}, 202},
		{"with a token, any Host will do", "tcp", "127.0.0.1:0", "secret", request{"GET", "/status", "gw.example.com", bearer("secret")}, 200},
		{"no token", "tcp", "127.0.0.1:0", "secret", request{"GET", "/status", "", nil}, 401},
		{"metrics need it too", "tcp", "127.0.0.1:0", "secret", request{"GET", "/metrics", "", nil}, 401},
		{"another token", "tcp", "127.0.0.1:0", "secret", request{"GET", "/status", "", bearer("Secret")}, 401},
		{"the beginning of the token", "tcp", "127.0.0.1:0", "secret", request{"GET", "/status", "", bearer("secre")}, 401},
		{"another scheme", "tcp", "127.0.0.1:0", "secret", request{"GET", "/status", "", []string{"Authorization: Basic secret"}}, 401},
		{"a token is needed on a unix socket too", "unix", "", "secret", request{"GET", "/status", "", nil}, 401},
		{"what exists is nobody else's business", "tcp", "127.0.0.1:0", "secret", request{"GET", "/nothing", "", nil}, 401},
		{"probes have no token", "tcp", "127.0.0.1:0", "secret", request{"GET", "/livez", "", nil}, 200},
		{"and come by whatever name", "tcp", "127.0.0.1:0", "", request{"GET", "/readyz", "gw.example.com", nil}, 200},

		{"the page has no token, and no data", "tcp", "127.0.0.1:0", "secret", request{"GET", "/", "gw.example.com", nil}, 200},
		{"nor have its files", "tcp", "127.0.0.1:0", "secret", request{"GET", "/page/style.css", "", nil}, 200},
		{"what it shows wants the token", "tcp", "127.0.0.1:0", "secret", request{"GET", "/events", "", nil}, 401},
		{"so does what it explains", "tcp", "127.0.0.1:0", "secret", request{"GET", "/explain?url=/", "", nil}, 401},
		{"the stream by a name that was made to lead here", "tcp", "127.0.0.1:0", "", request{"GET", "/events", "evil.example.com", nil}, 403},

		{"curl on the machine", "tcp", "127.0.0.1:0", "", request{"POST", "/drain", "127.0.0.1:9901", nil}, 202},
		{"curl over IPv6", "tcp", "127.0.0.1:0", "", request{"POST", "/drain", "[::1]:9901", nil}, 202},
		{"localhost by any port", "tcp", "127.0.0.1:0", "", request{"POST", "/drain", "LocalHost:9901", nil}, 202},
		{"a name that was made to lead here (DNS rebinding)", "tcp", "127.0.0.1:0", "", request{"GET", "/status", "evil.example.com:9901", nil}, 403},
		{"a name that only looks like localhost", "tcp", "127.0.0.1:0", "", request{"GET", "/status", "localhost.evil.example", nil}, 403},
		{"a browser's form on another site", "tcp", "127.0.0.1:0", "", request{"POST", "/drain", "127.0.0.1", []string{"Origin: https://evil.example"}}, 403},
		{"the same, as newer browsers say it", "tcp", "127.0.0.1:0", "", request{"POST", "/drain", "127.0.0.1", []string{"Sec-Fetch-Site: cross-site"}}, 403},
		{"a page that hides its origin", "tcp", "127.0.0.1:0", "", request{"POST", "/drain", "127.0.0.1", []string{"Origin: null"}}, 403},
		{"our own page", "tcp", "127.0.0.1:0", "", request{"POST", "/drain", "127.0.0.1", []string{"Sec-Fetch-Site: same-origin"}}, 202},
		{"another site's script that would take a watcher's place", "tcp", "127.0.0.1:0", "", request{"GET", "/events", "127.0.0.1", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: empty"}}, 403},
		{"... or have the metrics made over and over", "tcp", "127.0.0.1:0", "", request{"GET", "/metrics", "localhost", []string{"Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"}}, 403},
		{"... in a frame", "tcp", "127.0.0.1:0", "", request{"GET", "/status", "127.0.0.1", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"}}, 403},
		{"a link on another site", "tcp", "127.0.0.1:0", "", request{"GET", "/status", "127.0.0.1", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}}, 200},
		{"an address that was typed", "tcp", "127.0.0.1:0", "", request{"GET", "/status", "127.0.0.1", []string{"Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}}, 200},
		{"a reset wants the token too", "tcp", "127.0.0.1:0", "secret", request{"DELETE", "/limits/two?key=a&key=b", "", nil}, 401},
		{"so does a look at the limits", "tcp", "127.0.0.1:0", "secret", request{"GET", "/limits", "", nil}, 401},
		{"a limit that does not exist is nobody's business either", "tcp", "127.0.0.1:0", "secret", request{"GET", "/limits/three", "", nil}, 401},
		{"a reset from another site", "tcp", "127.0.0.1:0", "", request{"DELETE", "/limits/two?key=a&key=b", "127.0.0.1", []string{"Origin: https://evil.example"}}, 403},
		{"a reset by a name that was made to lead here", "tcp", "127.0.0.1:0", "", request{"DELETE", "/limits/two?key=a&key=b", "evil.example.com", nil}, 403},
		{"a revocation wants the token too", "tcp", "127.0.0.1:0", "secret", request{"POST", "/revocations", "", nil}, 401},
		{"so does a look at them", "tcp", "127.0.0.1:0", "secret", request{"GET", "/revocations", "", nil}, 401},
		{"a revocation from another site", "tcp", "127.0.0.1:0", "", request{"POST", "/revocations", "127.0.0.1", []string{"Origin: https://evil.example"}}, 403},
		{"a revocation by a name that was made to lead here", "tcp", "127.0.0.1:0", "", request{"POST", "/revocations", "evil.example.com", nil}, 403},
		{"no browser reaches a unix socket", "unix", "", "", request{"POST", "/drain", "sluice", nil}, 202},
	}
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			if test.network == "unix" {
				test.address = filepath.Join(t.TempDir(), "admin.sock")
			}
			l := listen(t, test.network, test.address)
			g := &fakeGateway{state: "serving", token: test.token}
			serve(t, g, l)
			response, body := ask(t, l, test.request)
			if response.StatusCode != test.status {
				t.Fatalf("status %d, want %d: %s", response.StatusCode, test.status, body)
			}
			checkHeaders(t, response, body)
			if g.resets.Load() > 0 || g.revokes.Load() > 0 {
				t.Error("a bucket was filled, or something revoked")
			}
			if acted := g.drains.Load() > 0; acted != (test.status == 202) {
				t.Errorf("drained: %v, with status %d", acted, test.status)
			}
		})
	}
}
