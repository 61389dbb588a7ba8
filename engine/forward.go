package engine

import (
	"errors"
	"io"
	"time"

	"github.com/sluice-gateway/sluice/engine/telemetry"
	"github.com/sluice-gateway/sluice/engine/upstream"
	"github.com/sluice-gateway/sluice/engine/wire"
)

// inlineBody is the largest request body that is sent together with the head, and can be sent again.
const inlineBody = 16 << 10

// forward sends the request to a target of its pool and relays the answer. Its loop is the only one
// that tries again.
func (e *Engine) forward(x *exchange) *Fault {
	if err := x.inline(); err != nil {
		return e.faults.badRequest
	}
	choice := upstream.Choice{Key: x.hashKey()}
	if fault := e.admit(x, &choice); fault != nil {
		return fault
	}
	for raced := false; ; {
		x.attempts++
		x.spent.since = x.at(e.started.Add(choice.Now))
		x.attempting()
		response, err := e.ask(x, raced)
		if err == nil && e.passOver(x, &choice, response) {
			continue
		}
		if err == nil {
			err = e.respond(x, response)
		}
		if err == nil {
			e.begun(x)
			return nil
		}
		again := !raced && x.racedClose(err)
		fault := e.failed(x, err)
		x.attempted(0, fault.Reason)
		if again {
			raced = true
			x.attempts--
			x.conclude(upstream.Abandoned)
		} else if again, fault = e.retry(x, &choice, fault, err); !again {
			return fault
		}
		if fault := e.admit(x, &choice); fault != nil {
			return fault
		}
	}
}

// retry ends an attempt that failed for its target, and says whether another one is to be made: on another target,
// if there is one. If not, fault is the answer.
func (e *Engine) retry(x *exchange, choice *upstream.Choice, fault *Fault, err error) (again bool, answer *Fault) {
	outcome := upstream.Abandoned
	if fault.Blame == BlameUpstream {
		outcome = upstream.Failed
		x.pass.Lost(err)
	}
	x.conclude(outcome)
	e.logFailure(x, x.target, fault, err)
	if !fault.Retry || x.attempts >= x.pool.attempts || !x.repeatable(err) || !x.pool.Retry() {
		return false, fault
	}
	if !x.backOff(x.attempts > 1 || len(x.pool.Targets()) == 1) {
		fault = e.faults.clientGone
	} else if !x.late() {
		x.retrying = true
		choice.Avoid = x.target
		return true, nil
	}
	x.pool.Retried(&x.pass) // to nowhere
	return false, fault
}

// admit lets the request in at a target; if none has room, after a wait.
func (e *Engine) admit(x *exchange, choice *upstream.Choice) *Fault {
	choice.Now, choice.Random = time.Since(e.started), e.random()
	pass, wait, err := x.pool.Admit(*choice)
	if err == upstream.ErrBusy {
		pass, wait, err = e.awaitRoom(x, choice)
	}
	x.admitted(pass)
	if err != nil {
		x.reopens = wait
		if x.conn.gone.Load() {
			return e.faults.clientGone
		}
		return e.faults.ofUpstream(err)
	}
	return nil
}

// awaitRoom waits in the pool's line until a target has room, as long as connecting to one may take. It fails with
// ErrBusy if none has by then, if the line is full, and if the client leaves.
func (e *Engine) awaitRoom(x *exchange, choice *upstream.Choice) (pass upstream.Pass, wait time.Duration, err error) {
	look, ok := x.pool.Join(&x.place)
	if !ok {
		return upstream.Pass{}, 0, upstream.ErrBusy
	}
	defer x.pool.Quit(&x.place)
	defer x.stepped(telemetry.StepRoom, time.Now())
	until := earlier(time.Now().Add(x.pool.Timeouts().Connect), x.deadline)
	for {
		if look {
			choice.Now = time.Since(e.started)
			if pass, wait, err = x.pool.Retake(&x.place, *choice); err != upstream.ErrBusy {
				return pass, wait, err
			}
		}
		if look = x.await(x.place.Ready(), time.Until(until)); !look {
			return upstream.Pass{}, 0, upstream.ErrBusy
		}
	}
}

// passOver drops the answer of a target that says only that the target is not well, if the request may be sent
// again (RFC 9110 section 9.2.2) and another target takes it in. If not, the answer is relayed like any other.
//
// 501 and 505 speak of the request, not of the target. A request with a body is not sent again: its target has had
// it whole, and answered.
func (e *Engine) passOver(x *exchange, choice *upstream.Choice, r *upstream.Response) bool {
	code := r.Status.Code
	if code < 500 || code == 501 || code == 505 || x.attempts >= x.pool.attempts || x.framing.Kind != wire.NoBody ||
		!x.timely() || !idempotent(x.method) {
		return false
	}
	choice.Now, choice.Random, choice.Avoid = time.Since(e.started), e.random(), x.target
	next, ok := x.pool.Instead(*choice)
	if !ok {
		return false
	}
	e.log.Warn().Str("request_id", string(x.requestID)).Str("route", x.route.name).Str("upstream", x.pool.Name()).
		Str("target", x.target.Address()).Int("attempt", x.attempts).Int("status", code).Msg("answer passed over")
	x.discard(r)
	x.attempted(code, "")
	x.conclude(upstream.Failed)
	x.admitted(next)
	return true
}

// discard drops an answer that will not be relayed. Its connection is kept if no more of it has to be waited for.
func (x *exchange) discard(r *upstream.Response) {
	if !x.upstream.Whole() {
		x.drop(false)
		return
	}
	_, err := io.Copy(io.Discard, &r.Body)
	x.drop(err == nil && x.upstream.Reusable())
}

// begun tells the target's breaker of an answer whose end it cannot wait for.
func (e *Engine) begun(x *exchange) {
	switch {
	case x.status == 101:
		x.pass.Report(upstream.Succeeded, time.Since(e.started))
	case x.status < 500 && x.upstream != nil: // the body streams
		x.pass.Answered(time.Since(e.started))
	}
}

// failed ends an attempt that failed, and finds what it means for the client.
func (e *Engine) failed(x *exchange, err error) *Fault {
	x.reached()
	slowClient := isTimeout(err) && x.pump != nil && x.pump.awaiting.Load() > 0
	x.stopPump()
	x.drop(false)
	if slowClient {
		return e.faults.timeout
	}
	return e.faultOf(x, err)
}

// admitted takes note of the pass that the exchange now holds, or that it got none.
func (x *exchange) admitted(pass upstream.Pass) {
	x.pass, x.target = pass, pass.Target()
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
	switch {
	case x.status >= 500 || x.cutShort:
		return upstream.Failed
	case x.left:
		return upstream.Abandoned
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

// backOff waits a little at random before a target is tried that failed before, the longer the more often, but not
// beyond the exchange's deadline. It is false if the client left meanwhile.
func (x *exchange) backOff(needed bool) bool {
	if !needed {
		return true
	}
	most := min(shortBackOff<<x.attempts, longBackOff)
	pause := time.Duration(x.conn.engine.random() % uint64(most))
	if !x.deadline.IsZero() {
		pause = min(pause, time.Until(x.deadline))
	}
	return x.sleep(pause)
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
	case isTimeout(err) && x.late():
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

// repeatable says whether the request may be sent once more after err: nothing of it had been sent, or its method
// is idempotent (RFC 9110 section 9.2.2), all of it is still at hand, and nothing had come that is an answer; and
// there is time left. Garbage, or a head that breaks off, is none: nobody has seen anything of it.
func (x *exchange) repeatable(err error) bool {
	var e *upstream.Error
	if !x.timely() || !errors.As(err, &e) {
		return false
	}
	switch e.Phase {
	case upstream.PhaseConnect:
		return true
	case upstream.PhaseBody:
		return false
	}
	return idempotent(x.method) && (x.framing.Kind == wire.NoBody || x.inlined)
}

// timely says whether anybody still wants an answer, and there is time left for one.
func (x *exchange) timely() bool {
	return !x.conn.gone.Load() && !x.halted.Load() && !x.late()
}

// late says whether the exchange has taken as long as its route allows.
func (x *exchange) late() bool { return !x.deadline.IsZero() && !time.Now().Before(x.deadline) }

func idempotent(method []byte) bool {
	switch string(method) {
	case "PUT", "DELETE":
		return true
	}
	return safe(method)
}

func safe(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS":
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
