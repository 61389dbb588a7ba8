package engine

import (
	"bytes"
	"crypto/tls"
	"time"

	"github.com/sluice-gateway/sluice/engine/telemetry"
)

// Why an answer of a target's was not carried to its end, as records have it.
const (
	reasonClientGone  = "client_gone"
	reasonUpstreamCut = "upstream_cut"
)

// slowWrite is how long a write takes at the least that had to wait for the client. One that did not takes
// microseconds.
const slowWrite = time.Millisecond

// spent is where the time and the bytes of an exchange went.
type spent struct {
	read, written uint64        // by the connection, before
	stalled       time.Duration // likewise
	since         time.Time     // when the attempt under way began; zero: there is none
	upstream      time.Duration
	waited        time.Duration
}

// reached ends the time of an attempt: its target's answer begins, or there will be none. What the target and we
// waited for the client meanwhile is not the target's.
func (x *exchange) reached() {
	s := &x.spent
	if s.since.IsZero() {
		return
	}
	x.ready = time.Now()
	took := x.ready.Sub(s.since)
	s.since = time.Time{}
	if x.pump != nil {
		waited := min(x.pump.waited(), took)
		s.waited += waited
		took -= waited
	}
	s.upstream += took
}

// observe tells what became of an exchange, at its end. One that never became a request is nobody's business: its
// client connected and left.
func (e *Engine) observe(x *exchange) {
	if !x.asked {
		return
	}
	r, c := &x.record, x.conn
	r.Time, r.Duration = x.served, x.now().Sub(x.served)
	r.UpstreamTime, r.Waited = x.spent.upstream, x.spent.waited+c.stalled-x.spent.stalled
	r.BytesIn, r.BytesOut = c.consumed()-x.spent.read, c.written-x.spent.written
	r.RequestID, r.TraceID, r.Method = x.requestID, x.trace.ID(), x.method
	if x.understood {
		r.Host, r.Path, r.Query = x.host, x.path, x.query
	} else if x.broken == nil {
		r.Path = barePath(x.line.Target)
	}
	r.Address, r.Stripe, r.TLS = x.client, c.stripe, c.tlsVersion
	if !r.Address.IsValid() {
		r.Address = c.peer
	}
	if x.broken == nil {
		r.Protocol = [...]string{"HTTP/1.0", "HTTP/1.1"}[x.line.Minor]
	}
	if p := x.principal; p != nil {
		r.Client, r.Tier = p.Client, p.Tier
	}
	if x.route != nil {
		r.Route = x.route.counts
	}
	r.Variant, r.Attempts = x.variant, x.attempts
	if x.pool != nil {
		r.Upstream = x.pool.counts
	}
	if x.target != nil {
		r.Target = x.target.Address()
	}
	r.Status, r.Tunnel = x.status, x.status == 101
	if x.status == 0 {
		r.Status = 500 // it panicked where nothing could be answered
	}
	x.recordReason(r)
	x.recordLimit(r)
	e.metrics.Observe(r)
	e.access.Write(r)
	e.offenders.Observe(r, x.snap.server.clientKey(r.Address))
	x.export()
}

// now is the time, for an exchange that came to its end the time of its last write. What was cut had been waited for
// since then.
func (x *exchange) now() time.Time {
	if x.begun && x.delivery != deliverTunnel && !x.cutShort && !x.left {
		return x.at(x.conn.clock)
	}
	return x.at(time.Now())
}

// at is t by the clock of the exchange: its times differ by what the monotonic clock says, however the other one is
// set meanwhile.
func (x *exchange) at(t time.Time) time.Time { return x.served.Add(t.Sub(x.served)) }

// barePath is what can be told of a target that was refused: its path, if it begins with that, and nothing in which a
// credential may be.
func barePath(target []byte) []byte {
	if target[0] != '/' {
		return nil
	}
	if i := bytes.IndexAny(target, "?#"); i >= 0 {
		return target[:i]
	}
	return target
}

func (x *exchange) recordReason(r *telemetry.Record) {
	switch {
	case x.fault != nil:
		r.Refused, r.Reason = true, x.fault.Reason
	case r.Tunnel:
	case x.cutShort:
		r.Reason = reasonUpstreamCut
	case x.conn.gone.Load():
		r.Reason = reasonClientGone
	}
}

// recordLimit names the limit that refused the request, or else the one that will refuse one like it first.
func (x *exchange) recordLimit(r *telemetry.Record) {
	m := &x.metering
	var closest verdict
	for i := range m.verdicts {
		if m.meters[i].rule.Shadow() || !m.known(i) || m.refused != nil && m.meters[i] != m.refused {
			continue
		}
		if v := m.verdict(i); closest == nil || nearer(v, closest) {
			closest = v
			r.Limit, r.Remaining = m.meters[i].rule.Name(), v.Remaining()
		}
	}
}

// consumed is how many bytes of the stream have been used up.
func (c *conn) consumed() uint64 {
	if c.in == nil {
		return c.received
	}
	return c.received - uint64(c.in.Buffered()) // #nosec G115 -- part of them
}

func tlsVersion(state tls.ConnectionState) string {
	switch state.Version {
	case tls.VersionTLS12:
		return "1.2"
	case tls.VersionTLS13:
		return "1.3"
	}
	return ""
}
