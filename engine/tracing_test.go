package engine

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"testing"
	"time"

	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
)

// TestSpansOfARequest follows one request that authenticates, meets a target that is down and one that answers.
func TestSpansOfARequest(t *testing.T) {
	receiver := newSpanReceiver(t)
	down, downParents := parentsOf(t, "")
	up, upParents := parentsOf(t, "ok")
	tables, key, _ := credentials(t, up)
	tables += fmt.Sprintf(`
[upstream.pair]
targets = ["http://%s", "http://%s"]
balance = "round_robin"
[[route]]
name   = "pair"
path   = "/pair/*"
strip_prefix = true
auth   = ["keys"]
to     = "pair"
`, down, up)
	g := startGateway(t, tables+tracingTable(receiver.URL, 0))
	client := dial(t, g.address)
	const id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	ask := func() {
		client.ask(t, "GET /pair/a%20b?token=secret", "Host: api.example.com:8080", "X-API-Key: "+key, "Cookie: session=1", "User-Agent: test/1.0\xff",
			"traceparent: 00-"+id+"-"+parent+"-01", "tracestate: vendor=1").expect(t, 200)
	}
	ask()
	for len(downParents) == 0 { // the first target may have been the one that is up
		ask()
	}
	client.Close()
	waitForClients(t, g)

	spans := receiver.flushed(g)
	if len(spans) < 4 {
		t.Fatalf("%d spans", len(spans))
	}
	server := spans[slices.IndexFunc(spans, func(s *otlp.Span) bool {
		return s.Kind == otlp.Span_SPAN_KIND_SERVER && childrenOf(spans, s) == 3
	})]
	var children []*otlp.Span
	for _, s := range spans {
		if string(s.ParentSpanId) == string(server.SpanId) {
			children = append(children, s)
		}
	}
	for _, s := range append(children, server) {
		if hex.EncodeToString(s.TraceId) != id || s.TraceState != "vendor=1" || s.StartTimeUnixNano > s.EndTimeUnixNano ||
			s.StartTimeUnixNano < server.StartTimeUnixNano || s.EndTimeUnixNano > server.EndTimeUnixNano {
			t.Errorf("span %v", s)
		}
	}
	if server.Name != "GET /pair/*" || hex.EncodeToString(server.ParentSpanId) != parent || server.Status.GetCode() != otlp.Status_STATUS_CODE_UNSET {
		t.Errorf("server span %v", server)
	}
	has(t, server, map[string]any{
		"http.request.method": "GET", "http.route": "/pair/*", "url.path": "/pair/a%20b", "url.query": nil, "url.scheme": "http",
		"server.address": "api.example.com", "server.port": int64(8080), "client.address": "127.0.0.1", "network.peer.address": "127.0.0.1",
		"http.response.status_code": int64(200), "network.protocol.version": "1.1", "user_agent.original": "test/1.0\uFFFD",
		"sluice.route": "pair", "sluice.tier": "gold", "error.type": nil,
	})
	authenticate, first, second := children[0], children[1], children[2]
	if authenticate.Name != "authenticate" || first.Name != "GET" || second.Name != "GET" || first.Kind != otlp.Span_SPAN_KIND_CLIENT {
		t.Errorf("children %q %q %q", authenticate.Name, first.Name, second.Name)
	}
	host, port, _ := net.SplitHostPort(down)
	has(t, first, map[string]any{
		"http.request.method": "GET", "server.address": host, "url.full": "http://" + down + "/a%20b", "error.type": "upstream_reset",
		"http.request.resend_count": nil, "http.response.status_code": nil, "sluice.upstream": "pair",
	})
	if got := attributes(first.Attributes)["server.port"]; fmt.Sprint(got) != port {
		t.Errorf("port %v, want %s", got, port)
	}
	has(t, second, map[string]any{"url.full": "http://" + up + "/a%20b", "error.type": nil, "http.request.resend_count": int64(1), "http.response.status_code": int64(200)})
	if first.Status.GetCode() != otlp.Status_STATUS_CODE_ERROR || second.Status.GetCode() != otlp.Status_STATUS_CODE_UNSET {
		t.Errorf("statuses %v, %v", first.Status, second.Status)
	}
	if told := <-downParents; told != "00-"+id+"-"+hex.EncodeToString(first.SpanId)+"-01" {
		t.Errorf("the first target was told %s", told)
	}
	told := ""
	for len(upParents) > 0 {
		told = <-upParents
	}
	if told != "00-"+id+"-"+hex.EncodeToString(second.SpanId)+"-01" {
		t.Errorf("the second target was told %s", told)
	}
	for _, secret := range []string{key, "secret", "session="} {
		if bytes.Contains(receiver.raw, []byte(secret)) {
			t.Errorf("the receiver is told %q", secret)
		}
	}
	if receiver.resource["service.name"] != "sluice" || receiver.resource["service.version"] != "test" {
		t.Errorf("the source is %v", receiver.resource)
	}
	families := scraped(t, g.Metrics())
	if n := sum(families, "sluice_trace_spans_total", "result=exported"); n != float64(len(spans)) {
		t.Errorf("%v spans are counted, %d came", n, len(spans))
	}
}

func childrenOf(spans []*otlp.Span, parent *otlp.Span) (n int) {
	for _, s := range spans {
		if string(s.ParentSpanId) == string(parent.SpanId) {
			n++
		}
	}
	return n
}

// TestSpansOfRefusals: what the gateway answers itself has a span too, and only its own failures are errors.
func TestSpansOfRefusals(t *testing.T) {
	receiver := newSpanReceiver(t)
	up, _ := parentsOf(t, "503")
	g := startGateway(t, limitTable("tight", "rate = \"1/d\"\nkey = [\"ip\"]")+limitTable("paced", "algorithm = \"leaky_bucket\"\nrate = \"2/s\"\nburst = 5")+
		publicRoute(up)+`
[[route]]
name = "limited"
path = "/limited"
auth = ["none"]
limits = ["tight"]
to = "origin"
[[route]]
name = "paced"
path = "/paced"
auth = ["none"]
limits = ["paced"]
to = "origin"
[[route]]
name = "nowhere"
path = "/nowhere"
auth = ["none"]
to = "gone"
[upstream.gone]
targets = ["http://`+freeAddress(t)+`"]
`+tracingTable(receiver.URL, 1))
	type want struct {
		line, name string
		status     int
		error      string // error.type of the server span
		reason     string
		children   []string
	}
	cases := []want{
		{"GET /x", "GET /*", 503, "503", "", []string{"GET"}},
		{"BREW /x", "HTTP /*", 503, "503", "", []string{"HTTP"}},
		{"GET /%zz", "GET", 400, "", "bad_path", nil},
		{"GET /limited", "GET /limited", 503, "503", "", []string{"GET"}},
		{"GET /limited", "GET /limited", 429, "", "rate_limited", nil},
		{"GET /nowhere", "GET /nowhere", 502, "upstream_connect", "upstream_connect", []string{"GET", "GET"}},
		{"GET /paced", "GET /paced", 503, "503", "", []string{"GET"}},
		{"GET /paced", "GET /paced", 503, "503", "", []string{"queue", "GET"}},
	}
	client := dial(t, g.address)
	var ids []string
	for _, c := range cases {
		a := client.ask(t, c.line, "Host: h")
		a.expect(t, c.status)
		ids = append(ids, a.fields.Get("X-Trace-ID"))
		if c.status == 400 {
			client = dial(t, g.address)
		}
	}
	client.Close()
	waitForClients(t, g)
	spans := receiver.flushed(g)
	for i, c := range cases {
		var server *otlp.Span
		var children []string
		for _, s := range spans {
			if hex.EncodeToString(s.TraceId) != ids[i] {
				continue
			}
			if s.Kind == otlp.Span_SPAN_KIND_SERVER {
				server = s
			} else {
				children = append(children, s.Name)
			}
		}
		if server == nil || server.Name != c.name || len(server.ParentSpanId) != 0 || !slices.Equal(children, c.children) {
			t.Errorf("%s: %v with %q", c.line, server, children)
			continue
		}
		if isError := server.Status.GetCode() == otlp.Status_STATUS_CODE_ERROR; isError != (c.status >= 500) {
			t.Errorf("%s: status %v", c.line, server.Status)
		}
		wanted := map[string]any{"http.response.status_code": int64(c.status), "error.type": nil, "sluice.reason": nil}
		if c.error != "" {
			wanted["error.type"] = c.error
		}
		if c.reason != "" {
			wanted["sluice.reason"] = c.reason
		}
		has(t, server, wanted)
	}
}

// waitForClients waits until no connection is open: all exchanges are over then.
func waitForClients(t testing.TB, g *gateway) {
	t.Helper()
	if err := g.waitForClients(t.Context(), 10*time.Second); err != nil {
		t.Fatal(err)
	}
}

// TestReceiverChanges: a reload sends spans to another receiver, and what the first was owed still gets there.
func TestReceiverChanges(t *testing.T) {
	first, second := newSpanReceiver(t), newSpanReceiver(t)
	up, _ := parentsOf(t, "ok")
	g := startGateway(t, publicRoute(up)+tracingTable(first.URL, 1))
	client := dial(t, g.address)
	old := g.snapshot.Load().tracing.tracer
	client.ask(t, "GET /", "Host: h").expect(t, 200)
	client.ask(t, "GET /", "Host: h").expect(t, 200) // the first is over

	g.write(t, publicRoute(up)+tracingTable(first.URL, 0))
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	if g.snapshot.Load().tracing.tracer != old {
		t.Error("another share makes another tracer")
	}
	client.ask(t, "GET /", "Host: h").expect(t, 200)
	client.ask(t, "GET /", "Host: h").expect(t, 200)

	g.write(t, publicRoute(up)+tracingTable(second.URL, 1))
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	client.ask(t, "GET /", "Host: h").expect(t, 200)
	client.Close()
	waitForClients(t, g)
	if n := len(second.flushed(g)); n != 2 {
		t.Errorf("the second receiver got %d spans, want 2", n)
	}
	g.Drain(t.Context()) // waits for the first one's tracer
	first.mu.Lock()
	defer first.mu.Unlock()
	if len(first.spans) != 4 {
		t.Errorf("the first receiver got %d spans, want 4", len(first.spans))
	}
}

// TestSpansOfWaits: an answer that is passed over is an attempt that failed, and waiting for room is told.
func TestSpansOfWaits(t *testing.T) {
	receiver := newSpanReceiver(t)
	sick, _ := parentsOf(t, "503")
	well, _ := parentsOf(t, "ok")
	entered, release := make(chan struct{}), make(chan struct{})
	narrow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-release
	}))
	t.Cleanup(narrow.Close)
	g := startGateway(t, tracingTable(receiver.URL, 1)+fmt.Sprintf(`
[upstream.pair]
targets = ["http://%s", "http://%s"]
balance = "round_robin"
[upstream.narrow]
targets = [%q]
max_in_flight = 1
timeouts = { connect = "10s" }
[[route]]
name = "pair"
path = "/pair"
auth = ["none"]
to   = "pair"
[[route]]
name = "narrow"
path = "/narrow"
auth = ["none"]
to   = "narrow"
`, sick, well, narrow.URL))
	client := dial(t, g.address)
	var ids []string
	for range 2 { // one of them begins with the sick target
		ids = append(ids, client.ask(t, "GET /pair", "Host: h").expect(t, 200).fields.Get("X-Trace-ID"))
	}
	second := dial(t, g.address)
	done := make(chan *answer)
	go func() {
		a, _ := client.try("GET /narrow", "Host: h")
		done <- a
	}()
	<-entered
	go func() {
		a, _ := second.try("GET /narrow", "Host: h")
		done <- a
	}()
	for g.Status(time.Now()).Upstreams[0].Waiting == 0 {
		runtime.Gosched()
	}
	close(release)
	<-entered
	for range 2 {
		ids = append(ids, (<-done).expect(t, 200).fields.Get("X-Trace-ID"))
	}
	client.Close()
	second.Close()
	waitForClients(t, g)

	var ways []string
	spans := receiver.flushed(g)
	for _, id := range ids {
		way := ""
		for _, s := range spans {
			if s.Kind != otlp.Span_SPAN_KIND_SERVER && hex.EncodeToString(s.TraceId) == id {
				way += fmt.Sprint(s.Name, " ", attributes(s.Attributes)["http.response.status_code"], ", ")
			}
		}
		ways = append(ways, way)
	}
	slices.Sort(ways)
	want := []string{"GET 200, ", "GET 200, ", "GET 503, GET 200, ", "room <nil>, GET 200, "}
	if !slices.Equal(ways, want) {
		t.Errorf("attempts %q, want %q", ways, want)
	}
}
