package upstream

import (
	"errors"
	"net"
	"time"
)

// spanSlack is by how much a deadline that is set may lie before the one that is wanted. Moving it costs as much as a
// tenth of a system call, and exchanges follow each other within less than this on a connection that has much to do.
const spanSlack = 250 * time.Millisecond

// span is the deadline of a connection's reads, or of its writes: the one that is wanted, and the one that is set,
// which is earlier at times. What gives up early is tried again. The zero span is that of a new connection.
type span struct{ wanted, set time.Time }

// until wants another deadline, zero for none, and says whether it has to be set.
func (s *span) until(deadline time.Time) (move bool) {
	s.wanted = deadline
	if deadline.IsZero() || s.set.IsZero() || s.set.After(deadline) || deadline.Sub(s.set) >= spanSlack {
		move = deadline != s.set
		s.set = deadline
	}
	return move
}

// early says that now is before the deadline that is wanted, which has then to be set.
func (s *span) early(now time.Time) bool {
	if s.set == s.wanted || !s.wanted.IsZero() && !now.Before(s.wanted) {
		return false
	}
	s.set = s.wanted
	return true
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}
