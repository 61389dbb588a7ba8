package engine

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/engine/upstream"
	"github.com/sluice-gateway/sluice/engine/wire"
)

// switchProtocols answers 101 and joins the two connections. A target that switches without having
// been asked, or to something else, is refused.
func (x *exchange) switchProtocols(r *upstream.Response) error {
	if len(x.upgrade) == 0 || !bytes.EqualFold(upgradeOf(r.Fields), x.upgrade) {
		return errUnaskedUpgrade
	}
	x.status = 101
	x.back = x.appendResponseHead(x.back[:0], r)
	x.back = append(x.back, "Connection: Upgrade\r\nUpgrade: "...)
	x.back = append(x.back, x.upgrade...)
	x.back = append(x.back, "\r\n\r\n"...)
	x.delivery = deliverTunnel
	return nil
}

func upgradeOf(fields []wire.Field) []byte {
	for _, f := range fields {
		if wire.EqualFold(f.Name, "upgrade") {
			return f.Value
		}
	}
	return nil
}

// tunnel carries bytes both ways until both sides have ended, one fails, or neither has sent
// anything for the upstream's idle timeout. A side that ends is passed on as such, while the other
// way stays open.
func (x *exchange) tunnel() {
	x.conn.phase = phaseTunnel
	x.held(true)
	x.conn.leased.Store(nil) // to end one way is not to leave: the watch has no business here
	if _, err := x.conn.Write(x.back); err != nil {
		return
	}
	t := &tunnel{idle: x.pool.Timeouts().Idle}
	t.last.Store(time.Now().UnixNano())
	up, ok := x.upstream.(*upstream.Conn)
	if !ok {
		panic("BUG: an upgrade that was not asked for by a connection of its own")
	}
	if up.Stream(0, time.Time{}) != nil {
		return
	}
	fromClient := make(chan struct{})
	go func() {
		defer close(fromClient)
		t.carry(side{up.Conn, up.CloseWrite, up, nil}, side{x.conn.Conn, x.conn.CloseWrite, x.conn.in, nil}, x.conn.engine)
	}()
	t.carry(side{x.conn.Conn, x.conn.CloseWrite, nil, &x.conn.written}, side{up.Conn, up.CloseWrite, up.Unread(), nil}, x.conn.engine)
	<-fromClient
}

// tunnel is one upgraded connection.
type tunnel struct {
	idle time.Duration
	last atomic.Int64 // when a byte last passed, either way; Unix nanoseconds
}

// side is one end of a tunnel: its connection, and the reader that may still hold bytes of it.
type side struct {
	net.Conn
	closeWrite func() error
	in         io.Reader
	written    *uint64 // counts; nil: nobody does
}

// carry copies from one side to the other until from ends, or closes both if something fails.
func (t *tunnel) carry(to, from side, e *Engine) {
	buffer := e.buffers.acquire()
	defer e.buffers.release(buffer)
	defer e.contain(func() { _, _ = to.Close(), from.Close() })
	for {
		err := t.step(to, from, buffer)
		if err == nil {
			continue
		}
		if err != io.EOF || to.closeWrite() != nil {
			_ = to.Close()
			_ = from.Close()
		}
		return
	}
}

// step moves what from has to give. A pause is only idleness if the other way is silent too.
func (t *tunnel) step(to, from side, buffer []byte) error {
	last := time.Unix(0, t.last.Load())
	if err := from.SetReadDeadline(last.Add(t.idle)); err != nil {
		return err
	}
	n, err := from.in.Read(buffer)
	if n > 0 {
		now := time.Now()
		t.last.Store(now.UnixNano())
		if err := to.SetWriteDeadline(now.Add(t.idle)); err != nil {
			return err
		}
		n, err := to.Write(buffer[:n])
		if to.written != nil {
			*to.written += uint64(n) // #nosec G115 -- not negative
		}
		if err != nil {
			return err
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && t.last.Load() > last.UnixNano() {
		return nil
	}
	return err
}
