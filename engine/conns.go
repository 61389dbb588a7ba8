package engine

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-gateway/sluice/auth/revocation"
	"github.com/sluice-gateway/sluice/engine/upstream"
)

// watchInterval is how soon a client that left is noticed: its exchange is then between one and two
// intervals old.
const watchInterval = 100 * time.Millisecond

// conns is every client connection that is open, tunnels included. Each takes its lock, and so does the watch: nothing that is done
// with it held may wait. Sockets are closed below TLS, whose farewell may not fit in what a silent peer takes.
type conns struct {
	mu    sync.Mutex
	open  map[*conn]struct{}
	awake map[*conn]struct{} // those that do not sleep
	empty chan struct{}      // closed when the last one has gone, once somebody waits for that
}

// watched is what the watch remembers of a connection from one look to the next. Only the watch
// uses it.
type watched struct {
	raw   controller
	lease *upstream.Tether
}

func (s *conns) add(c *conn) {
	c.watched.raw, _ = c.socket.(controller)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open, s.awake = make(map[*conn]struct{}), make(map[*conn]struct{})
	}
	s.open[c], s.awake[c] = struct{}{}, struct{}{}
}

func (s *conns) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
	delete(s.awake, c)
	if len(s.open) == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// rest says that an open connection sleeps from now on, or does no more.
func (s *conns) rest(c *conn, asleep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if asleep {
		delete(s.awake, c)
	} else {
		s.awake[c] = struct{}{}
	}
}

func (s *conns) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// wait returns when no connection is open, or with ctx.
func (s *conns) wait(ctx context.Context) error {
	s.mu.Lock()
	if len(s.open) == 0 {
		s.mu.Unlock()
		return nil
	}
	if s.empty == nil {
		s.empty = make(chan struct{})
	}
	empty := s.empty
	s.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// closeAll closes every connection, whatever it is doing, cuts the exchanges that wait for a target, and
// tells how many connections there were.
func (s *conns) closeAll() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		c.cut()
	}
	return len(s.open)
}

// dismissed is the idleSince of a connection that closeIdle closes: a request that comes is not served any more.
const dismissed = -1

// closeIdle closes the connections on which no request has come for a while: those whose client had
// nothing to say. A request that has already arrived is not lost: the connection is then not silent. One that is being
// read is either served, or not begun.
func (s *conns) closeIdle(now time.Time, silent time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		since := c.idleSince.Load()
		if since <= 0 || now.Sub(time.Unix(0, since)) < silent {
			continue
		}
		if pending(c.watched.raw, unix.POLLIN) == 0 && c.idleSince.CompareAndSwap(since, dismissed) {
			_ = c.socket.Close()
		}
	}
}

// cut closes a connection, whatever it is doing. It may be called from any goroutine, under the lock of conns.
func (c *conn) cut() {
	c.gone.Store(true)
	_ = c.socket.Close()
	if lease := c.leased.Load(); lease != nil {
		c.leave(lease)
	}
	if c.queued.Load() {
		c.rouse()
	}
}

// watch ends tunnels and streams of credentials that have expired or were revoked. It also looks for clients that left
// while their exchange waits, and cuts the exchange: one that waits for a target is looked at from its second interval
// on, so that quick ones cost nothing. Those that sleep have none.
func (s *conns) watch(revoked *revocation.List, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.awake {
		if p := c.holder.Load(); p != nil && (c.endless.Load() && p.Expired(now) || revoked.Revoked(p, now)) {
			c.cut()
			continue
		}
		lease, queued := c.leased.Load(), c.queued.Load()
		if !queued && (lease == nil || lease != c.watched.lease) {
			c.watched.lease = lease
			continue
		}
		switch {
		case pending(c.watched.raw, unix.POLLRDHUP)&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) == 0:
		case queued:
			c.rouse()
		default:
			c.leave(lease)
		}
	}
}

// expire wakes those, to end, that have slept for as long as timeout.
func (s *conns) expire(now time.Time, timeout time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) == len(s.awake) {
		return
	}
	for c := range s.open {
		if c.asleep.Load() && now.Sub(time.Unix(0, c.idleSince.Load())) >= timeout {
			c.wakeUp()
		}
	}
}

// controller lends the descriptor of a socket.
type controller interface {
	Control(f func(fd uintptr)) error
}

// pending asks, without waiting, which events a socket has.
func pending(raw controller, events int16) (found int16) {
	if raw == nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		fds := [1]unix.PollFd{{Fd: int32(fd), Events: events}} // #nosec G115 -- a descriptor
		if n, err := unix.Poll(fds[:], 0); err == nil && n > 0 {
			found = fds[0].Revents
		}
	})
	return found
}
