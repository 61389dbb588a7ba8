package engine

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/auth"
	"github.com/sluice-gateway/sluice/engine/socket"
	"github.com/sluice-gateway/sluice/engine/upstream"
	"github.com/sluice-gateway/sluice/engine/wire"
)

const (
	// lingerTime and lingerBytes bound how long a connection that is closed while its client still
	// sends stays to read what comes: closing at once would reset it, and the reset can overtake
	// the answer (RFC 9112 section 9.6).
	lingerTime  = 2 * time.Second
	lingerBytes = 64 << 20
)

// phase is what the next read of a connection is for; it decides the deadline.
type phase uint8

const (
	phaseIdle phase = iota
	phaseHead
	phaseBody
	phaseTunnel // deadlines are the tunnel's
)

// conn is one client connection. Its exchange is used by the connection's goroutine, and by the goroutine that pumps
// the request's body while that one waits.
type conn struct {
	net.Conn              // the stream: TLS, or the socket itself
	socket   net.Conn     // the connection below
	plain    *socket.Conn // the stream, if it is the socket itself; else nil
	secure   *tls.Conn
	engine   *Engine
	peer     netip.Addr
	opened   time.Time

	in     *bufio.Reader // nil while a plain connection waits
	phase  phase
	arrive func() bool // takes in what has arrived on a plain connection; made once, so that to wait does not allocate
	broken error       // what it found, if not a request's first bytes
	readBy time.Time   // when reads give up; see idleBy

	clock      time.Time // when it was last looked at, at the end of a write
	served     int       // requests so far
	stripe     uint32    // see telemetry.Record
	tlsVersion string    // once it is known
	received   uint64    // bytes of the stream
	written    uint64
	stalled    time.Duration // in writes that the client made wait
	mustLinger bool          // the client may still be sending
	begun      bool          // to be attended to
	patience   time.Duration // of writes; see write
	x          *exchange

	leased    atomic.Pointer[upstream.Tether] // of the exchange's lease, for whoever may cut it while we wait
	gone      atomic.Bool                     // the client left
	holder    atomic.Pointer[auth.Principal]  // whose tunnel or stream this is; nil: nobody's, or neither
	endless   atomic.Bool                     // it has no length: it ends with the credential, not only when that is revoked
	queued    atomic.Bool                     // the exchange waits, for its turn or for Redis
	wake      chan struct{}                   // ends that wait; made before the first
	endWait   func()                          // says that it is over; made likewise
	idleSince atomic.Int64                    // Unix nanoseconds; 0 while a request is under way; dismissed
	watched   watched
	restless  bool        // it slept, or could not, since its last request
	asleep    atomic.Bool // in the dormitory
}

func newConn(e *Engine, client net.Conn, config *tls.Config) *conn {
	c := &conn{Conn: client, socket: client, engine: e, peer: peerAddress(client), opened: time.Now(), stripe: e.connected.Add(1)}
	c.clock = c.opened
	switch below, ok := client.(*socket.Conn); {
	case config != nil:
		c.secure = tls.Server(client, config)
		c.Conn = c.secure
	case ok:
		c.plain, c.arrive = below, c.takeIn
	}
	e.conns.add(c)
	return c
}

func peerAddress(socket net.Conn) netip.Addr {
	if tcp, ok := socket.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// next waits for a request and reads its head. An error means that there is nobody to answer.
func (c *conn) next() error {
	if c.gone.Load() {
		return net.ErrClosed // what it had pipelined has nobody to go to
	}
	settings := &c.engine.snapshot.Load().server
	if c.served == 0 && c.secure != nil {
		if err := c.handshake(settings.headerTimeout); err != nil {
			return err
		}
	}
	err := c.await(settings)
	if err != nil && (c.served > 0 || !isTimeout(err)) {
		return err
	}
	c.served++
	c.restless = false
	c.x = c.engine.acquireExchange(c)
	if err == nil {
		c.phase = phaseHead
		err = c.x.readHead(c.in, settings.maxHeaderBytes)
	}
	if err != nil && !isTimeout(err) && !wire.IsViolation(err) {
		return err
	}
	c.phase = phaseBody
	c.x.open(err)
	return nil
}

// await waits for the first byte of a request. A client that never sends one on a new connection
// has not completed a head in time and is told so; an idle one just goes. What is silent until bedtime may sleep.
func (c *conn) await(settings *serverSettings) (err error) {
	if c.in != nil && c.in.Buffered() > 0 {
		return nil
	}
	pause := settings.idleTimeout
	if c.served == 0 {
		pause = settings.headerTimeout
	}
	c.phase = phaseIdle
	now := c.clock
	if c.idleSince.Swap(now.UnixNano()) == dismissed {
		return net.ErrClosed // as it slept
	}
	defer func() {
		if c.idleSince.Swap(0) == dismissed {
			err = net.ErrClosed // what has just been read could not be answered
		}
	}()
	limit, drowsy := now.Add(pause), false
	if b := c.engine.dormitory.bedtime; c.served > 0 && !c.restless && b < pause {
		limit, drowsy = now.Add(b), true
	}
	for ; ; now = time.Now() {
		if err := c.idleBy(now, limit); err != nil {
			return err
		}
		err = c.peek()
		if err == nil || !isTimeout(err) {
			return err
		}
		if !time.Now().Before(limit) {
			if drowsy {
				return errDrowsy
			}
			return err
		}
	}
}

// idleBy lets reads wait until limit at most, or a while less: a deadline that is near enough is left as it is, for
// moving it costs more than to wait once more after it.
func (c *conn) idleBy(now, limit time.Time) error {
	if c.readBy.Before(limit) && c.readBy.Sub(now) > limit.Sub(now)/4 {
		return nil
	}
	return c.readUntil(limit)
}

func (c *conn) readUntil(t time.Time) error {
	c.readBy = t
	return c.SetReadDeadline(t)
}

// peek waits until there is something to read, on a plain connection without a buffer.
func (c *conn) peek() error {
	if c.plain != nil {
		c.giveBack()
		if err := c.plain.Await(c.arrive); err != nil {
			return err
		}
		return c.broken
	}
	c.borrow()
	_, err := c.in.Peek(1)
	return err
}

// giveBack gives back what borrow has borrowed.
func (c *conn) giveBack() {
	if c.in != nil {
		c.engine.inputs.release(c.in)
		c.in = nil
	}
}

func (c *conn) borrow() {
	if c.in == nil {
		c.in = c.engine.inputs.acquire(source{c}, c.engine.snapshot.Load().server.maxHeaderBytes)
	}
}

// takeIn reads what has arrived on a plain connection. If that is nothing the buffer is given back.
func (c *conn) takeIn() (done bool) {
	c.borrow()
	if _, c.broken = c.in.Peek(1); c.broken != socket.ErrNothing {
		return true
	}
	c.giveBack()
	return false
}

func (c *conn) handshake(timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := c.secure.HandshakeContext(ctx); err != nil {
		return err
	}
	c.tlsVersion = tlsVersion(c.secure.ConnectionState())
	return nil
}

// finish ends the current exchange, and says whether the connection can carry another one. It cannot, if the request
// was answered before its body had been read.
func (c *conn) finish() (reusable bool) {
	if c.x == nil {
		return true
	}
	if reusable = c.x.body.Done(); !reusable {
		c.mustLinger = true
	}
	if c.holder.Load() != nil {
		c.holder.Store(nil)
	}
	c.engine.releaseExchange(c.x)
	c.x = nil
	return reusable
}

// source reads the stream for a connection's buffer, each time with the deadline of its phase.
type source struct{ c *conn }

func (s source) Read(p []byte) (int, error) {
	c := s.c
	switch c.phase {
	case phaseHead:
		if err := c.readUntil(c.x.headDeadline()); err != nil {
			return 0, err
		}
	case phaseBody:
		if err := c.readUntil(c.x.bodyDeadline(time.Now())); err != nil {
			return 0, err
		}
		if err := c.x.wanted(); err != nil {
			return 0, err
		}
	}
	n, err := c.Conn.Read(p)
	if c.phase == phaseHead {
		c.x.served = time.Now()
	}
	c.received += uint64(n) // #nosec G115 -- not negative
	return n, err
}

// Write writes a part of a response.
func (c *conn) Write(p []byte) (int, error) { return c.write(p, time.Now()) }

// write is Write at now. A client that takes nothing for body_idle_timeout is given up.
func (c *conn) write(p []byte, now time.Time) (int, error) {
	if pause := c.engine.snapshot.Load().server.bodyIdleTimeout; pause != c.patience {
		c.patience = pause
		if s, ok := c.socket.(*socket.Conn); ok {
			s.SetPatience(pause)
		}
	}
	n, err := c.Conn.Write(p)
	c.written += uint64(n) // #nosec G115 -- not negative
	c.clock = time.Now()
	if took := c.clock.Sub(now); took >= slowWrite {
		c.stalled += took
	}
	if err != nil {
		c.gone.Store(true)
	}
	return n, err
}

// Close ends the connection: at once, or after reading what a client that was answered early still
// sends.
func (c *conn) Close() error {
	c.finish()
	if c.mustLinger {
		c.linger()
	}
	c.engine.conns.remove(c)
	err := c.Conn.Close()
	c.giveBack()
	return err
}

func (c *conn) linger() {
	if err := c.CloseWrite(); err != nil {
		return
	}
	if err := c.socket.SetReadDeadline(time.Now().Add(lingerTime)); err != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c.socket, lingerBytes)
}

// leave ends the exchange that waits on lease: its client has gone. It may be called from any
// goroutine.
func (c *conn) leave(lease *upstream.Tether) {
	if c.leased.CompareAndSwap(lease, nil) {
		c.gone.Store(true)
		lease.Cut()
	}
}

// abort closes the connection with a reset, so that a response without a length cannot be taken for
// a whole one.
func (c *conn) abort() {
	if s, ok := c.socket.(*socket.Conn); ok {
		_ = s.SetLinger(0)
	}
	_ = c.socket.Close()
}

// CloseWrite tells the client that nothing more will be sent.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
