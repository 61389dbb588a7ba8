// Package socket reads and writes stream sockets with the cheapest system calls there are for it.
package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrNothing is what Read says within Await when there is nothing to read.
var ErrNothing = errors.New("socket: nothing to read")

// Conn is a stream socket of the net package's, with the same meaning of all methods, deadlines included. Reads go to
// recv(2) and writes to send(2), past the layer of the file system that read(2) and write(2) begin with, and the
// scheduler does not hear of them, as none of them waits: that saves a twentieth of a small exchange.
//
// One goroutine may read and another one write at the same time; no two may do the same.
type Conn struct {
	net.Conn
	raw     syscall.RawConn
	in, out transfer
	recv    func(fd uintptr) bool // the steps of transfers; made once, so that a transfer does not allocate
	send    func(fd uintptr) bool
	look    func(fd uintptr) bool
	peek    func(fd uintptr)
	attempt func() bool // of Await
	fd      uintptr     // within it
	within  bool
	shut    bool
	peeked  [1]byte
	quiet   bool
}

// transfer is a read or a write under way.
type transfer struct {
	p     []byte
	n     int
	errno syscall.Errno
}

// New makes a Conn of a socket; what is not one of the system's has none.
func New(c net.Conn) (s *Conn, ok bool) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil, false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, false
	}
	s = &Conn{Conn: c, raw: raw}
	s.recv = s.recvSome
	s.send = s.sendAll
	s.look = s.lookAgain
	s.peek = s.peekOne
	return s, true
}

// SyscallConn gives access to the descriptor.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }

// Read reads what is there, after waiting for some.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if c.shut {
		return 0, os.ErrDeadlineExceeded
	}
	c.in = transfer{p: p}
	if c.within {
		if !c.recvSome(c.fd) {
			return 0, ErrNothing
		}
	} else if err := c.raw.Read(c.recv); err != nil {
		return 0, err
	}
	n, errno := c.in.n, c.in.errno
	c.in = transfer{}
	switch {
	case errno != 0:
		return 0, c.fault("read", "recv", errno)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write writes all of p.
func (c *Conn) Write(p []byte) (int, error) {
	c.out = transfer{p: p}
	err := c.raw.Write(c.send)
	n, errno := c.out.n, c.out.errno
	c.out = transfer{}
	if errno != 0 {
		err = c.fault("write", "send", errno)
	}
	return n, err
}

// Await waits until attempt is done: it is called at once, and again whenever something has arrived. Within it Read
// does not wait, but fails with ErrNothing. So one can wait without a buffer to read to.
func (c *Conn) Await(attempt func() (done bool)) error {
	c.attempt = attempt
	return c.raw.Read(c.look)
}

// Shut lets Read fail at once, as after a deadline, until it is called with false: what a layer above gives meanwhile, it
// had taken in before. It is for the goroutine that reads.
func (c *Conn) Shut(shut bool) { c.shut = shut }

// Quiet says whether the connection is open, and nothing has arrived.
func (c *Conn) Quiet() bool {
	c.quiet = false
	return c.raw.Control(c.peek) == nil && c.quiet
}

// CloseWrite tells the peer that nothing more will be sent.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (c *Conn) fault(op, call string, errno syscall.Errno) error {
	return &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(call, errno)}
}

func (c *Conn) recvSome(fd uintptr) (done bool) {
	t := &c.in
	t.n, t.errno = call(unix.SYS_RECVFROM, fd, t.p, 0)
	return t.errno != unix.EAGAIN
}

func (c *Conn) sendAll(fd uintptr) (done bool) {
	t := &c.out
	for t.n < len(t.p) {
		n, errno := call(unix.SYS_SENDTO, fd, t.p[t.n:], unix.MSG_NOSIGNAL)
		if errno != 0 {
			if errno != unix.EAGAIN {
				t.errno = errno
			}
			return errno != unix.EAGAIN
		}
		t.n += n
	}
	return true
}

func (c *Conn) lookAgain(fd uintptr) (done bool) {
	c.fd, c.within = fd, true
	defer func() { c.within = false }()
	return c.attempt()
}

func (c *Conn) peekOne(fd uintptr) {
	_, errno := call(unix.SYS_RECVFROM, fd, c.peeked[:], unix.MSG_PEEK)
	c.quiet = errno == unix.EAGAIN
}

// longest bounds what one call moves, for the scheduler has to wait for it: some tens of microseconds.
const longest = 64 << 10
