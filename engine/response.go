package engine

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/upstream"
	"github.com/sluice-gateway/sluice/engine/wire"
)

var errUnaskedUpgrade = errors.New("engine: the target switched protocols without being asked")

// delivery is how a response that has been made goes to the client.
type delivery uint8

const (
	deliverWhole      delivery = iota // all of it is here
	deliverBody                       // its body is to come from the target, and ends as its framing says
	deliverUntilClose                 // likewise, but it ends with the connection
	deliverTunnel                     // both sides speak another protocol afterwards
)

// respond makes the target's answer the client's. The body follows as it comes, unless all of it is
// already here: then the target, and its connection, is free before the client has read a byte.
func (e *Engine) respond(x *exchange, r *upstream.Response) error {
	if r.Status.Code == 101 {
		return x.switchProtocols(r)
	}
	x.status = r.Status.Code
	x.back = x.appendResponseHead(x.back[:0], r)
	if r.Framing.Kind == wire.Length {
		x.back = append(x.back, "Content-Length: "...)
		x.back = strconv.AppendInt(x.back, r.Framing.Length, 10)
		x.back = append(x.back, "\r\n"...)
	}
	if x.upstream.Whole() {
		return x.respondWhole(r)
	}
	return x.respondStream(r)
}

func (x *exchange) respondWhole(r *upstream.Response) error {
	x.stopPump()
	x.settle()
	x.back = append(x.appendConnection(x.back), "\r\n"...)
	for !r.Body.Done() {
		x.back = slices.Grow(x.back, int(max(r.Body.Len(), 1)))
		n, err := r.Body.Read(x.back[len(x.back):cap(x.back)])
		x.back = x.back[:len(x.back)+n]
		if err != nil && err != io.EOF {
			return &upstream.Error{Phase: upstream.PhaseBody, Err: err, Answered: true}
		}
	}
	x.drop(x.upstream.Reusable() && !x.halted.Load())
	x.pool.Leave(&x.pass, x.outcome(), x.ready.Sub(x.conn.engine.started)) // the target has done its work, however long the client takes to read of it
	return nil
}

func (x *exchange) respondStream(r *upstream.Response) error {
	limit, unknown := x.deadline, r.Framing.Kind != wire.Length
	x.delivery, x.chunked = deliverBody, unknown
	x.held(unknown)
	x.settle()
	if unknown {
		limit = time.Time{}
	}
	switch {
	case unknown && x.line.Minor == 0: // it knows of no chunks
		x.delivery, x.chunked, x.closes = deliverUntilClose, false, true
	case unknown:
		x.back = x.announceTrailers(append(x.back, "Transfer-Encoding: chunked\r\n"...), r)
	}
	x.back = append(x.appendConnection(x.back), "\r\n"...)
	if err := x.upstream.Stream(x.pool.Timeouts().Idle, limit); err != nil {
		return &upstream.Error{Phase: upstream.PhaseBody, Err: err, Answered: true}
	}
	return nil
}

// deliver sends the response that has been made, and says whether the connection can carry another exchange.
func (x *exchange) deliver() (more bool) {
	x.begun = true
	switch x.delivery {
	case deliverTunnel:
		x.tunnel()
		return false
	case deliverUntilClose:
		// One that was cut short ends with a reset, the only way left to tell.
		if !x.relay() {
			x.conn.abort()
		}
		return false
	case deliverBody:
		return x.relay() && !x.closes
	default:
		_, err := x.conn.write(x.back, x.ready)
		return err == nil && !x.closes
	}
}

// appendResponseHead appends what may pass of a target's head, without framing and without the
// empty line.
func (x *exchange) appendResponseHead(dst []byte, r *upstream.Response) []byte {
	dst = appendStatusLine(dst, r.Status.Code, r.Status.Reason)
	dated, keep := false, x.stricter(r.Fields)
	for _, f := range r.Fields {
		if wire.EqualFold(f.Name, "content-length") && r.Framing.Kind == wire.NoBody {
			if r.Status.Code != 204 { // RFC 9110 section 8.6
				dst = appendField(dst, f.Name, f.Value)
			}
			continue
		}
		class := x.snap.responses.class(f.Name)
		if class == headerQuota && keep {
			class = headerPlain
		}
		if class != headerPlain && !underscored(f.Name) || namedInConnection(r.Fields, f.Name) {
			continue
		}
		if x.drops(f.Name) {
			continue
		}
		dated = dated || wire.EqualFold(f.Name, "date")
		dst = appendField(dst, f.Name, f.Value)
	}
	if !dated {
		dst = appendDate(dst, x.ready)
	}
	dst = x.appendQuota(dst, !keep)
	dst = x.appendIDs(dst)
	return append(dst, x.route.responseSet...)
}

// drops says whether the route takes a response's field away, or sets it itself.
func (x *exchange) drops(name []byte) bool {
	return x.route.responseDrop.lists(name)
}

// underscored says whether a response's field was dropped for an underscore only, which misleads
// nobody on the way to a client.
func underscored(name []byte) bool {
	for _, c := range name {
		if c == '_' {
			return true
		}
	}
	return false
}

func appendStatusLine(dst []byte, status int, reason []byte) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, reason...)
	return append(dst, "\r\n"...)
}

func appendDate(dst []byte, now time.Time) []byte {
	dst = append(dst, "Date: "...)
	dst = fasthttp.AppendHTTPDate(dst, now)
	return append(dst, "\r\n"...)
}

// appendIDs appends what both sides can name the exchange by.
func (x *exchange) appendIDs(dst []byte) []byte {
	dst = appendID(dst, x.snap.server.requestIDHeader, x.requestID)
	return appendID(dst, x.snap.tracing.header, x.trace.ID())
}

func appendID(dst []byte, name string, id []byte) []byte {
	if name == "" || len(id) == 0 {
		return dst
	}
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, id...)
	return append(dst, "\r\n"...)
}

// announceTrailers names, in the head, the fields that the target says will follow the body.
func (x *exchange) announceTrailers(dst []byte, r *upstream.Response) []byte {
	for _, f := range r.Fields {
		if !wire.EqualFold(f.Name, "trailer") {
			continue
		}
		for name := range wire.Tokens(f.Value) {
			if x.snap.responses.class(name) == headerPlain && !x.drops(name) {
				x.trailers = append(x.trailers, name)
				dst = appendField(dst, []byte("Trailer"), name)
			}
		}
	}
	return dst
}

// relay sends the response as it comes from the target, and then ends the exchange with that. It is false if the
// client cannot have got all of it. A body that was cut short never looks whole: its last chunk is not sent, or some of
// its length is missing, and the connection is closed.
func (x *exchange) relay() (whole bool) {
	defer x.endUpstream()
	body, p := &x.upstream.Response().Body, piece{x.conn.engine.buffers.acquire(), x.chunked}
	defer x.conn.engine.buffers.release(p.buffer)
	for {
		if len(x.back) > 0 && !body.Ready() { // the head does not wait for the body
			if !x.send(x.back) {
				return false
			}
			x.back = x.back[:0]
		}
		late, begin := x.late(), time.Now()
		n, err := body.Read(p.space())
		x.spent.upstream += time.Since(begin)
		if err != nil && err != io.EOF {
			x.logCut(err, late)
			if len(x.back) > 0 {
				x.send(x.back)
			}
			return false
		}
		if done := body.Done(); !x.sendPart(p, n, done) || done {
			return done && !x.left
		}
	}
}

// sendPart sends what is there of a response: what is left of its head, n bytes of its body that are in p, and its end.
func (x *exchange) sendPart(p piece, n int, done bool) bool {
	part := p.framed(n)
	if len(x.back) > 0 || done && x.chunked {
		x.back = append(x.back, part...)
		if done && x.chunked {
			x.back = x.appendEnd(x.back)
		}
		part = x.back
		x.back = x.back[:0]
	}
	return len(part) == 0 || x.send(part)
}

// appendEnd appends the last chunk, with those trailers that were announced.
func (x *exchange) appendEnd(dst []byte) []byte {
	dst = append(dst, "0\r\n"...)
	for _, f := range x.upstream.Response().Body.Trailers() {
		for _, name := range x.trailers {
			if bytes.EqualFold(f.Name, name) {
				dst = appendField(dst, f.Name, f.Value)
				break
			}
		}
	}
	return append(dst, "\r\n"...)
}

func (x *exchange) send(p []byte) bool {
	_, err := x.conn.Write(p)
	x.left = x.left || err != nil
	return err == nil
}

// endUpstream ends the exchange with the target, however the response ended. A request body that is still
// on its way is no longer wanted.
func (x *exchange) endUpstream() {
	clean := x.upstream.Reusable()
	x.joinPump()
	if x.pump != nil {
		clean = false
		x.stopPump()
	}
	x.drop(clean && !x.halted.Load())
}

// logCut notes a response that its target did not finish. If the exchange was late before the target was asked for
// more, it was the client that took the time.
func (x *exchange) logCut(err error, late bool) {
	if x.conn.gone.Load() {
		x.left = true
		return
	}
	if late && isTimeout(err) {
		x.left = true
	} else {
		x.cutShort = true
		x.pass.Lost(err)
	}
	x.conn.engine.log.Warn().Err(err).Str("request_id", string(x.requestID)).Str("route", x.route.name).
		Str("upstream", x.pool.Name()).Str("target", x.target.Address()).Msg("response cut short")
}
