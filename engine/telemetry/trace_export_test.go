package telemetry

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// receiver takes spans over HTTP as OTLP has it, and answers with status.
type receiver struct {
	*httptest.Server
	status atomic.Int32
	spans  atomic.Int64 // of the requests answered 200
	block  chan struct{}
}

func newReceiver(t testing.TB) *receiver {
	r := &receiver{block: make(chan struct{})}
	r.status.Store(200)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		var message collector.ExportTraceServiceRequest
		if err != nil || request.URL.Path != "/v1/traces" || proto.Unmarshal(body, &message) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		status := int(r.status.Load())
		if status == 0 {
			select {
			case <-r.block:
			case <-request.Context().Done():
			}
			return
		}
		if status == 200 {
			for _, resource := range message.ResourceSpans {
				for _, scope := range resource.ScopeSpans {
					r.spans.Add(int64(len(scope.Spans)))
				}
			}
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(r.Close)
	return r
}

// logged is a log in memory.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) count(message string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), message)
}

func newTracer(t testing.TB, endpoint string) (*Tracer, *TraceCounts, *logged) {
	log, counts := &logged{}, &TraceCounts{}
	tracer, err := NewTracer(TracerConfig{Endpoint: endpoint, Version: "test", Log: zerolog.New(log), Counts: counts})
	if err != nil {
		t.Fatal(err)
	}
	tracer.Start()
	t.Cleanup(tracer.Close)
	return tracer, counts, log
}

// sampledRequest is a request with one attempt: two spans.
func sampledRequest() (*Record, *Sampled) {
	p := begin("traceparent: " + someParent)
	at := time.Now()
	r := &Record{Time: at, Duration: time.Millisecond, Method: []byte("GET"), Path: []byte("/users/42"), Host: []byte("api.example.com"),
		Status: 200, Protocol: "HTTP/1.1", Attempts: 1, RequestID: []byte("r-1"), Route: newRoute("users", 1)}
	s := &Sampled{Trace: p, Pattern: "/users/*", Target: []byte("/42?q=1"), UserAgent: []byte("test/1.0"), Steps: []Step{
		{Kind: StepAttempt, ID: 7, Begin: at, End: at.Add(time.Millisecond), Upstream: "users", Target: "10.0.0.1:80", Status: 200},
	}}
	return r, s
}

// flushed waits until nothing is pending.
func (t *Tracer) flush(tb testing.TB) {
	tb.Helper()
	if err := t.provider.ForceFlush(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}

// TestEverySpanIsCountedOnce: accepted, refused or dropped, whatever the receiver does; and what it does is logged
// when it changes, not each time.
func TestEverySpanIsCountedOnce(t *testing.T) {
	receiver := newReceiver(t)
	tracer, counts, log := newTracer(t, receiver.URL)
	for round, status := range []int{200, 400, 400, 200, 401, 200} {
		receiver.status.Store(int32(status))
		for range 10 {
			tracer.Export(sampledRequest())
		}
		tracer.flush(t)
		if total := counts.Exported() + counts.Failed() + counts.Dropped(); total != uint64(20*(round+1)) {
			t.Errorf("round %d: %d spans are counted", round, total)
		}
	}
	if counts.Exported() != 60 || counts.Failed() != 60 || counts.Exported() != uint64(receiver.spans.Load()) || tracer.exporter.pending.Load() != 0 {
		t.Errorf("exported %d (%d came), failed %d, %d pending", counts.Exported(), receiver.spans.Load(), counts.Failed(), tracer.exporter.pending.Load())
	}
	if down, up := log.count("cannot be exported"), log.count("exported again"); down != 2 || up != 2 {
		t.Errorf("logged %d times that it failed, %d that it was over:\n%s", down, up, &log.text)
	}
}

// TestReceiverThatHangs: spans beyond the bound are dropped, whole requests at a time, nobody waits, and Close ends
// in its time.
func TestReceiverThatHangs(t *testing.T) {
	receiver := newReceiver(t)
	receiver.status.Store(0)
	tracer, counts, _ := newTracer(t, receiver.URL)
	defer close(receiver.block)
	const requests = mostPendingSpans // twice as many spans as may wait
	for range requests {
		tracer.Export(sampledRequest())
	}
	if counts.Dropped() != requests*2-mostPendingSpans {
		t.Errorf("%d of %d spans are dropped, want all but %d", counts.Dropped(), 2*requests, mostPendingSpans)
	}
	tracer.Close()
	if counts.Failed() != mostPendingSpans || counts.Exported() != 0 {
		t.Errorf("exported %d, failed %d", counts.Exported(), counts.Failed())
	}
	tracer.Export(sampledRequest())
	if total := counts.Failed() + counts.Dropped(); total != requests*2+2 {
		t.Errorf("%d spans are counted, want %d", total, requests*2+2)
	}
}

// TestCloseFlushes: what was made before is sent, also of many goroutines.
func TestCloseFlushes(t *testing.T) {
	receiver := newReceiver(t)
	tracer, counts, _ := newTracer(t, receiver.URL+"/")
	var crowd sync.WaitGroup
	for range 8 {
		crowd.Go(func() {
			for range 20 {
				tracer.Export(sampledRequest())
			}
		})
	}
	crowd.Wait()
	tracer.Close()
	tracer.Close() // does nothing
	if receiver.spans.Load() != 8*20*2 || counts.Exported() != 8*20*2 {
		t.Errorf("%d spans came, %d are counted", receiver.spans.Load(), counts.Exported())
	}
}

func TestTracesURL(t *testing.T) {
	for base, want := range map[string]string{
		"http://h:4318": "http://h:4318/v1/traces", "http://h:4318/": "http://h:4318/v1/traces",
		"https://h/otlp": "https://h/otlp/v1/traces", "https://h/otlp/v1/traces": "https://h/otlp/v1/traces",
	} {
		if got := tracesURL(base); got != want {
			t.Errorf("%s: %s", base, got)
		}
	}
}

// TestHostileRequestsAreEncoded: one span that cannot be encoded would take its whole batch with it.
func TestHostileRequestsAreEncoded(t *testing.T) {
	receiver := newReceiver(t)
	tracer, counts, log := newTracer(t, receiver.URL)
	random := rand.New(rand.NewPCG(5, 6))
	for i := range 200 {
		r, s := sampledRequest()
		junk := make([]byte, random.IntN(3000))
		for j := range junk {
			junk[j] = byte(random.Uint32())
		}
		r.Method, r.Path, r.Host, s.UserAgent, s.Target, r.Tier, s.State = junk, junk, junk, junk, junk, string(junk), junk
		if i%2 == 0 {
			r.Host = []byte(fmt.Sprintf("[::%d]:99999", i))
		}
		tracer.Export(r, s)
	}
	tracer.Close()
	if counts.Exported() != 400 {
		t.Errorf("%d of 400 spans came; %s", counts.Exported(), &log.text)
	}
}

// BenchmarkExport is what a sampled request costs at its end: two spans and what they say.
func BenchmarkExport(b *testing.B) {
	receiver := newReceiver(b)
	tracer, _, _ := newTracer(b, receiver.URL)
	r, s := sampledRequest()
	b.ReportAllocs()
	for b.Loop() {
		tracer.exporter.pending.Store(0) // or most of them would be dropped, which is cheap
		tracer.Export(r, s)
	}
}
