package e2e

import (
	"slices"
	"strings"
	"testing"
)

const (
	callersTrace = "0af7651916cd43dd8448eb211c80319c"
	callersSpan  = "b7ad6b7169203331"
)

// TestTraceContext: what a target is told of the trace, and that target and client are told the same id.
func TestTraceContext(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, "[tracing]\nsample = 0\n"+public(up.url())+`
[[route]]
name = "alone"
path = "/alone"
auth = ["none"]
to   = "a"
request_headers = { remove = ["traceparent"] }
`)
	parent := "traceparent: 00-" + callersTrace + "-" + callersSpan + "-"
	for _, c := range []struct {
		intent string
		path   string
		sent   []string
		trace  string   // empty: a new one
		want   []string // lines, with SPAN for a span of the gateway's; others about traces may not come
	}{
		{"a new trace", "/x", nil, "", []string{"traceparent: 00-TRACE-SPAN-00"}},
		{"joined, with all that belongs to it", "/x",
			[]string{parent + "01", "tracestate: a=1", "tracestate: b=2", "baggage: user=ada"}, callersTrace,
			[]string{"traceparent: 00-TRACE-SPAN-01", "tracestate: a=1\r\ntracestate: b=2", "baggage: user=ada"}},
		{"not sampled stays so", "/x", []string{parent + "00"}, callersTrace, []string{"traceparent: 00-TRACE-SPAN-00"}},
		{"a state that belongs to nothing", "/x", []string{"tracestate: a=1"}, "", []string{"traceparent: 00-TRACE-SPAN-00"}},
		{"a state that is none", "/x", []string{parent + "00", "tracestate: a=1,b"}, callersTrace, []string{"traceparent: 00-TRACE-SPAN-00"}},
		{"two parents", "/x", []string{parent + "00", parent + "00", "tracestate: a=1"}, "", []string{"traceparent: 00-TRACE-SPAN-00"}},
		{"a trace id that the client made up", "/x", []string{"X-Trace-ID: mine", "x-trace-id: mine"}, "", []string{"traceparent: 00-TRACE-SPAN-00"}},
		{"an underscore", "/x", []string{"trace_parent: x", "X_Trace_ID: mine"}, "", []string{"traceparent: 00-TRACE-SPAN-00"}},
		{"B3", "/x", []string{"b3: " + callersTrace + "-" + callersSpan + "-1", "X-B3-ParentSpanId: " + callersSpan}, callersTrace,
			[]string{"traceparent: 00-TRACE-SPAN-01", "b3: TRACE-SPAN-1", "X-B3-TraceId: TRACE", "X-B3-SpanId: SPAN", "X-B3-Sampled: 1"}},
		{"a route whose targets are not told", "/alone", []string{parent + "01", "tracestate: a=1", "b3: 1"}, callersTrace, nil},
	} {
		t.Run(c.intent, func(t *testing.T) {
			up.take()
			_, r := g.exchange(t, "GET "+c.path+" HTTP/1.1\r\nHost: h\r\n"+strings.Join(append(slices.Clone(c.sent), "", ""), "\r\n"))
			got := up.one(t)
			id := got.fields.get("X-Trace-ID")
			if len(id) != 32 || id != r.fields.get("X-Trace-ID") || (id == callersTrace) != (c.trace != "") {
				t.Errorf("the target is told of %q, the client of %q", id, r.fields.get("X-Trace-ID"))
			}
			span := ""
			if parts := strings.Split(got.fields.get("traceparent"), "-"); len(parts) == 4 {
				span = parts[2]
			}
			if span == callersSpan {
				t.Error("the target is told to be the client's child")
			}
			count := 0
			for _, line := range c.want {
				line = strings.NewReplacer("TRACE", id, "SPAN", span).Replace(line)
				if !got.has(line) {
					t.Errorf("the target was not told %q", line)
				}
				count += strings.Count(line, "\r\n") + 1
			}
			for _, f := range got.fields {
				if name := strings.ToLower(f.name); strings.HasPrefix(name, "trace") || strings.Contains(name, "b3") || name == "baggage" {
					count--
				}
			}
			if count != 0 || t.Failed() {
				t.Errorf("the target got\n%s", got.raw)
			}
		})
	}

	t.Run("a request that is refused", func(t *testing.T) {
		_, r := g.exchange(t, "GET /%zz HTTP/1.1\r\nHost: h\r\n"+parent+"00\r\n\r\n")
		if r.expectProblem(t, 400, "bad_path"); r.fields.get("X-Trace-ID") != callersTrace {
			t.Errorf("it is told of trace %q", r.fields.get("X-Trace-ID"))
		}
	})
	t.Run("a head that is no head", func(t *testing.T) {
		_, r := g.exchange(t, "GET /x HTTP/1.1\r\nHost : h\r\n\r\n")
		if r.expectProblem(t, 400, "bad_request"); len(r.fields.get("X-Trace-ID")) != 32 {
			t.Errorf("it is told of trace %q", r.fields.get("X-Trace-ID"))
		}
	})
}

// TestTraceHeader: its name is the configuration's, and an empty one is none.
func TestTraceHeader(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	for name, key := range map[string]string{"X-Other": `trace_header = "X-Other"`, "": `trace_header = ""`} {
		g := startGateway(t, "[tracing]\n"+key+"\n"+public(up.url()))
		up.take()
		_, r := g.exchange(t, "GET /x HTTP/1.1\r\nHost: h\r\nX-Trace-ID: a header like others\r\n\r\n")
		got := up.one(t)
		if got.fields.get("X-Trace-ID") != "a header like others" || r.fields.has("X-Trace-ID") {
			t.Errorf("%s: the target got %q, the client %q", key, got.fields.get("X-Trace-ID"), r.fields.get("X-Trace-ID"))
		}
		if name != "" && (len(got.fields.get(name)) != 32 || got.fields.get(name) != r.fields.get(name)) {
			t.Errorf("%s: the target got %q, the client %q", key, got.fields.get(name), r.fields.get(name))
		}
	}
}
