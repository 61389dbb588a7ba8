package engine

import (
	"time"

	"github.com/sluice-gateway/sluice/engine/telemetry"
)

// tracing is [tracing], as requests use it.
type tracing struct {
	share    uint64            // of telemetry.Share
	header   string            // that carries the trace id; empty: none does
	endpoint string            // of the tracer
	tracer   *telemetry.Tracer // nil: spans are not exported
}

// tracing compiles [tracing]. The tracer stays while its receiver does.
func (c *compiler) tracing() {
	t := &c.file.Tracing
	c.snap.tracing = tracing{share: telemetry.Share(t.Sample), header: t.TraceHeader}
	if t.OTLPEndpoint == "" || !c.sound("tracing.otlp_endpoint") {
		return
	}
	if c.last != nil && c.last.tracing.endpoint == t.OTLPEndpoint {
		c.snap.tracing.tracer = c.last.tracing.tracer
	} else {
		tracer, err := telemetry.NewTracer(telemetry.TracerConfig{
			Endpoint: t.OTLPEndpoint, Version: c.version, Log: c.log, Counts: c.spans,
		})
		if err != nil {
			c.fault("tracing.otlp_endpoint", "%v", err)
			return
		}
		c.snap.tracing.tracer = tracer
	}
	c.snap.tracing.endpoint = t.OTLPEndpoint
}

// retireTracer ends the tracer of the last snapshot if the next one has another: all exchanges that end from now on
// are the next one's.
func (e *Engine) retireTracer(last, next *snapshot) {
	if t := last.tracing.tracer; t != nil && t != next.tracing.tracer {
		e.background.Go(t.Close)
	}
}

// recording is what is kept of a sampled request until its end, for its spans.
type recording struct {
	on    bool
	steps []telemetry.Step
}

// stepped takes note of a step that began at began and ends now.
func (x *exchange) stepped(kind telemetry.StepKind, began time.Time) {
	if x.recording.on {
		id := telemetry.NewSpanID(x.conn.engine.random)
		x.recording.steps = append(x.recording.steps, telemetry.Step{Kind: kind, ID: id, Begin: x.at(began), End: x.now()})
	}
}

// attempting takes note of the attempt that begins.
func (x *exchange) attempting() {
	if x.recording.on {
		x.recording.steps = append(x.recording.steps, telemetry.Step{
			Kind: telemetry.StepAttempt, ID: telemetry.NewSpanID(x.conn.engine.random), Begin: x.spent.since,
			Upstream: x.pool.Name(), Target: x.target.Address(), TLS: x.target.TLS(),
		})
	}
}

// attempt is the attempt under way, if it is recorded; else nil.
func (r *recording) attempt() *telemetry.Step {
	if n := len(r.steps); n > 0 && r.steps[n-1].End.IsZero() {
		return &r.steps[n-1]
	}
	return nil
}

// attemptSpan is the span of the attempt under way; zero: there is none.
func (x *exchange) attemptSpan() uint64 {
	if s := x.recording.attempt(); s != nil {
		return s.ID
	}
	return 0
}

// attempted ends the attempt under way: how it was answered, or why it was not.
func (x *exchange) attempted(status int, reason string) {
	s := x.recording.attempt()
	if s == nil {
		return
	}
	if x.cutShort {
		reason = reasonUpstreamCut
	}
	s.End, s.Status, s.Reason = x.now(), status, reason
}

// export has the spans of an exchange sent that has ended, by the tracer of today: an exchange may be older.
func (x *exchange) export() {
	r, tracer := &x.recording, x.conn.engine.snapshot.Load().tracing.tracer
	if !r.on || tracer == nil {
		return
	}
	s := telemetry.Sampled{Trace: &x.trace, Peer: x.conn.peer, Secure: x.conn.secure != nil, Steps: r.steps}
	s.UserAgent, _ = x.sole("user-agent")
	x.scratch = x.scratch[:0]
	if x.trace.KeepsState() {
		x.scratch = x.appendValues(x.scratch, "tracestate")
		s.State = x.scratch
	}
	if x.route != nil {
		s.Pattern = x.route.pattern
	}
	if x.attempts > 0 {
		x.scratch = x.appendTarget(x.scratch)
		s.Target = x.scratch[len(s.State):]
	}
	tracer.Export(&x.record, &s)
}

// reset forgets all steps, and keeps the room for others.
func (r *recording) reset() {
	clear(r.steps)
	r.on, r.steps = false, r.steps[:0]
}
