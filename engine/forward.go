package engine

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/upstream"
	"github.com/sluice-gateway/sluice/engine/wire"
)

// inlineBody is the largest request body that is sent together with the head, and can be sent again.
const inlineBody = 16 << 10

// forward sends the request to a target of its pool and relays the answer. Its loop is the only one
// that tries again.
func (e *Engine) forward(x *exchange, ctx *fasthttp.RequestCtx) *Fault {
	if err := x.inline(); err != nil {
		return e.faults.badRequest
	}
	choice := upstream.Choice{Key: x.hashKey()}
	for raced := false; ; {
		x.attempts++
		choice.Now, choice.Random = time.Since(e.started), e.random()
		pass, wait, err := x.pool.Admit(choice)
		x.admitted(pass)
		if err != nil {
			x.reopens = wait
			return e.faults.ofUpstream(err)
		}
		x.target = pass.Target()
		if err = e.attempt(x, ctx, x.target, raced); err == nil {
			if x.status == 101 { // a tunnel may last for days, and a breaker waits for its probes
				x.pass.Report(upstream.Succeeded, time.Since(e.started))
			}
			return nil
		}
		again := !raced && x.racedClose(err)
		fault := e.failed(x, err)
		switch {
		case again:
			raced = true
			x.attempts--
			x.conclude(upstream.Abandoned)
			continue
		case fault.Blame == BlameUpstream:
			x.pass.Lost(err)
			x.conclude(upstream.Failed)
		default:
			x.conclude(upstream.Abandoned)
		}
		e.logFailure(x, x.target, fault, err)
		if !fault.Retry || x.attempts >= x.pool.attempts || !x.repeatable(err) || !x.pool.Retry() {
			return fault
		}
		x.retrying = true
		if !x.backOff(x.attempts > 1 || len(x.pool.Targets()) == 1) {
			return e.faults.clientGone
		}
		choice.Avoid = x.target
	}
}

// failed ends an attempt that failed, and finds what it means for the client.
func (e *Engine) failed(x *exchange, err error) *Fault {
	slowClient := isTimeout(err) && x.pump != nil && x.pump.awaiting.Load()
	x.stopPump()
	x.drop(false)
	if slowClient {
		return e.faults.timeout
	}
	return e.faultOf(x, err)
}

// admitted takes note of the pass that the exchange now holds, or that it got none.
func (x *exchange) admitted(pass upstream.Pass) {
	x.pass = pass
	if x.retrying {
		x.pool.Retried(&x.pass)
		x.retrying = false
	}
}

// conclude ends the exchange's work for its target, if that has not been done.
func (x *exchange) conclude(o upstream.Outcome) {
	if x.pass.Target() != nil {
		x.pool.Leave(&x.pass, o, time.Since(x.conn.engine.started))
	}
}

// outcome is how an exchange ended for its target that was answered by it.
func (x *exchange) outcome() upstream.Outcome {
	if x.status >= 500 || x.cutShort {
		return upstream.Failed
	}
	return upstream.Succeeded
}

// racedClose says whether an idle connection was closed by its target just when we took it: no failure of
// anybody's, and nothing of the request was looked at (RFC 9112 section 9.3.1).
func (x *exchange) racedClose(err error) bool {
	var e *upstream.Error
	return errors.As(err, &e) && !e.Answered && !e.Timeout() && e.Phase != upstream.PhaseConnect &&
		x.upstream != nil && x.upstream.Reused() && x.repeatable(err)
}

// Backing off spreads the retries of requests that failed together.
const (
	shortBackOff = 25 * time.Millisecond
	longBackOff  = 250 * time.Millisecond
)

// backOff waits a little at random before a target is tried that failed before, the longer the more often. It
// is false if the client left meanwhile.
func (x *exchange) backOff(needed bool) bool {
	if !needed {
		return true
	}
	most := min(shortBackOff<<x.attempts, longBackOff)
	return x.sleep(time.Duration(x.conn.engine.random() % uint64(most)))
}

// inline takes the request's body along with its head when all of it has arrived and it is small:
// the usual case, which then needs no second goroutine and can be repeated.
func (x *exchange) inline() error {
	if x.framing.Kind != wire.Length || x.body.Len() > inlineBody || x.body.Len() > int64(x.conn.in.Buffered()) {
		return nil
	}
	n := int(x.body.Len())
	x.payload = append(x.payload[:0], make([]byte, n)...)
	if _, err := io.ReadFull(&x.body, x.payload); err != nil {
		return err
	}
	if _, err := x.body.Read(x.scratch[:0:cap(x.scratch)]); err != nil && err != io.EOF {
		return err
	}
	x.inlined = true
	return nil
}

// acquire leases a connection. After a race it is a new one, for where one idle connection was closed as we took
// it, others are likely to be: a firewall forgets them all, a restart ends them all. The search is bounded, for
// others give back connections meanwhile; those have just proved good.
func acquire(target *upstream.Target, raced bool) (*upstream.Conn, error) {
	c, err := target.Acquire()
	if !raced {
		return c, err
	}
	_, idle := target.Connections()
	for ; err == nil && c.Reused() && idle >= 0; idle-- {
		target.Discard(c)
		c, err = target.Acquire()
	}
	return c, err
}

// attempt is one exchange with one target: until the response's head is with fasthttp, which relays
// the rest.
func (e *Engine) attempt(x *exchange, ctx *fasthttp.RequestCtx, target *upstream.Target, raced bool) error {
	c, err := acquire(target, raced)
	if err != nil {
		return err
	}
	x.hold(c)
	if x.conn.gone.Load() {
		return net.ErrClosed // whoever cuts exchanges may have come before there was one to cut
	}
	x.out = x.appendHead(x.out[:0])
	x.out = append(x.out, x.payload...)
	timeouts := x.pool.Timeouts()
	now := time.Now()
	if err := c.Send(x.out, earlier(now.Add(timeouts.Response), x.deadline)); err != nil {
		return e.early(x, ctx, err)
	}
	headBy := earlier(now.Add(timeouts.Response), x.deadline)
	if x.framing.Kind != wire.NoBody && !x.inlined {
		if err := x.startPump(); err != nil {
			return err
		}
		headBy = x.deadline
	}
	response, err := c.Receive(x.method, headBy)
	if err != nil {
		return err
	}
	x.joinPump()
	return e.respond(x, ctx, response)
}

// early looks for an answer of a target that stopped reading the request: it may have refused it.
func (e *Engine) early(x *exchange, ctx *fasthttp.RequestCtx, sendErr error) error {
	response, err := x.upstream.Receive(x.method, earlier(time.Now().Add(lingerTime), x.deadline))
	if err != nil {
		return sendErr
	}
	return e.respond(x, ctx, response)
}

// faultOf finds what a failed attempt means for the client. What the client did comes first, for it
// can look like the target's doing: a connection cut because the client left was still cut.
func (e *Engine) faultOf(x *exchange, err error) *Fault {
	switch {
	case x.uploadFault != nil:
		return x.uploadFault
	case x.conn.gone.Load():
		return e.faults.clientGone
	case errors.Is(err, errUnaskedUpgrade):
		return e.faults.upgrade
	case errors.Is(err, errBadResponse):
		return e.faults.malformed
	case isTimeout(err) && !x.deadline.IsZero() && !time.Now().Before(x.deadline):
		return e.faults.routeTimeout
	default:
		return e.faults.ofUpstream(err)
	}
}

func (e *Engine) logFailure(x *exchange, target *upstream.Target, fault *Fault, err error) {
	if fault.Blame == BlameClient {
		return
	}
	address := ""
	if target != nil {
		address = target.Address()
	}
	e.log.Warn().Err(err).Str("request_id", string(x.requestID)).Str("route", x.route.name).
		Str("upstream", x.pool.Name()).Str("target", address).Int("attempt", x.attempts).
		Str("reason", fault.Reason).Msg("forwarding failed")
}

// repeatable says whether the request may be sent once more after err: nothing of it had been sent,
// or its method is idempotent (RFC 9110 section 9.2.2), all of it is still at hand, no byte of an
// answer had come; and there is time left.
func (x *exchange) repeatable(err error) bool {
	if x.conn.gone.Load() || x.halted.Load() || !x.deadline.IsZero() && !time.Now().Before(x.deadline) {
		return false
	}
	var e *upstream.Error
	if !errors.As(err, &e) {
		return false
	}
	if e.Phase == upstream.PhaseConnect {
		return true
	}
	return idempotent(x.method) && !e.Answered && (x.framing.Kind == wire.NoBody || x.inlined)
}

func idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE":
		return true
	}
	return false
}

// earlier is the earlier of two deadlines; a zero one means none.
func earlier(a, b time.Time) time.Time {
	if b.IsZero() || !a.IsZero() && a.Before(b) {
		return a
	}
	return b
}
