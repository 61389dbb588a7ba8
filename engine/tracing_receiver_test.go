package engine

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// spanReceiver takes spans as OTLP over HTTP has them.
type spanReceiver struct {
	*httptest.Server
	mu       sync.Mutex
	raw      []byte // all that came
	spans    []*otlp.Span
	resource map[string]any
}

func newSpanReceiver(t testing.TB) *spanReceiver {
	r := &spanReceiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		var message collector.ExportTraceServiceRequest
		if err != nil || request.Method != "POST" || request.URL.Path != "/v1/traces" ||
			request.Header.Get("Content-Type") != "application/x-protobuf" || proto.Unmarshal(body, &message) != nil {
			t.Errorf("%s %s: no spans in %q, %v", request.Method, request.URL, body, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.raw = append(r.raw, body...)
		for _, resource := range message.ResourceSpans {
			r.resource = attributes(resource.Resource.Attributes)
			for _, scope := range resource.ScopeSpans {
				r.spans = append(r.spans, scope.Spans...)
			}
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func attributes(pairs []*common.KeyValue) map[string]any {
	all := map[string]any{}
	for _, p := range pairs {
		switch v := p.Value.Value.(type) {
		case *common.AnyValue_StringValue:
			all[p.Key] = v.StringValue
		case *common.AnyValue_IntValue:
			all[p.Key] = v.IntValue
		default:
			all[p.Key] = v
		}
	}
	return all
}

// flushed is the spans that came once the engine has sent all it has, parents before their children, by time. Its
// tracer takes no more.
func (r *spanReceiver) flushed(g *gateway) []*otlp.Span {
	g.snapshot.Load().tracing.tracer.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortStableFunc(r.spans, func(a, b *otlp.Span) int {
		if a.Kind == otlp.Span_SPAN_KIND_SERVER || b.Kind == otlp.Span_SPAN_KIND_SERVER {
			return int(b.Kind&otlp.Span_SPAN_KIND_SERVER) - int(a.Kind&otlp.Span_SPAN_KIND_SERVER)
		}
		return int(a.StartTimeUnixNano) - int(b.StartTimeUnixNano)
	})
	return r.spans
}

// has checks attributes of a span; nil: it may not have that one.
func has(t *testing.T, span *otlp.Span, want map[string]any) {
	t.Helper()
	got := attributes(span.Attributes)
	for key, value := range want {
		if got[key] != value {
			t.Errorf("span %q: %s is %v, want %v", span.Name, key, got[key], value)
		}
	}
}

func tracingTable(endpoint string, sample float64) string {
	return fmt.Sprintf("[tracing]\notlp_endpoint = %q\nsample = %v\n", endpoint, sample)
}

// parentsOf is a server that notes the traceparent of each request it gets and answers it.
func parentsOf(t testing.TB, answer string) (address string, parents chan string) {
	parents = make(chan string, 16)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parents <- r.Header.Get("Traceparent")
		if answer == "" {
			panic(http.ErrAbortHandler)
		}
		if answer == "503" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), parents
}
