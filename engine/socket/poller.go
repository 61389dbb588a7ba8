package socket

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrNoSocket says that a connection is none of the system's.
var ErrNoSocket = errors.New("socket: no socket")

const (
	// most is how many sockets the system tells of at once.
	most = 128
	// busy is how many it tells of when there is much going on: then it is asked again after a round of all who are
	// ready. Else the runtime's poller finds out when to ask, once nobody is ready: with few to tell of, to ask in vain
	// costs more than that.
	busy = 8
)

// Poller tells Conns when something has happened to their sockets. It is asked for all that happened since it was last
// asked, whenever the goroutines that are ready have had their turn, so that on a busy processor one system call is for
// many connections; and a socket stays registered as it is, so that who has read all there was waits without asking in
// vain. The net package's poller is asked only when nothing is ready, and readers have to ask the socket first: with a
// busy gateway that is a failed call for each successful one.
//
// Its methods are safe for concurrent use.
type Poller struct {
	epoll *os.File
	raw   syscall.RawConn // of epoll, which File.Fd would make block
	fd    int

	// asked is how often the system has been asked what happened. When told is as much, all of it was told.
	asked, told atomic.Uint64

	running sync.WaitGroup

	mu     sync.Mutex
	seats  []seat
	free   []uint32 // seats
	closed bool
}

// seat is where a Conn is found by what the system is given to tell of its socket. A number is not used twice: what is
// told too late must not be taken for another one's.
type seat struct {
	conn  *Conn
	taken uint32 // how often, so far
}

// NewPoller opens a Poller. It does nothing before Start.
func NewPoller() (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(fd, true) // the runtime waits for it, so that no thread does
	}
	if err != nil {
		return nil, fmt.Errorf("cannot poll sockets: %w", err)
	}
	p := &Poller{epoll: os.NewFile(uintptr(fd), "epoll"), fd: fd} // #nosec G115 -- a descriptor
	if p.raw, err = p.epoll.SyscallConn(); err != nil {
		return nil, fmt.Errorf("cannot poll sockets: %w", err)
	}
	return p, nil
}

// Start tells Conns what happens, on a goroutine that ends with Close.
func (p *Poller) Start() { p.running.Go(p.run) }

func (p *Poller) run() {
	events, told := make([]unix.EpollEvent, most), make([]*Conn, most)
	_ = p.raw.Read(func(fd uintptr) (never bool) {
		for p.look(int(fd), events, told) >= busy { // #nosec G115 -- a descriptor
			runtime.Gosched() // they, and whoever else is ready, come first: there is more to be told of then
		}
		return false // what happens from now on calls again
	})
}

// look asks once what happened, and tells. It says to how many something has.
func (p *Poller) look(epoll int, events []unix.EpollEvent, told []*Conn) int {
	p.asked.Add(1)
	n, ok := look(epoll, events)
	if !ok { // a signal
		return most
	}
	p.mu.Lock()
	for i, e := range events[:n] {
		told[i] = p.at(e)
	}
	p.mu.Unlock()
	for i, c := range told[:n] {
		if c != nil {
			c.tell(events[i].Events)
		}
		told[i] = nil
	}
	if n < most {
		p.told.Store(p.asked.Load())
	}
	return n
}

// Close closes all connections that there still are, and returns when nothing is told any more.
func (p *Poller) Close() error {
	p.mu.Lock()
	p.closed = true
	var left []*Conn
	for _, s := range p.seats {
		if s.conn != nil {
			left = append(left, s.conn)
		}
	}
	p.mu.Unlock()
	for _, c := range left {
		_ = c.Close()
	}
	err := p.epoll.Close()
	p.running.Wait()
	return err
}

// Adopt makes a Conn of a connection, which is the caller's no more, unless there is an error. It may be tried again if
// that was for want of descriptors. ErrNoSocket means that it never works.
func (p *Poller) Adopt(c net.Conn) (*Conn, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil, ErrNoSocket
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, ErrNoSocket
	}
	s := &Conn{poller: p, local: c.LocalAddr(), remote: c.RemoteAddr()}
	var failed error
	err = raw.Control(func(fd uintptr) { s.fd, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, failed); err == nil {
		err = p.register(s)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot poll a connection: %w", err)
	}
	_ = c.Close() // the net package's poller lets go of the socket with its descriptor only
	return s, nil
}

// register begins to tell c what happens, or closes its descriptor.
func (p *Poller) register(c *Conn) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		_ = unix.Close(c.fd)
		return net.ErrClosed
	}
	if n := len(p.free); n > 0 {
		c.seat, p.free = p.free[n-1], p.free[:n-1]
	} else {
		c.seat = uint32(len(p.seats)) // #nosec G115 -- there are fewer descriptors
		p.seats = append(p.seats, seat{})
	}
	s := &p.seats[c.seat]
	s.conn = c
	s.taken++
	event := unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET,
		Fd:     int32(c.seat), Pad: int32(s.taken), // #nosec G115 -- the two halves of a number
	}
	p.mu.Unlock()
	err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, c.fd, &event)
	if err != nil {
		p.forget(c)
		_ = unix.Close(c.fd)
	}
	c.drain() // what has come already is told as well
	return err
}

// at is the Conn to which something happened; nil: it is closed.
func (p *Poller) at(e unix.EpollEvent) *Conn {
	if s := p.seats[uint32(e.Fd)]; s.taken == uint32(e.Pad) { // #nosec G115 -- as they were given
		return s.conn
	}
	return nil
}

func (p *Poller) forget(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seats[c.seat].conn = nil
	p.free = append(p.free, c.seat)
}
