package engine

import (
	"errors"
	"io"
	"net"
	"runtime"

	"golang.org/x/sys/unix"
)

// first reads the first bytes of a request from a socket, into a buffer that is borrowed only when they are there: a
// connection that waits holds none.
type first struct {
	look func(fd uintptr) (done bool) // nil: the stream is not the socket itself
	fd   int                          // while looking; else 0
	size int                          // of the buffer
	err  error
}

// errNothing says that there is nothing to read yet.
var errNothing = errors.New("engine: nothing to read")

// lookFirst makes c wait without a buffer. The function is made once, so that to wait does not allocate.
func (c *conn) lookFirst() {
	f := &c.first
	f.look = func(fd uintptr) bool {
		if c.in == nil {
			c.in = c.engine.inputs.acquire(source{c}, f.size)
		}
		f.fd = int(fd) // #nosec G115 -- a descriptor
		_, f.err = c.in.Peek(1)
		f.fd = 0
		if f.err != errNothing {
			return true
		}
		c.engine.inputs.release(c.in)
		c.in = nil
		return false
	}
}

// peekSocket waits until there is something to read from the socket, and reads it.
func (c *conn) peekSocket(size int) error {
	if c.served > 0 {
		// Who reads at once finds nothing, parks and is woken by the poller: on a busy core, others have something to do
		// until the next request is there.
		runtime.Gosched()
	}
	c.first.size = size
	if err := c.watched.raw.Read(c.first.look); err != nil {
		return err
	}
	return c.first.err
}

// read reads from the socket what is there, or else waits for the stream.
func (f *first) read(stream net.Conn, p []byte) (int, error) {
	if f.fd == 0 {
		return stream.Read(p)
	}
	for {
		n, err := unix.Read(f.fd, p)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return 0, errNothing
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}
