package socket

import (
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// SetPatience lets a write give up, as after a deadline, once the peer has taken nothing for as long as that, or up to a
// quarter longer; never before. A peer that takes some goes on being waited for. To take is to acknowledge: what waits in
// the peer's system has been taken. It replaces the write deadline, as SetWriteDeadline replaces it.
func (c *Conn) SetPatience(d time.Duration) {
	if before := c.patience.Swap(int64(d)); before == 0 || d == 0 {
		c.out.until(time.Time{})
	}
}

// stall is a write that waits.
type stall struct {
	at     int       // how much had been sent when it last had to
	queued int       // what the peer had not taken when it was last looked; before that, as much as can be
	since  time.Time // not before the peer last took something; zero: the write has not had to wait
}

// stop notes that a write has to wait, with n bytes sent.
func (c *Conn) stop(s *stall, n int) {
	patience := time.Duration(c.patience.Load())
	if patience == 0 || !s.since.IsZero() && n == s.at {
		return
	}
	s.at, s.queued, s.since = n, math.MaxInt, time.Now()
	c.out.until(s.since.Add(patience / looks))
}

// bear says whether a write goes on though its time is up: if that was only to look what the peer does.
func (c *Conn) bear(s *stall) bool {
	patience := time.Duration(c.patience.Load())
	switch {
	case patience == 0:
		return false
	case s.since.IsZero(): // it was for an earlier write
		c.out.until(time.Time{})
		return true
	}
	now := time.Now()
	if queued := c.queued(); queued < s.queued {
		s.queued, s.since = queued, now
	}
	if now.Sub(s.since) >= patience {
		return false
	}
	c.out.until(now.Add(patience / looks))
	return true
}

// queued is how many bytes that have been sent the peer has not taken.
func (c *Conn) queued() (n int) {
	if c.enter() {
		n, _ = unix.IoctlGetInt(c.fd, unix.SIOCOUTQ)
		c.leave()
	}
	return n
}

// looks is how often, in the time that the peer has to take something, it is looked whether it has.
const looks = 4
