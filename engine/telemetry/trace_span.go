package telemetry

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// What is kept of what clients send.
const (
	longestSpanPath = 1024
	longestAgent    = 256
	longestMethod   = 32
)

// StepKind is what a step of a request's way is.
type StepKind uint8

// The steps that have spans of their own.
const (
	StepAuthenticate StepKind = iota // finding out who the client is
	StepQueue                        // waiting for a turn that a limit gave
	StepRoom                         // waiting until a target had room
	StepAttempt                      // having a target answer
)

// Step is a part of a sampled request's way, with a span of its own.
type Step struct {
	Kind       StepKind
	ID         uint64 // of its span
	Begin, End time.Time

	// Of attempts: what was tried, and what came of it.
	Upstream, Target string // the target as an address, or "unix:" and a path
	TLS              bool
	Status           int    // 0: it was not answered
	Reason           string // why it failed; empty: it did not
}

// Sampled is what a request's record does not tell, and its spans do. Byte slices are lent for the call.
type Sampled struct {
	Trace     *Trace
	State     []byte // its tracestate, on one line
	Pattern   string // the route's path, as configured
	Peer      netip.Addr
	Secure    bool // the client speaks TLS
	UserAgent []byte
	Target    []byte // path and query as targets get them
	Steps     []Step
}

// Export makes the spans of a sampled request that has ended, and has them sent. Either all of them are, or none.
func (t *Tracer) Export(r *Record, s *Sampled) {
	n := int64(1 + len(s.Steps))
	t.closing.RLock()
	defer t.closing.RUnlock()
	if t.closed || !t.exporter.admit(n) {
		t.counts.dropped.Add(uint64(n)) // #nosec G115 -- positive
		return
	}
	id := identified{trace: s.Trace.traceID()}
	id.span = spanID(s.Trace.span())
	ctx := context.Background()
	if s.Trace.joined() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, s.Trace.context(s.State))
	}
	ctx, span := t.begin(ctx, id, spanMethod(r)+withSpace(s.Pattern), r.Time, trace.SpanKindServer, s.attributes(r))
	sent := 0
	for i := range s.Steps {
		if s.Steps[i].Kind == StepAttempt {
			sent++
		}
		t.step(ctx, id, r, s, &s.Steps[i], sent-1)
	}
	if r.Status >= 500 {
		span.SetStatus(codes.Error, "")
	}
	span.End(trace.WithTimestamp(r.Time.Add(r.Duration)))
}

func (t *Tracer) begin(
	ctx context.Context, id identified, name string, at time.Time, kind trace.SpanKind, attributes []attribute.KeyValue,
) (context.Context, trace.Span) {
	return t.tracer.Start(context.WithValue(ctx, givenID{}, id), name,
		trace.WithTimestamp(at), trace.WithSpanKind(kind), trace.WithAttributes(attributes...))
}

// step makes the span of one step; resent is how many attempts were before it.
func (t *Tracer) step(ctx context.Context, id identified, r *Record, s *Sampled, step *Step, resent int) {
	binary.BigEndian.PutUint64(id.span[:], step.ID)
	name, kind, attributes := "", trace.SpanKindInternal, []attribute.KeyValue(nil)
	switch step.Kind {
	case StepAuthenticate:
		name = "authenticate"
	case StepQueue:
		name = "queue"
		if r.Limit != "" {
			attributes = []attribute.KeyValue{attribute.String("sluice.limit", r.Limit)}
		}
	case StepRoom:
		name = "room"
	case StepAttempt:
		name, kind, attributes = spanMethod(r), trace.SpanKindClient, s.attempt(r, step, resent)
	}
	_, span := t.begin(ctx, id, name, step.Begin, kind, attributes)
	if step.Kind == StepAttempt && (step.Reason != "" || step.Status >= 400) {
		span.SetStatus(codes.Error, "")
	}
	span.End(trace.WithTimestamp(step.End))
}

// attributes describe the request, by the conventions for HTTP servers.
func (s *Sampled) attributes(r *Record) []attribute.KeyValue {
	a := make([]attribute.KeyValue, 0, 24)
	scheme := "http"
	if s.Secure {
		scheme = "https"
	}
	a = append(a, semconv.URLScheme(scheme), semconv.HTTPResponseStatusCode(r.Status))
	a = appendMethod(a, r)
	a = appendServer(a, hostile(r.Host, longestSpanPath), s.Secure)
	if len(r.Path) > 0 {
		a = append(a, semconv.URLPath(hostile(r.Path, longestSpanPath)))
	}
	if version, ok := strings.CutPrefix(r.Protocol, "HTTP/"); ok {
		a = append(a, semconv.NetworkProtocolVersion(version))
	}
	if r.Address.IsValid() {
		a = append(a, semconv.ClientAddress(r.Address.String()))
	}
	if s.Peer.IsValid() {
		a = append(a, semconv.NetworkPeerAddress(s.Peer.String()))
	}
	if len(s.UserAgent) > 0 {
		a = append(a, semconv.UserAgentOriginal(hostile(s.UserAgent, longestAgent)))
	}
	if r.Route != nil {
		a = append(a, semconv.HTTPRoute(s.Pattern), attribute.String("sluice.route", r.Route.Name()))
	}
	for _, own := range []struct{ key, value string }{
		{"sluice.request_id", string(r.RequestID)}, {"sluice.variant", r.Variant}, {"sluice.tier", hostile([]byte(r.Tier), longestAgent)},
		{"sluice.reason", r.Reason},
	} {
		if own.value != "" {
			a = append(a, attribute.String(own.key, own.value))
		}
	}
	switch {
	case r.Status == 429 && r.Refused && r.Limit != "":
		a = append(a, attribute.String("sluice.limit", r.Limit))
	case r.Status >= 500 && r.Reason != "":
		a = append(a, semconv.ErrorTypeKey.String(r.Reason))
	case r.Status >= 500:
		a = append(a, semconv.ErrorTypeKey.String(strconv.Itoa(r.Status)))
	}
	return a
}

// attempt describes one try, by the conventions for HTTP clients. The query stays out of it: it may hold secrets.
func (s *Sampled) attempt(r *Record, step *Step, resent int) []attribute.KeyValue {
	a := make([]attribute.KeyValue, 0, 12)
	a = appendMethod(a, r)
	path, _, _ := bytes.Cut(s.Target, []byte{'?'})
	if socket, ok := strings.CutPrefix(step.Target, "unix:"); ok {
		a = append(a, semconv.ServerAddress(socket))
	} else {
		scheme := "http://"
		if step.TLS {
			scheme = "https://"
		}
		a = appendServer(a, step.Target, step.TLS)
		a = append(a, semconv.URLFull(scheme+step.Target+hostile(path, longestSpanPath)))
	}
	a = append(a, attribute.String("sluice.upstream", step.Upstream))
	if resent > 0 {
		a = append(a, semconv.HTTPRequestResendCount(resent))
	}
	if step.Status > 0 {
		a = append(a, semconv.HTTPResponseStatusCode(step.Status))
	}
	switch {
	case step.Reason != "":
		a = append(a, semconv.ErrorTypeKey.String(step.Reason))
	case step.Status >= 400:
		a = append(a, semconv.ErrorTypeKey.String(strconv.Itoa(step.Status)))
	}
	return a
}

// appendServer appends host and port of HOST[:PORT].
func appendServer(a []attribute.KeyValue, authority string, secure bool) []attribute.KeyValue {
	if authority == "" {
		return a
	}
	port := 80
	if secure {
		port = 443
	}
	host, text, err := net.SplitHostPort(authority)
	if err != nil {
		return append(a, semconv.ServerAddress(strings.Trim(authority, "[]")), semconv.ServerPort(port))
	}
	if n, err := strconv.Atoi(text); err == nil {
		port = n
	}
	return append(a, semconv.ServerAddress(host), semconv.ServerPort(port))
}

// appendMethod appends the method; one that is not of HTTP's own is a client's invention, and told apart.
func appendMethod(a []attribute.KeyValue, r *Record) []attribute.KeyValue {
	switch method := spanMethod(r); {
	case len(r.Method) == 0:
		return a
	case method != "HTTP":
		return append(a, semconv.HTTPRequestMethodKey.String(method))
	}
	return append(a, semconv.HTTPRequestMethodOther, semconv.HTTPRequestMethodOriginal(hostile(r.Method, longestMethod)))
}

// spanMethod is the method as names of spans have it: HTTP stands for all that are not known.
func spanMethod(r *Record) string {
	switch method := string(r.Method); method {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY":
		return method
	}
	return "HTTP"
}

func withSpace(pattern string) string {
	if pattern == "" {
		return ""
	}
	return " " + pattern
}

// hostile makes what a client sent fit for a span: bounded, and UTF-8, or else the whole batch could not be encoded.
func hostile(b []byte, longest int) string { return clip(string(b[:min(len(b), longest+1)]), longest) }

// clip cuts text to at most n bytes, and marks that.
func clip(text string, n int) string {
	if len(text) > n {
		text = text[:n] + "…"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

func (t *Trace) traceID() (id trace.TraceID) {
	binary.BigEndian.PutUint64(id[:8], t.high)
	binary.BigEndian.PutUint64(id[8:], t.low)
	return id
}

func spanID(digits []byte) (id trace.SpanID) {
	n, _ := parseHex(digits)
	binary.BigEndian.PutUint64(id[:], n)
	return id
}

// context is the trace as the SDK knows it, before the gateway's own span.
func (t *Trace) context(state []byte) trace.SpanContext {
	c := trace.SpanContextConfig{TraceID: t.traceID(), TraceFlags: trace.TraceFlags(t.flags), Remote: true}
	binary.BigEndian.PutUint64(c.SpanID[:], t.caller)
	c.TraceState, _ = trace.ParseTraceState(string(state))
	return trace.NewSpanContext(c)
}
