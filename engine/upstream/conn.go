package upstream

import (
	"bufio"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/engine/socket"
	"github.com/sluice-gateway/sluice/engine/wire"
)

const (
	// readBuffer bounds a response's head as well: 16 KiB, as much as a request's by default.
	readBuffer = 16 << 10
	// maxInterim bounds the 1xx responses before a final one.
	maxInterim = 16
)

// Conn is one connection to a target. Between Acquire and Release it belongs to one exchange, whose
// goroutines may read and write it at the same time, as with any net.Conn.
type Conn struct {
	net.Conn              // the stream: TLS, or the socket itself
	socket   *socket.Conn // the connection below
	tether   Tether
	readers  *readers
	lane     *lane         // that reads it; nil: its exchange does
	answers  *atomic.Int64 // counts them; nil: nobody does

	exchanges int
	keptAt    uint32        // by the reserve's time
	reader    *bufio.Reader // borrowed while leased, so that idle connections hold no buffer
	head      []byte
	probe     [1]byte // for drained
	response  Response

	mu      sync.Mutex
	headBy  time.Time // set by HeadBy
	arrived bool      // the head has come: HeadBy is too late
	looked  bool      // see hasCome
	reads   span
	writes  span

	idle  time.Duration // longest pause between two reads; 0: the deadline set by Receive holds
	limit time.Time     // no read may last longer than this; zero: none
}

// Response is the head of a target's answer, and its body. It is valid until the lease ends.
type Response struct {
	Status  wire.StatusLine
	Fields  []wire.Field
	Framing wire.Framing
	Body    wire.Body

	persistent bool
}

// newConn makes a connection of a stream, and of the socket below it, which may be nil if nobody will wait for the
// connection to be used again.
func newConn(stream net.Conn, below *socket.Conn, buffers *readers) *Conn {
	c := &Conn{Conn: stream, socket: below, readers: buffers}
	c.tether.cut = func() { _ = c.Conn.Close() }
	return c
}

// clean says whether an idle connection is open and silent. Bytes that nobody asked for would
// become the answer to the next request (response-queue poisoning).
func (c *Conn) clean() bool { return c.socket.Quiet() }

// settled says whether it is known, without a system call, if anything has arrived on an idle connection.
func (c *Conn) settled() bool { return c.socket == nil || c.socket.Settled() }

// drained says whether all that has been taken from the socket has been read: TLS takes more records than it is asked
// for. It is for who may read.
func (c *Conn) drained() bool {
	if c.Conn == net.Conn(c.socket) {
		return true
	}
	c.socket.Shut(true)
	defer c.socket.Shut(false)
	n, err := c.Conn.Read(c.probe[:])
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}

// Read reads from the stream, waiting no longer than the pause allowed.
func (c *Conn) Read(p []byte) (int, error) {
	if c.lane != nil {
		return c.lane.read(p)
	}
	if c.idle > 0 {
		deadline := time.Now().Add(c.idle)
		if !c.limit.IsZero() && c.limit.Before(deadline) {
			deadline = c.limit
		}
		if err := c.readBy(deadline); err != nil {
			return 0, err
		}
	}
	for {
		n, err := c.Conn.Read(p)
		if err == nil || n > 0 || !isTimeout(err) || !c.readOn() && !c.hasCome() {
			return n, err
		}
	}
}

// readOn says that reads gave up before their time, and lets them go on.
func (c *Conn) readOn() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reads.early(time.Now()) && c.SetReadDeadline(c.reads.set) == nil
}

// hasCome says, once for each exchange, that a part of the head is there though its time is over, and lets it be read: it
// was in time, and we were not.
func (c *Conn) hasCome() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.arrived || c.looked || c.socket == nil || c.socket.Quiet() {
		return false
	}
	c.looked = true
	c.reads.set = time.Now().Add(lateAnswer)
	return c.SetReadDeadline(c.reads.set) == nil
}

// readBy lets reads wait until deadline; a zero one means none.
func (c *Conn) readBy(deadline time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reads.until(deadline) {
		return c.SetReadDeadline(deadline)
	}
	return nil
}

// Reused says whether the connection has carried an exchange before this one.
func (c *Conn) Reused() bool { return c.exchanges > 0 }

// Send writes p whole before deadline; a zero deadline means none.
func (c *Conn) Send(p []byte, deadline time.Time) error {
	// A TLS connection is spent by a write that gives up, be it before its time.
	if move := c.writes.until(deadline); move || c.Conn != net.Conn(c.socket) {
		c.writes.set = deadline
		if err := c.SetWriteDeadline(deadline); err != nil {
			return &Error{Phase: PhaseSend, Err: err}
		}
	}
	for {
		n, err := c.Conn.Write(p)
		if err == nil {
			return nil
		}
		p = p[n:]
		if !isTimeout(err) || !c.writes.early(time.Now()) || c.SetWriteDeadline(c.writes.set) != nil {
			return &Error{Phase: PhaseSend, Err: err}
		}
	}
}

// Receive reads the head of the final response to a request of this method, passing over interim
// ones, and arms the body. The head must be complete by deadline; zero means no deadline.
func (c *Conn) Receive(method []byte, deadline time.Time) (*Response, error) {
	if c.reader == nil {
		c.reader = c.readers.acquire(c)
	}
	c.idle = 0
	if err := c.await(deadline); err != nil {
		return nil, &Error{Phase: PhaseHead, Err: err}
	}
	for range maxInterim {
		final, err := c.receiveHead(method)
		if err != nil {
			c.arrive()
			return nil, &Error{Phase: PhaseHead, Err: err, Answered: len(c.head) > 0 || c.reader.Buffered() > 0}
		}
		if final {
			c.arrive()
			if c.answers != nil {
				c.answers.Add(1)
			}
			return &c.response, nil
		}
	}
	c.arrive()
	return nil, &Error{Phase: PhaseHead, Err: errInterim, Answered: true}
}

// HeadBy sets the deadline of the Receive in progress, or of the next one, from the goroutine that
// sends the request. After the head has come it does nothing.
func (c *Conn) HeadBy(deadline time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.arrived {
		return
	}
	c.headBy = deadline
	if c.reads.until(deadline) {
		_ = c.SetReadDeadline(deadline)
	}
}

func (c *Conn) await(deadline time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.headBy.IsZero() {
		deadline = c.headBy
	}
	if c.reads.until(deadline) {
		return c.SetReadDeadline(deadline)
	}
	return nil
}

func (c *Conn) arrive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arrived = true
}

// Tether cuts the connection.
func (c *Conn) Tether() *Tether { return &c.tether }

// Response is the last one received.
func (c *Conn) Response() *Response { return &c.response }

func (c *Conn) receiveHead(method []byte) (final bool, err error) {
	c.head, final, err = c.response.receive(c.reader, c.head, method)
	if final {
		c.response.Body.Reset(c.reader, c.response.Framing)
	}
	return final, err
}

// receive reads a head into the buffer given, and what it says. It is false for an interim response. The body is
// for the caller to arm.
func (r *Response) receive(br *bufio.Reader, buffer, method []byte) (head []byte, final bool, err error) {
	head, err = wire.ReadHead(br, buffer[:0], readBuffer)
	if err != nil {
		return head, false, err
	}
	line, block, err := wire.CutStartLine(head)
	if err != nil {
		return head, false, err
	}
	if r.Status, err = wire.ParseStatusLine(line); err != nil {
		return head, false, err
	}
	if r.Fields, err = wire.ParseFields(r.Fields[:0], block); err != nil {
		return head, false, err
	}
	if r.Framing, err = wire.ResponseFraming(method, r.Status.Code, r.Status.Minor, r.Fields); err != nil {
		return head, false, err
	}
	if r.Status.Code < 200 && r.Status.Code != 101 {
		return head, false, nil
	}
	r.persistent = persistent(r)
	return head, true, nil
}

// Stream lets the body be read with at most idle between two reads, and all of it by limit; a zero
// value of either means none.
func (c *Conn) Stream(idle time.Duration, limit time.Time) error {
	c.idle, c.limit = idle, limit
	if idle > 0 {
		return nil
	}
	return c.readBy(limit)
}

// Whole says whether all of the response's body has already arrived, so that reading it cannot block.
func (c *Conn) Whole() bool {
	switch c.response.Framing.Kind {
	case wire.NoBody:
		return true
	case wire.Length:
		return c.response.Body.Len() <= int64(c.reader.Buffered())
	default:
		return false
	}
}

// Reusable says whether the response ended cleanly and the connection may carry another exchange,
// given that the whole request was sent.
func (c *Conn) Reusable() bool {
	return c.response.persistent && c.response.Body.Done() && c.reader != nil && c.reader.Buffered() == 0
}

// Unread is a reader of what follows the response's head: the far side of an upgraded connection.
func (c *Conn) Unread() *bufio.Reader { return c.reader }

// CloseWrite tells the target that nothing more will be sent.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

func (c *Conn) reset() {
	c.exchanges++
	c.headBy, c.arrived, c.looked = time.Time{}, false, false
	c.head = c.head[:0]
	c.idle, c.limit = 0, time.Time{}
	c.response.persistent = false
	if c.reader != nil {
		c.readers.release(c.reader)
		c.reader = nil
	}
}

// forgetDeadlines sets none: others than the connection's exchange have set some.
func (c *Conn) forgetDeadlines() {
	c.reads, c.writes = span{}, span{}
	_ = c.SetDeadline(time.Time{})
}

func (c *Conn) end(t *Target, keep bool) {
	if keep {
		t.release(c)
	} else {
		t.discard(c)
	}
}

func persistent(r *Response) bool {
	keep := r.Status.Minor == 1
	for _, f := range r.Fields {
		if !wire.EqualFold(f.Name, "connection") {
			continue
		}
		if wire.HasToken(f.Value, []byte("close")) {
			return false
		}
		keep = keep || wire.HasToken(f.Value, []byte("keep-alive"))
	}
	return keep && r.Framing.Kind != wire.UntilClose && r.Status.Code != 101
}
