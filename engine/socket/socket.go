// Package socket reads and writes stream sockets with the fewest and cheapest system calls there are for it.
package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNothing is what Read says within Await when there is nothing to read.
var ErrNothing = errors.New("socket: nothing to read")

// Conn is a stream socket that a Poller watches. All methods mean what they mean in the net package, deadlines
// included. Reads go to recv(2) and writes to send(2), past the layer of the file system that read(2) and write(2) begin
// with, and the scheduler does not hear of them, as none of them waits. A read that follows one which took all there was
// asks for more only once the Poller has told of some.
//
// One goroutine may read and another one write at the same time; no two may do the same.
type Conn struct {
	poller        *Poller
	fd            int
	seat          uint32
	local, remote net.Addr

	users atomic.Int64 // of fd, right now, and closing or freed
	// ended says that the peer has ended, or the connection broke, and reads have to find that; or that the peer sends
	// urgent bytes, at which reads stop short of what else there is.
	ended   atomic.Bool
	in, out way
	// drained says that all there was has been read, unless in is stirred: it is one more than how often the Poller had
	// asked by then. 0: there may be more.
	drained atomic.Uint64
	turn    atomic.Uint64 // see Turn
	taken   uint64        // see Taken; the reader's
	within  bool          // Await; likewise
	shut    bool          // likewise
	peeked  [1]byte

	patience atomic.Int64 // see SetPatience; 0: there is a deadline, or none
}

// Parts of Conn.users.
const (
	closing = 1 << 32 // the last user frees the descriptor
	freed   = 1 << 33
)

// enter says that the descriptor is in use until leave, unless it is false.
func (c *Conn) enter() bool {
	if c.users.Add(1) >= closing {
		c.leave()
		return false
	}
	return true
}

func (c *Conn) leave() {
	if c.users.Add(-1) == closing && c.users.CompareAndSwap(closing, freed) {
		c.poller.forget(c)
		_ = unix.Close(c.fd)
	}
}

// Close ends what waits for the connection, and closes it.
func (c *Conn) Close() error {
	for {
		n := c.users.Load()
		if n >= closing {
			return c.fault("close", net.ErrClosed)
		}
		if c.users.CompareAndSwap(n, n+closing+1) {
			break
		}
	}
	c.in.end()
	c.out.end()
	c.leave()
	return nil
}

// tell tells of what happened.
func (c *Conn) tell(events uint32) {
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR|unix.EPOLLPRI) != 0 {
		c.ended.Store(true)
		c.in.stir()
		c.out.stir()
	}
	if events&unix.EPOLLIN != 0 {
		c.in.stir()
	}
	if events&unix.EPOLLOUT != 0 {
		c.out.stir()
	}
}

// Read reads what is there, after waiting for some.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if c.shut {
		return 0, os.ErrDeadlineExceeded
	}
	for {
		if c.in.late.Load() {
			return 0, c.fault("read", os.ErrDeadlineExceeded)
		}
		if c.drained.Load() > 0 && !c.within && !c.ended.Load() {
			c.pause()
			continue
		}
		if !c.enter() {
			return 0, c.fault("read", net.ErrClosed)
		}
		turn := c.turn.Load() + 1 // nobody else counts
		c.turn.Store(turn)
		n, errno := call(unix.SYS_RECVFROM, uintptr(c.fd), p, 0) // #nosec G115 -- a descriptor
		c.leave()
		switch {
		case errno == unix.EAGAIN && c.within:
			c.drain()
			return 0, ErrNothing
		case errno == unix.EAGAIN:
			c.drain()
			if c.ended.Load() {
				c.pause()
			}
			continue
		case errno != 0:
			return 0, c.fault("read", os.NewSyscallError("recv", errno))
		case n == 0:
			return 0, io.EOF
		case c.taken == 0:
			c.taken = turn
		}
		if n < len(p) && n < longest {
			c.drain()
		}
		return n, nil
	}
}

// pause waits until something may have happened. At no time is the connection calm, and drained from before: another
// goroutine would take it for quiet, though it was told that it is not.
func (c *Conn) pause() {
	c.in.pause()
	c.drained.Store(0)
	c.in.calm()
}

// drain says that all there was has been read.
func (c *Conn) drain() { c.drained.Store(c.poller.asked.Load() + 1) }

// Write writes all of p.
func (c *Conn) Write(p []byte) (n int, err error) {
	var s stall
	for n < len(p) {
		if c.out.late.Load() && !c.bear(&s) {
			return n, c.fault("write", os.ErrDeadlineExceeded)
		}
		if !c.enter() {
			return n, c.fault("write", net.ErrClosed)
		}
		sent, errno := call(unix.SYS_SENDTO, uintptr(c.fd), p[n:], unix.MSG_NOSIGNAL) // #nosec G115 -- a descriptor
		c.leave()
		switch errno {
		case 0:
			n += sent
		case unix.EAGAIN:
			c.stop(&s, n)
			c.out.pause()
			c.out.calm()
		default:
			return n, c.fault("write", os.NewSyscallError("send", errno))
		}
	}
	return n, nil
}

// Await waits until attempt is done: it is called whenever there may be something to read. Within it Read does not wait,
// but fails with ErrNothing. So one can wait without a buffer to read to.
func (c *Conn) Await(attempt func() (done bool)) error {
	for {
		switch {
		case c.users.Load() >= closing:
			return c.fault("read", net.ErrClosed)
		case c.in.late.Load():
			return c.fault("read", os.ErrDeadlineExceeded)
		case c.drained.Load() > 0 && !c.ended.Load():
			c.pause()
		case c.try(attempt):
			return nil
		case c.ended.Load():
			c.pause()
		}
	}
}

// Sleep lets the connection be without a goroutine that reads: wake is called, once, from any goroutine, when something
// may have happened, be it that the connection was closed; it must not block. If that is so already Sleep is false, and
// wake is not called. No deadline of reads should be left.
func (c *Conn) Sleep(wake func()) (asleep bool) {
	c.in.rouse = wake
	c.in.state.Store(calm) // a deadline stirs as well
	c.drained.Store(0)
	if !c.Quiet() {
		return false
	}
	c.drain()
	return c.in.doze()
}

// Stir wakes the connection if it sleeps.
func (c *Conn) Stir() { c.in.stir() }

func (c *Conn) try(attempt func() bool) (done bool) {
	c.within = true
	defer func() { c.within = false }()
	return attempt()
}

// Shut lets Read fail at once, as after a deadline, until it is called with false: what a layer above gives meanwhile, it
// had taken in before. It is for the goroutine that reads.
func (c *Conn) Shut(shut bool) { c.shut = shut }

// Turn is how often reads have begun to ask the system for bytes. Who finds the connection quiet, and asks for the Turn
// then, knows when bytes were taken that had come before: in that one, or an earlier one. It may be called from any
// goroutine.
func (c *Conn) Turn() uint64 { return c.turn.Load() }

// Taken is the Turn that took the first of the bytes that have been read since Taken was last called; 0: none have. It is
// for the goroutine that reads.
func (c *Conn) Taken() (turn uint64) {
	turn, c.taken = c.taken, 0
	return turn
}

// Settled says that Quiet needs no system call: if anything came since the last read that took all there was, the
// Poller has told so.
func (c *Conn) Settled() bool {
	at := c.drained.Load()
	return at > 0 && c.poller.told.Load() >= at
}

// Quiet says whether the connection is open, and nothing has arrived: by now, or, if it is settled, before the Poller
// last asked. It is for one goroutine, be it the one that reads or another.
func (c *Conn) Quiet() (quiet bool) {
	if c.ended.Load() || !c.enter() {
		return false
	}
	defer c.leave()
	if c.in.state.Load() != stirred && c.Settled() { // in this order: see pause
		return true
	}
	_, errno := call(unix.SYS_RECVFROM, uintptr(c.fd), c.peeked[:], unix.MSG_PEEK) // #nosec G115 -- a descriptor
	return errno == unix.EAGAIN
}

// CloseWrite tells the peer that nothing more will be sent.
func (c *Conn) CloseWrite() error {
	var err error
	return errors.Join(c.Control(func(fd uintptr) {
		err = os.NewSyscallError("shutdown", unix.Shutdown(int(fd), unix.SHUT_WR)) // #nosec G115 -- a descriptor
	}), err)
}

// SetLinger sets what Close does with what was not sent, as net.TCPConn has it.
func (c *Conn) SetLinger(seconds int) error {
	l := unix.Linger{Linger: int32(max(seconds, 0))} // #nosec G115 -- a few
	if seconds >= 0 {
		l.Onoff = 1
	}
	var err error
	return errors.Join(c.Control(func(fd uintptr) {
		err = os.NewSyscallError("setsockopt", unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &l)) // #nosec G115 -- a descriptor
	}), err)
}

// Control lends the descriptor, which must not be closed, nor waited for. It may be called from any goroutine.
func (c *Conn) Control(f func(fd uintptr)) error {
	if !c.enter() {
		return c.fault("control", net.ErrClosed)
	}
	defer c.leave()
	f(uintptr(c.fd)) // #nosec G115 -- a descriptor
	return nil
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline ends reads at t, also the one under way; zero: never.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.set(&c.in, t) }

// SetWriteDeadline ends writes at t, also the one under way; zero: never.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.patience.Store(0)
	return c.set(&c.out, t)
}

func (c *Conn) set(w *way, t time.Time) error {
	if w.until(t) {
		return c.fault("set", net.ErrClosed)
	}
	return nil
}

// LocalAddr is this side's address.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

func (c *Conn) fault(op string, err error) error {
	return &net.OpError{Op: op, Net: c.remote.Network(), Source: c.local, Addr: c.remote, Err: err}
}

// longest bounds what one call moves, for the scheduler has to wait for it: some tens of microseconds.
const longest = 64 << 10
