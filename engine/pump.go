package engine

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/engine/upstream"
	"github.com/sluice-gateway/sluice/engine/wire"
)

// pump carries a request's body to the target while the connection's goroutine waits for the answer,
// so that an answer that comes before the body's end is not missed. It owns the reading of the
// client and the writing to the target until done is closed.
type pump struct {
	x        *exchange
	upstream *upstream.Conn
	done     chan struct{}
	complete bool   // the whole body was sent; valid once done is closed
	fault    *Fault // the client's doing that ended it; valid once done is closed
	sent     int64
	piece    piece
	awaiting atomic.Int64 // since when the client's next bytes are waited for, by the engine's clock; 0: they are not
	awaited  atomic.Int64 // how long others were, in nanoseconds
	ending   atomic.Bool  // the body's last bytes are being sent
}

// endTime is how long an answer waits for a pump that is sending the body's last bytes: the target may
// have answered them before the pump's goroutine has seen that they are sent.
const endTime = 50 * time.Millisecond

// startPump begins to carry the body to c, first telling a client that waits for it to go on.
func (x *exchange) startPump(c *upstream.Conn) error {
	if x.proceed && x.conn.in.Buffered() == 0 {
		if _, err := x.conn.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n")); err != nil {
			return err
		}
	}
	x.proceed = false
	p := &pump{
		x: x, upstream: c, done: make(chan struct{}),
		piece: piece{x.conn.engine.buffers.acquire(), x.framing.Kind == wire.Chunked},
	}
	x.pump = p
	x.held(false)
	go p.run()
	return nil
}

// joinPump lets go of a pump that has done its work.
func (x *exchange) joinPump() {
	if x.pump == nil {
		return
	}
	if x.pump.ending.Load() {
		select {
		case <-x.pump.done:
		case <-time.After(endTime):
		}
	}
	select {
	case <-x.pump.done:
		x.endPump()
	default:
	}
}

// stopPump ends a pump that is still at work: the target has answered, or there is no target left.
// Neither connection can be used again, for the request is half sent and half read.
func (x *exchange) stopPump() {
	if x.pump == nil {
		return
	}
	select {
	case <-x.pump.done:
	default:
		x.halt()
		x.cut()
		<-x.pump.done
		x.conn.readBy = time.Time{} // halt has moved the deadline, behind the back of who keeps it
	}
	x.endPump()
}

func (x *exchange) endPump() {
	if !x.pump.complete {
		x.halted.Store(true)
		x.uploadFault = x.pump.fault
	}
	x.pump = nil
}

func (p *pump) run() {
	e := p.x.conn.engine
	defer close(p.done)
	defer e.buffers.release(p.piece.buffer)
	defer e.contain(func() { p.fail(e.faults.internal) })
	for {
		n, err := p.read()
		if n > 0 {
			p.sent += int64(n)
			p.ending.Store(!p.piece.chunked && p.x.body.Done())
			if p.x.route.tooLarge(p.sent) {
				p.fail(p.x.conn.engine.faults.tooLarge)
				return
			}
			if !p.send(n) {
				return
			}
		}
		if err == io.EOF {
			p.finish()
			return
		}
		if err != nil {
			p.fail(p.faultOf(err))
			return
		}
	}
}

// read reads from the client, and takes note of how long that takes.
func (p *pump) read() (int, error) {
	began := p.x.conn.engine.now()
	p.awaiting.Store(int64(began))
	n, err := p.x.body.Read(p.piece.space())
	p.awaiting.Store(0)
	p.awaited.Add(int64(p.x.conn.engine.now() - began))
	return n, err
}

// waited is how long the client has been waited for.
func (p *pump) waited() time.Duration {
	waited := time.Duration(p.awaited.Load())
	if since := p.awaiting.Load(); since > 0 {
		waited += p.x.conn.engine.now() - time.Duration(since)
	}
	return waited
}

// send writes the n bytes that were read. A target that takes no more may have answered: the
// connection stays, for the answer to be read, within the time an answer may take.
func (p *pump) send(n int) bool {
	timeouts := p.x.pool.Timeouts()
	if err := p.upstream.Send(p.piece.framed(n), time.Now().Add(timeouts.Idle)); err != nil {
		p.upstream.HeadBy(time.Now().Add(timeouts.Response))
		return false
	}
	return true
}

// finish completes the body. Only here is a last chunk ever written.
func (p *pump) finish() {
	timeouts := p.x.pool.Timeouts()
	p.ending.Store(true)
	if p.piece.chunked {
		end := append(p.piece.buffer[:0], "0\r\n"...)
		for _, f := range p.x.body.Trailers() {
			if p.x.trailerPasses(f.Name) {
				end = appendField(end, f.Name, f.Value)
			}
		}
		end = append(end, "\r\n"...)
		if err := p.upstream.Send(end, time.Now().Add(timeouts.Idle)); err != nil {
			p.upstream.HeadBy(time.Now().Add(timeouts.Response))
			return
		}
	}
	p.complete = true
	p.upstream.HeadBy(earlier(time.Now().Add(timeouts.Response), p.x.deadline))
}

// fail ends the exchange because of what the client did: the target's connection is closed in the
// middle of the body, so that a request cut short is never taken for a whole one.
func (p *pump) fail(f *Fault) {
	p.fault = f
	p.x.cut()
}

func (p *pump) faultOf(err error) *Fault {
	f := p.x.conn.engine.faults
	switch {
	case p.x.halted.Load():
		return nil
	case wire.IsViolation(err):
		return f.badRequest
	case isTimeout(err):
		return f.timeout
	default:
		return f.clientGone
	}
}
