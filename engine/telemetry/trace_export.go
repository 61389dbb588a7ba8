package telemetry

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

const (
	// mostPendingSpans is how many spans wait to be exported, those under way included. Some 2 KB each.
	mostPendingSpans = 2048
	exportBatch      = 512
	exportInterval   = 2 * time.Second
	exportTimeout    = 10 * time.Second
	// longestClose bounds how long Close takes.
	longestClose = 2 * time.Second
	// longestComplaint is how much is logged of what a receiver says.
	longestComplaint = 256
)

// TraceCounts is what became of spans. It outlives tracers, and is safe for concurrent use.
type TraceCounts struct {
	exported, failed, dropped atomic.Uint64
}

// Exported is how many spans a receiver has accepted.
func (c *TraceCounts) Exported() uint64 { return c.exported.Load() }

// Failed is how many spans were sent, or were about to be, and not accepted.
func (c *TraceCounts) Failed() uint64 { return c.failed.Load() }

// Dropped is how many spans were not even kept: too many waited, or the tracer was closed.
func (c *TraceCounts) Dropped() uint64 { return c.dropped.Load() }

// TracerConfig is what a Tracer is made of.
type TracerConfig struct {
	Endpoint string // base URL of an OTLP receiver: spans go to its /v1/traces
	Version  string // of the program
	Log      zerolog.Logger
	Counts   *TraceCounts
}

// Tracer sends the spans of sampled requests to an OTLP receiver, over HTTP, in batches. A receiver that is slow or
// down costs spans, which are counted, and nothing else. The SDK's environment variables hold, where the
// configuration has no word: OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES and others. It is
// safe for concurrent use.
type Tracer struct {
	counts   *TraceCounts
	resource *resource.Resource
	exporter *spanExporter

	start    sync.Once
	provider *sdk.TracerProvider
	tracer   trace.Tracer

	closing sync.RWMutex // held to read while spans are made
	closed  bool
}

// NewTracer makes a tracer. Nothing is sent before Start.
func NewTracer(c TracerConfig) (*Tracer, error) {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConns: 2, IdleConnTimeout: time.Minute,
		TLSHandshakeTimeout: exportTimeout,
	}
	client := &http.Client{
		Transport: transport, Timeout: exportTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	otlp, err := otlptracehttp.New(context.Background(),
		otlptracehttp.WithEndpointURL(tracesURL(c.Endpoint)), otlptracehttp.WithHTTPClient(client),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
			Enabled: true, InitialInterval: 500 * time.Millisecond, MaxInterval: 4 * time.Second, MaxElapsedTime: exportTimeout,
		}))
	if err != nil {
		return nil, fmt.Errorf("cannot export traces: %w", err)
	}
	r, err := resource.New(context.Background(),
		resource.WithAttributes(semconv.ServiceName("sluice"), semconv.ServiceVersion(c.Version)),
		resource.WithHost(), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("cannot describe the source of traces: %w", err)
	}
	x := &spanExporter{SpanExporter: otlp, idle: transport.CloseIdleConnections, counts: c.Counts, log: c.Log, ended: make(chan struct{})}
	x.life, x.abort = context.WithCancel(context.Background())
	return &Tracer{counts: c.Counts, resource: r, exporter: x}, nil
}

// tracesURL is where the receiver at a base URL takes spans.
func tracesURL(base string) string {
	base = strings.TrimRight(base, "/")
	if strings.HasSuffix(base, "/v1/traces") {
		return base
	}
	return base + "/v1/traces"
}

// Start begins to send. Further calls do nothing. Close ends it.
func (t *Tracer) Start() {
	t.start.Do(func() {
		t.provider = sdk.NewTracerProvider(
			sdk.WithSampler(sdk.AlwaysSample()), // who is sampled was decided when the request came
			sdk.WithIDGenerator(givenIDs{}),
			sdk.WithResource(t.resource),
			sdk.WithBatcher(t.exporter,
				// As many spans as are let in at all: the queue has always room.
				sdk.WithMaxQueueSize(mostPendingSpans), sdk.WithMaxExportBatchSize(exportBatch),
				sdk.WithBatchTimeout(exportInterval), sdk.WithExportTimeout(exportTimeout)))
		t.tracer = t.provider.Tracer("github.com/sluice-gateway/sluice", trace.WithSchemaURL(semconv.SchemaURL))
	})
}

// Close sends what waits, for a few seconds at most, and ends what Start began. Spans that come later are dropped.
func (t *Tracer) Close() {
	t.closing.Lock()
	closed := t.closed
	t.closed = true
	t.closing.Unlock()
	if closed || t.provider == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), longestClose)
	defer cancel()
	if t.provider.Shutdown(ctx) != nil {
		t.exporter.abort() // what is left fails at once
	}
	<-t.exporter.ended
}

// spanExporter counts what becomes of spans, says so when it changes, and can be aborted.
type spanExporter struct {
	sdk.SpanExporter
	idle    func() // closes connections
	counts  *TraceCounts
	log     zerolog.Logger
	pending atomic.Int64
	failing atomic.Bool
	life    context.Context
	abort   context.CancelFunc
	ended   chan struct{}
}

// admit says whether there is room for n more spans.
func (x *spanExporter) admit(n int64) bool {
	if x.pending.Add(n) <= mostPendingSpans {
		return true
	}
	x.pending.Add(-n)
	return false
}

// ExportSpans sends a batch. What fails is told here and to nobody else: the SDK would write it to standard error.
func (x *spanExporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(x.life, cancel)()
	err := x.SpanExporter.ExportSpans(ctx, spans)
	x.pending.Add(-int64(len(spans)))
	if err == nil {
		x.counts.exported.Add(uint64(len(spans)))
		if x.failing.CompareAndSwap(true, false) {
			x.log.Info().Msg("traces are exported again")
		}
		return nil
	}
	x.counts.failed.Add(uint64(len(spans)))
	if x.failing.CompareAndSwap(false, true) {
		x.log.Warn().Str("error", clip(err.Error(), longestComplaint)).Msg("traces cannot be exported: spans are lost until they can")
	}
	return nil
}

// Shutdown ends the exporter, after its last batch.
func (x *spanExporter) Shutdown(ctx context.Context) error {
	err := x.SpanExporter.Shutdown(ctx)
	x.idle()
	x.abort()
	close(x.ended)
	return err
}

// givenIDs gives spans the ids that targets were told.
type givenIDs struct{}

// givenID is the key of a context's identity.
type givenID struct{}

// identified is the ids of a span to be.
type identified struct {
	trace trace.TraceID
	span  trace.SpanID
}

// NewIDs implements sdk.IDGenerator.
func (givenIDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	id, ok := ctx.Value(givenID{}).(identified)
	if !ok {
		panic("BUG: a span without an id")
	}
	return id.trace, id.span
}

// NewSpanID implements sdk.IDGenerator.
func (g givenIDs) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	_, span := g.NewIDs(ctx)
	return span
}
