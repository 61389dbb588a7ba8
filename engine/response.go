package engine

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/upstream"
	"github.com/sluice-gateway/sluice/engine/wire"
)

// backBuffer is room for the response heads that are usual; larger ones cost an allocation.
const backBuffer = 4 << 10

var (
	errUnaskedUpgrade = errors.New("engine: the target switched protocols without being asked")
	errBadResponse    = errors.New("engine: the target's response cannot be relayed")
)

// respond hands the target's answer to fasthttp. The body follows as it comes, unless all of it is
// already here: then the target, and its connection, is free before the client has read a byte.
func (e *Engine) respond(x *exchange, ctx *fasthttp.RequestCtx, r *upstream.Response) error {
	if r.Status.Code == 101 {
		return x.switchProtocols(ctx, r)
	}
	x.status = r.Status.Code
	x.back = x.appendResponseHead(x.back[:0], r)
	unknown := r.Framing.Kind == wire.Chunked || r.Framing.Kind == wire.UntilClose
	if unknown && x.line.Minor == 0 {
		x.held(true)
		x.back = append(x.back, "Connection: close\r\n\r\n"...)
		x.relayUntilClose(ctx)
		return nil
	}
	if r.Framing.Kind == wire.Length {
		x.back = append(x.back, "Content-Length: "...)
		x.back = strconv.AppendInt(x.back, r.Framing.Length, 10)
		x.back = append(x.back, "\r\n"...)
	}
	x.back = append(x.back, "\r\n"...)
	if err := x.setHead(ctx); err != nil {
		return &upstream.Error{Phase: upstream.PhaseHead, Err: fmt.Errorf("%w: %v", errBadResponse, err), Answered: true}
	}
	if x.upstream.Whole() {
		return x.respondWhole(ctx, r)
	}
	return x.respondStream(ctx, r, unknown)
}

func (x *exchange) respondWhole(ctx *fasthttp.RequestCtx, r *upstream.Response) error {
	x.buffer = x.buffer[:0]
	for {
		if len(x.buffer) == cap(x.buffer) {
			x.buffer = append(x.buffer, 0)[:len(x.buffer)]
		}
		n, err := r.Body.Read(x.buffer[len(x.buffer):cap(x.buffer)])
		x.buffer = x.buffer[:len(x.buffer)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			return &upstream.Error{Phase: upstream.PhaseBody, Err: err, Answered: true}
		}
	}
	if len(x.buffer) > 0 {
		ctx.Response.SetBodyRaw(x.buffer)
	}
	x.stopPump()
	x.drop(x.upstream.Reusable() && !x.halted.Load())
	x.conclude(x.outcome()) // the target has done its work, however long the client takes to read of it
	return nil
}

func (x *exchange) respondStream(ctx *fasthttp.RequestCtx, r *upstream.Response, unknown bool) error {
	limit := x.deadline
	size := int(r.Framing.Length)
	x.held(unknown)
	if unknown {
		limit, size = time.Time{}, -1
		x.announceTrailers(ctx, r)
	}
	if err := x.upstream.Stream(x.pool.Timeouts().Idle, limit); err != nil {
		return &upstream.Error{Phase: upstream.PhaseBody, Err: err, Answered: true}
	}
	ctx.Response.ImmediateHeaderFlush = true
	x.relay.response, x.relay.header = r, &ctx.Response.Header
	ctx.Response.SetBodyStream(&x.relay, size)
	return nil
}

// setHead makes x.back the head of fasthttp's response. Parsing it, instead of setting field by
// field, keeps names, order, repetitions and Date as they are.
func (x *exchange) setHead(ctx *fasthttp.RequestCtx) error {
	h := &ctx.Response.Header
	ctx.Response.ResetBody()
	h.DisableNormalizing()
	x.backSource.Reset(x.back)
	reader := x.backReader
	if len(x.back) > reader.Size() {
		reader = bufio.NewReaderSize(nil, len(x.back))
	}
	reader.Reset(&x.backSource)
	if err := h.Read(reader); err != nil {
		return err
	}
	// A response without a length is taken for one that ends with the connection; how it really
	// ends is decided when its body is set.
	h.ResetConnectionClose()
	return nil
}

// appendResponseHead appends what may pass of a target's head, without framing and without the
// empty line.
func (x *exchange) appendResponseHead(dst []byte, r *upstream.Response) []byte {
	dst = appendStatusLine(dst, r.Status.Code, r.Status.Reason)
	dated, keep := false, x.stricter(r.Fields)
	for _, f := range r.Fields {
		if wire.EqualFold(f.Name, "content-length") && r.Framing.Kind == wire.NoBody {
			dst = appendField(dst, f.Name, f.Value)
			continue
		}
		class := x.snap.responses.class(f.Name)
		if class == headerQuota && keep {
			class = headerPlain
		}
		if class != headerPlain && !underscored(f.Name) || namedInConnection(r.Fields, f.Name) {
			continue
		}
		if x.route.responseDrop != nil && x.route.responseDrop.class(f.Name) != headerPlain {
			continue
		}
		dated = dated || wire.EqualFold(f.Name, "date")
		dst = appendField(dst, f.Name, f.Value)
	}
	if !dated {
		dst = appendDate(dst, time.Now())
	}
	dst = x.appendQuota(dst, !keep)
	dst = x.appendIDs(dst)
	return append(dst, x.route.responseSet...)
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
func (x *exchange) announceTrailers(ctx *fasthttp.RequestCtx, r *upstream.Response) {
	for _, f := range r.Fields {
		if !wire.EqualFold(f.Name, "trailer") {
			continue
		}
		for name := range wire.Tokens(f.Value) {
			if x.snap.responses.class(name) != headerPlain || ctx.Response.Header.AddTrailerBytes(name) != nil {
				continue
			}
			x.trailers = append(x.trailers, string(name))
		}
	}
}

// relay is the body of a streamed response, as fasthttp reads it.
type relay struct {
	x        *exchange
	response *upstream.Response
	header   *fasthttp.ResponseHeader
}

// Read gives what has come of the body.
func (r *relay) Read(p []byte) (int, error) {
	begin := time.Now()
	n, err := r.response.Body.Read(p)
	r.x.spent.upstream += time.Since(begin)
	if err == io.EOF {
		r.setTrailers()
	}
	return n, err
}

// SupportsBodyWriteTo lets fasthttp use WriteTo, which passes larger pieces than Read is asked for.
func (r *relay) SupportsBodyWriteTo() bool { return true }

// WriteTo writes the body to w, each piece as soon as it comes. An error leaves the response
// unfinished, so that fasthttp closes the connection: a body that was cut short must not look whole.
func (r *relay) WriteTo(w io.Writer) (int64, error) {
	if r.response.Framing.Kind == wire.Length {
		// The head has been flushed. fasthttp flushes chunks, but would hold back pieces of a body of
		// known length until its buffer is full.
		w = r.x.conn
	}
	buffer := r.x.conn.engine.buffers.acquire()
	defer r.x.conn.engine.buffers.release(buffer)
	var total int64
	for {
		late := r.x.late()
		n, err := r.Read(buffer)
		if n > 0 {
			m, werr := w.Write(buffer[:n])
			total += int64(m)
			if werr != nil {
				r.x.conn.gone.Store(true)
				r.x.left = true
				return total, werr
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			r.x.logCut(err, late)
			return total, err
		}
	}
}

func (r *relay) setTrailers() {
	for _, f := range r.response.Body.Trailers() {
		for _, name := range r.x.trailers {
			if strings.EqualFold(string(f.Name), name) {
				r.header.AddBytesV(name, f.Value)
			}
		}
	}
}

// Close ends the exchange with the target, however the response ended. A request body that is still
// on its way is no longer wanted.
func (r *relay) Close() error {
	x := r.x
	clean := x.upstream != nil && x.upstream.Reusable()
	x.joinPump()
	if x.pump != nil {
		clean = false
		x.stopPump()
	}
	x.drop(clean && !x.halted.Load())
	return nil
}

// relayUntilClose answers an HTTP/1.0 client, which knows no chunks: its response ends when the
// connection does. One that was cut short ends with a reset, the only way left to tell.
func (x *exchange) relayUntilClose(ctx *fasthttp.RequestCtx) {
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(net.Conn) {
		defer x.conn.engine.contain(x.conn.abort)
		if err := x.writeUntilClose(); err != nil {
			x.conn.abort()
		}
	})
}

func (x *exchange) writeUntilClose() error {
	if err := x.upstream.Stream(x.pool.Timeouts().Idle, time.Time{}); err != nil {
		return err
	}
	if _, err := x.conn.Write(x.back); err != nil {
		return err
	}
	x.relay.response = x.upstream.Response()
	_, err := x.relay.WriteTo(x.conn)
	return errors.Join(err, x.relay.Close())
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
