package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// bedtime is how long a connection has been silent when it goes to sleep: long enough that clients which have more
	// to say seldom pay for the way to bed and back.
	bedtime = 5 * time.Second
	// calls is how many connections are woken by one system call at most.
	calls = 128
	// manySleepers is how many connections have to fall asleep for it to be worthwhile to collect garbage for their sake: their
	// stacks are some megabytes then.
	manySleepers = 1000
)

// errDrowsy says that a connection has been silent for so long that it may sleep.
var errDrowsy = errors.New("engine: silent until bedtime")

// dormitory keeps connections that have been silent for a while, without a goroutine for each: the stack of one is most
// of what an idle connection takes. A single goroutine, its keeper, waits for all of them, with an epoll instance of
// its own. Whatever happens to a connection wakes it: bytes, its client's leaving, idle_timeout, or that it is closed
// here, in which case whoever closes its socket has to call wake, for nobody is reading from it. To be woken is to be
// attended to again; who was woken in vain finds nothing, and does not sleep again before its next request.
//
// The zero value admits nobody.
type dormitory struct {
	attend  func(*conn) // runs on a goroutine of the connection's, which ends with it or when it sleeps again
	bedtime time.Duration
	many    int

	mu     sync.Mutex
	epoll  *os.File // nil: closed
	fd     int      // of epoll, which File.Fd would make block
	beds   map[uint64]*conn
	newest uint64 // bed; they are numbered as they are taken, from 1, and none is used twice
	oldest uint64 // no lower one is taken

	keeper sync.WaitGroup
}

// open lets connections in, until close.
func (d *dormitory) open() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(fd, true) // the runtime waits for it, so that no thread does
	}
	if err != nil {
		return fmt.Errorf("cannot watch idle connections: %w", err)
	}
	file := os.NewFile(uintptr(fd), "epoll") // #nosec G115 -- a descriptor
	raw, err := file.SyscallConn()
	if err != nil {
		return fmt.Errorf("cannot watch idle connections: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.epoll, d.fd, d.beds, d.oldest = file, fd, map[uint64]*conn{}, 1
	d.keeper.Go(func() { d.keep(raw) })
	return nil
}

// close is for when no connection is left.
func (d *dormitory) close() {
	d.mu.Lock()
	if d.epoll != nil {
		_ = d.epoll.Close()
		d.epoll = nil
	}
	d.mu.Unlock()
	d.keeper.Wait()
}

// keep wakes connections to which something happened.
func (d *dormitory) keep(epoll syscall.RawConn) {
	events := make([]unix.EpollEvent, calls)
	for {
		n := 0
		err := epoll.Read(func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), events, 0) // #nosec G115 -- a descriptor
			return n > 0
		})
		if err != nil {
			return // closed
		}
		for _, e := range events[:n] {
			d.mu.Lock()
			c := d.vacate(bedOf(e))
			d.mu.Unlock()
			d.raise(c, true)
		}
	}
}

// admit puts c to sleep, if that is possible: then it is no longer the caller's. It has been silent since its clock, and
// all that was read of it has been used, save for what needs more bytes to be of use: a part of a TLS record.
func (d *dormitory) admit(c *conn) (asleep bool) {
	c.restless = true
	c.idleSince.Store(c.clock.UnixNano())
	c.undress()
	if d.lie(c) {
		return true
	}
	c.dress()
	return false
}

func (d *dormitory) lie(c *conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.epoll == nil || c.watched.raw == nil {
		return false
	}
	bed, result := d.newest+1, error(nil)
	// A socket that has been closed is found to be so here, or else the one who closed it finds c in its bed.
	if err := c.watched.raw.Control(func(fd uintptr) {
		event := eventOf(bed)
		result = unix.EpollCtl(d.fd, unix.EPOLL_CTL_ADD, int(fd), &event) // #nosec G115 -- a descriptor
	}); err != nil || result != nil {
		return false
	}
	d.newest, d.beds[bed], c.bed = bed, c, bed
	return true
}

// wake wakes c if it sleeps. It may be called from any goroutine, under the lock of conns.
func (d *dormitory) wake(c *conn) {
	d.mu.Lock()
	sleeper := d.vacate(c.bed)
	d.mu.Unlock()
	d.raise(sleeper, false)
}

// expire wakes connections that have been silent for too long. Those that came first are first to go: one that went to
// bed late may make an earlier one wait, for as long as itself was late.
func (d *dormitory) expire(now time.Time, timeout time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for ; d.oldest <= d.newest; d.oldest++ {
		if c := d.beds[d.oldest]; c != nil && now.Sub(c.clock) < timeout {
			return
		}
		d.raise(d.vacate(d.oldest), false)
	}
}

// vacate takes who is in bed out of it; nil: nobody is, any more.
func (d *dormitory) vacate(bed uint64) *conn {
	c := d.beds[bed]
	if c != nil {
		delete(d.beds, bed)
		c.bed = 0
	}
	return c
}

// raise has c, if any, attended to again. If it heard something, its silence is over.
func (d *dormitory) raise(c *conn, heard bool) {
	if c == nil {
		return
	}
	go func() {
		// While it is awake, what comes need not be told to two.
		_ = c.watched.raw.Control(func(fd uintptr) {
			_ = unix.EpollCtl(d.fd, unix.EPOLL_CTL_DEL, int(fd), nil) // #nosec G115 -- a descriptor
		})
		c.dress()
		if heard {
			c.clock = time.Now()
		}
		d.attend(c)
	}()
}

// giveBack gives memory back to the system when many have gone to sleep: left alone, the runtime keeps their stacks, and
// what they were served with, for later use.
func (d *dormitory) giveBack(ctx context.Context) {
	ticker := time.NewTicker(2 * d.bedtime)
	defer ticker.Stop()
	known := 0 // of those who sleep, how many have nothing left to give
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		asleep := d.asleep()
		known = min(known, asleep)
		if asleep >= known+d.many {
			runtime.GC() // pools let go of what they hold at the second only
			debug.FreeOSMemory()
			known = asleep
		}
	}
}

// asleep is how many connections sleep.
func (d *dormitory) asleep() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.beds)
}

// eventOf says what a connection is woken by: once, for there is no more to it than that it is awake then. What is there
// already counts.
func eventOf(bed uint64) unix.EpollEvent {
	return unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT,
		Fd:     int32(bed), Pad: int32(bed >> 32), // #nosec G115 -- the two halves of a number
	}
}

func bedOf(e unix.EpollEvent) uint64 {
	return uint64(uint32(e.Pad))<<32 | uint64(uint32(e.Fd)) // #nosec G115 -- likewise
}
