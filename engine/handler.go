package engine

import (
	"fmt"
	"io"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-gateway/sluice/engine/upstream"
	"github.com/sluice-gateway/sluice/engine/wire"
	"github.com/sluice-gateway/sluice/router"
)

// serve answers one request, on its connection's goroutine, and says whether the connection can carry another one.
func (e *Engine) serve(x *exchange) (more bool) {
	x.snap, x.asked = e.snapshot.Load(), true
	defer e.recovered(x, &more)
	x.identify()
	if fault := e.handle(x); fault != nil {
		x.answer(fault)
	}
	return x.deliver()
}

// handle is the way of a request, top to bottom.
func (e *Engine) handle(x *exchange) *Fault {
	if x.broken != nil {
		return e.faults.ofHead(x.broken)
	}
	if fault := x.parse(); fault != nil {
		return fault
	}
	x.understood = true
	x.locate()

	index, outcome := x.snap.table.Match(x.method, x.host, x.path, &x.captures)
	switch outcome {
	case router.NotFound:
		return e.faults.noRoute
	case router.MethodNotAllowed:
		return e.faults.method
	}
	x.route = x.snap.routes[index]
	x.route.counts.Begin(e.metrics, x.conn.stripe)
	if x.route.timeout > 0 {
		x.deadline = x.served.Add(x.route.timeout)
	}
	if x.framing.Kind == wire.Length && x.route.tooLarge(x.framing.Length) {
		return e.faults.tooLarge
	}

	if fault := x.charge(x.route.guards); fault != nil {
		return fault
	}
	if fault := x.authenticate(); fault != nil {
		return fault
	}
	if fault := x.charge(x.route.limits); fault != nil {
		return fault
	}

	destination, fault := x.choose(x.route.to)
	if fault != nil {
		return fault
	}
	x.pool = destination.pool
	return e.forward(x)
}

// recovered turns a panic into an answer, so that one request cannot stop the process. Whatever the
// exchange was doing is abandoned, with its connections.
func (e *Engine) recovered(x *exchange, more *bool) {
	r := recover()
	if r == nil {
		return
	}
	*more = false
	logPanic(&e.log, r)
	x.metering.reset() // it may be half done
	x.stopPump()
	x.drop(false)
	x.conclude(upstream.Abandoned)
	x.attempted(0, e.faults.internal.Reason)
	if x.begun {
		x.conn.abort()
		return
	}
	x.conn.mustLinger = true
	x.answer(e.faults.internal)
	x.deliver()
}

// contain keeps a panic outside of the handler, where nothing can be answered any more, from stopping
// the process, and then runs cleanup.
func (e *Engine) contain(cleanup func()) {
	if r := recover(); r != nil {
		logPanic(&e.log, r)
		cleanup()
	}
}

func logPanic(log *zerolog.Logger, r any) {
	log.Error().Str("panic", fmt.Sprint(r)).Bytes("stack", debug.Stack()).Msg("a bug: a panic")
}

// answer writes a fault as the response.
func (x *exchange) answer(f *Fault) {
	x.fault, x.status, x.delivery, x.ready = f, f.Status, deliverWhole, x.decided(f)
	x.scratch = f.appendProblem(x.scratch[:0], x.requestID, x.limitToBlame())

	head := x.back[:0]
	head = appendStatusLine(head, f.Status, []byte(statusTitle(f.Status)))
	head = append(head, "Content-Type: application/problem+json\r\nCache-Control: no-store\r\n"...)
	if f == x.conn.engine.faults.method {
		head = append(head, "Allow: "...)
		head = x.snap.table.AppendAllow(head, x.host, x.path)
		head = append(head, "\r\n"...)
	}
	switch f.Status {
	case 401:
		head = x.appendChallenges(head)
	case 403:
		head = x.appendScopeChallenge(head)
	case 429:
		head = x.appendRetryAfter(head)
	case 503:
		head = append(head, "Retry-After: "...)
		head = strconv.AppendInt(head, max(wholeSeconds(x.reopens), 1), 10)
		head = append(head, "\r\n"...)
	}
	head = x.appendQuota(head, true)
	head = x.appendIDs(head)
	head = appendDate(head, x.ready)
	head = append(head, "Content-Length: "...)
	head = strconv.AppendInt(head, int64(len(x.scratch)), 10)
	x.settle()
	x.back = append(x.appendConnection(append(head, "\r\n"...)), "\r\n"...)
	if string(x.method) != "HEAD" {
		x.back = append(x.back, x.scratch...)
	}
}

// decided is about when the gateway knew that f is its answer: for what it refuses without having waited for anybody,
// when the request came. To look at the clock is a fiftieth of what a refusal costs.
func (x *exchange) decided(f *Fault) time.Time {
	if x.broken != nil || x.pool != nil || x.waited() || f.Status >= 500 {
		return time.Now()
	}
	return x.served
}

// settle decides, before the response's head is written, whether the connection can carry another
// request.
func (x *exchange) settle() {
	if x.pump == nil && x.broken == nil {
		x.discardBuffered()
	}
	x.closes = !x.keepAlive || x.conn.engine.draining()
	if x.broken != nil || x.pump != nil || !x.body.Done() || x.malformed() || x.conn.mustLinger {
		x.closes, x.conn.mustLinger = true, true
	}
}

// appendConnection appends what the client is told of the connection (RFC 9112 section 9.3).
func (x *exchange) appendConnection(dst []byte) []byte {
	switch {
	case x.closes:
		return append(dst, "Connection: close\r\n"...)
	case x.line.Minor == 0:
		return append(dst, "Connection: keep-alive\r\n"...)
	}
	return dst
}

// malformed says whether what the client sent was refused as no request at all: whatever follows it
// on the connection is not to be trusted either.
func (x *exchange) malformed() bool {
	return x.fault != nil && x.fault.Status == 400 || string(x.method) == "CONNECT"
}

// discardBuffered reads the rest of a request's body that nobody wanted, if it has already arrived
// and so costs no waiting.
func (x *exchange) discardBuffered() {
	if x.body.Done() || x.proceed || x.framing.Kind != wire.Length || x.body.Len() > int64(x.conn.in.Buffered()) {
		return
	}
	_, _ = io.Copy(io.Discard, &x.body)
}
