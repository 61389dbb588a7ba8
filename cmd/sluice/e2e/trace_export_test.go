package e2e

import (
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// traceReceiver takes spans as OTLP over HTTP has them.
type traceReceiver struct {
	mu            sync.Mutex
	spans         map[string]int // by trace
	authorization string
}

// startTraceReceiver listens on an address that was free before.
func startTraceReceiver(t *testing.T, address string) *traceReceiver {
	t.Helper()
	r := &traceReceiver{spans: map[string]int{}}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(r.take))
	server.Listener.Close()
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	return r
}

func (r *traceReceiver) take(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	var message collector.ExportTraceServiceRequest
	if err != nil || proto.Unmarshal(body, &message) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.authorization = request.Header.Get("Authorization")
	for _, resource := range message.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				r.spans[hex.EncodeToString(span.TraceId)]++
			}
		}
	}
}

func (r *traceReceiver) of(trace string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.spans[trace]
}

func (r *traceReceiver) shown() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.authorization
}

// TestTraceReceiverIsDown: requests do not notice; the operator is told once, and once more when it is over. What
// is left at the end is sent.
func TestTraceReceiverIsDown(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	address := freeAddress(t)
	g := startGateway(t, "[log]\naccess = \"$DIR/access.log\"\n[tracing]\nsample = 1\notlp_endpoint = \"http://"+address+"\"\n"+public(up.url()), "OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20t")
	ask := func() string {
		t.Helper()
		_, r := g.exchange(t, "GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		if r.status != 200 {
			t.Errorf("status %d", r.status)
		}
		return r.fields.get("X-Trace-ID")
	}
	failed := func() float64 { return total(g.scrape(t), "sluice_trace_spans_total", "result=failed") }
	for range 2 { // two batches that fail
		before := failed()
		ask()
		eventually(t, "spans are counted as failed", func() bool { return failed() == before+2 })
	}
	g.says(t, "traces cannot be exported")
	if n := strings.Count(g.log.String(), "traces cannot be exported"); n != 1 {
		t.Errorf("that the receiver is down was logged %d times", n)
	}

	receiver := startTraceReceiver(t, address)
	trace := ask()
	eventually(t, "spans come", func() bool { return receiver.of(trace) == 2 })
	eventually(t, "that is logged", func() bool { return strings.Contains(g.log.String(), "exported again") })
	if shown := receiver.shown(); shown != "Bearer t" {
		t.Errorf("the receiver is shown %q", shown)
	}

	trace = ask()
	g.signal(syscall.SIGTERM)
	if code := g.wait(); code != 0 || receiver.of(trace) != 2 {
		t.Errorf("at the end %d spans came, exit %d", receiver.of(trace), code)
	}
	lines := g.accessLines(t, "access.log")
	if last := lines[len(lines)-1]; last.TraceID != trace {
		t.Errorf("the access log tells of trace %q, the client was told %q", last.TraceID, trace)
	}
}
