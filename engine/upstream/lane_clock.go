package upstream

import (
	"os"
	"runtime"
	"time"
)

// read is what the connection's buffer reads from: it waits for bytes, and meanwhile keeps the time.
func (l *lane) read(b []byte) (int, error) {
	l.credit()
	// Those who have just had their answers get to ask again, and the target to answer, before we look and wait.
	runtime.Gosched()
	for {
		if err := l.keepTime(time.Now()); err != nil {
			return 0, err
		}
		n, err := l.conn.Conn.Read(b)
		if n > 0 {
			l.note(time.Now())
			return n, err
		}
		if err != nil && !isTimeout(err) {
			return 0, err
		}
	}
}

// note takes note of bytes that have come by now.
func (l *lane) note(now time.Time) {
	l.group.mu.Lock()
	defer l.group.mu.Unlock()
	l.readAt = now
	if l.conn.socket == nil {
		l.asked = l.answered + l.sent
		return
	}
	switch turn := l.conn.socket.Taken(); {
	case turn == 0: // TLS had them: they came along with the last ones
	case turn <= l.stale:
		l.asked = l.before
	default:
		l.asked = l.answered + l.sent
	}
}

func (l *lane) credit() {
	if l.earned > 0 {
		l.group.lanes.credit.earn(l.earned)
		l.group.lanes.answers.Add(l.earned)
		l.earned = 0
	}
}

// keepTime does what is due at now, before the receiver waits for bytes, and sees to it that the receiver looks up
// when something is due again. An error ends the lane.
func (l *lane) keepTime(now time.Time) error {
	g := l.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if !l.armed.IsZero() && !now.Before(l.armed) {
		l.armed = time.Time{}
	}
	if !l.soonest.IsZero() && !now.Before(l.soonest) {
		l.expire(now)
	}
	var next time.Time
	switch {
	case l.queue.count == 0:
		if next = l.idleSince.Add(idleConnection); l.leaving || !now.Before(next) {
			return errClosed
		}
	case l.sent == 0:
		next = now.Add(lateAnswer)
	case l.alone || l.late(now) && l.doubt(now):
		if err := l.isolate(); err != nil {
			return err
		}
	case l.probes > 0:
		next = now.Add(doubtEvery)
	default:
		next = l.lateAt
	}
	if !l.soonest.IsZero() && (next.IsZero() || l.soonest.Before(next)) {
		next = l.soonest
	}
	if !next.IsZero() {
		l.arm(next)
	} else if l.armed.IsZero() {
		_ = l.conn.Conn.SetReadDeadline(time.Time{})
	}
	return nil
}

// late says whether the front's answer is late. One that is there, but could not be read for want of a processor, gets
// half as long again, once. It is called with the group's lock held.
func (l *lane) late(now time.Time) bool {
	if l.probes > 0 {
		return true
	}
	if now.Before(l.lateAt) {
		return false
	}
	if l.looked || l.conn.socket == nil || l.conn.clean() {
		return true
	}
	l.looked, l.lateAt = true, now.Add(lateAnswer/2)
	return false
}

// doubt says whether the front, which is late, is to be left alone. It may be that the target answers nobody, and then
// it is of no use to ask it everything once more: at first only one of those who wait is moved, and the others when the
// target has answered anybody since; until then twice as many each time. It is called with the group's lock held.
func (l *lane) doubt(now time.Time) bool {
	answers := l.group.lanes.answers.Load()
	switch {
	case l.probes == 0:
		l.heard = answers
	case answers != l.heard:
		return true
	case now.Before(l.lateAt):
		return false
	}
	l.probes, l.lateAt = max(1, 2*l.probes), now.Add(lateAnswer)
	moved, waiting := 0, 0
	for i := 1; i < l.queue.count; i++ {
		switch p := l.queue.at(i); {
		case p.state != placeWaiting:
		case moved < l.probes:
			p.abandon(ErrMoved)
			moved++
		default:
			waiting++
		}
	}
	l.group.lanes.credit.charge(moved)
	return waiting == 0
}

// isolate lets nobody wait for the front any more, which is slow. It goes on alone: if a part of its body is there,
// with the connection. It is called with the group's lock held.
func (l *lane) isolate() error {
	if !l.alone {
		l.moveRest(1)
		l.alone = true
	}
	if l.queue.at(0).state != placeWaiting {
		return errClosed
	}
	if l.inBody {
		return errTooSlow
	}
	return nil
}

// expire tells those whose time is over. It is called with the group's lock held.
func (l *lane) expire(now time.Time) {
	l.soonest = time.Time{}
	for i := range l.queue.count {
		p := l.queue.at(i)
		switch {
		case p.state != placeWaiting || p.by.IsZero():
		case now.Before(p.by):
			l.await(p.by)
		default:
			p.abandon(&Error{Phase: PhaseHead, Err: os.ErrDeadlineExceeded})
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// turn begins the front's turn. It is called with the group's lock held.
func (l *lane) turn(at time.Time) {
	l.lateAt, l.looked, l.probes = at.Add(lateAnswer), false, 0
}

// await notes when a place is late. It is called with the group's lock held.
func (l *lane) await(by time.Time) {
	if l.soonest.IsZero() || by.Before(l.soonest) {
		l.soonest = by
	}
}

// arm lets the receiver look up at a time, or before. It is called with the group's lock held.
func (l *lane) arm(at time.Time) {
	if l.armed.IsZero() || at.Before(l.armed) {
		l.armed = at
		_ = l.conn.Conn.SetReadDeadline(at)
	}
}

// stir lets the receiver look up now. It is called with the group's lock held.
func (l *lane) stir() {
	if l.connected && !l.ended {
		l.arm(time.Unix(1, 0))
	}
}
