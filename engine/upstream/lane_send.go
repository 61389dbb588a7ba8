package upstream

import (
	"runtime"
	"time"
)

// send sends what requests there are, all at once, until the lane has ended.
func (l *lane) send() {
	defer close(l.sender)
	defer l.contain(func() { l.conn.Tether().Cut() })
	for l.rest() {
		// Others who are ready to ask do so first, and their requests go along.
		runtime.Gosched()
		batch := l.take(time.Now())
		if len(batch) == 0 {
			continue
		}
		if _, err := l.conn.Conn.Write(batch); err != nil {
			l.group.mu.Lock()
			l.leave() // the receiver finds out how much was answered
			l.writing, l.tainted = false, true
			l.group.mu.Unlock()
			return
		}
	}
}

// rest waits until there is something to send, and is false once the lane has ended.
func (l *lane) rest() bool {
	g := l.group
	g.mu.Lock()
	l.writing = false
	l.resting = !l.ended && len(l.out) == 0
	resting, ended := l.resting, l.ended
	g.mu.Unlock()
	if resting {
		<-l.kick
	}
	return !ended
}

// take gives what is to be sent at now. A connection on which nothing was going on may have been closed meanwhile, or
// hold bytes that would be taken for an answer; then nothing is sent, and the receiver finds out.
func (l *lane) take(now time.Time) (batch []byte) {
	g := l.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.ended || len(l.out) == 0 {
		return nil
	}
	if l.sent == 0 && !l.fit() {
		l.moveRest(0)
		l.tainted = true
		l.stir()
		return nil
	}
	batch, l.out, l.spare = l.out, l.spare[:0], l.out
	l.writing = true
	if l.sent == 0 {
		l.turn(now)
	}
	for ; l.sent < l.queue.count; l.sent++ {
		p := l.queue.at(l.sent)
		p.sent = now
		if response := g.lanes.response; response > 0 {
			if by := now.Add(response); p.by.IsZero() || by.Before(p.by) {
				p.by = by
				l.await(by)
			}
		}
	}
	l.arm(l.lateAt)
	if !l.soonest.IsZero() {
		l.arm(l.soonest)
	}
	return batch
}

// fit says whether nothing that nobody asked for waits to be read, when no request is under way. What has been read of
// that already, and not been noted, is known by its turn. A new connection is always fit: TLS has things to say on it. It
// is called with the group's lock held.
func (l *lane) fit() bool {
	s := l.conn.socket
	if s == nil || l.answered == 0 && !l.conn.Reused() {
		return true
	}
	if !s.Quiet() {
		return false
	}
	l.stale, l.before = s.Turn(), l.answered // after Quiet: what has been read meanwhile counts
	return true
}

// ring is a queue of places. Its zero value is empty.
type ring struct {
	places       []*Place
	first, count int
}

// at is the i-th place.
func (r *ring) at(i int) *Place { return r.places[(r.first+i)%len(r.places)] }

// push appends a place. There are never more than most.
func (r *ring) push(p *Place, most int) {
	if r.count == len(r.places) {
		grown := make([]*Place, min(max(2*r.count, 8), most))
		for i := range r.count {
			grown[i] = r.at(i)
		}
		r.places, r.first = grown, 0
	}
	r.places[(r.first+r.count)%len(r.places)] = p
	r.count++
}

// pop takes the first place out.
func (r *ring) pop() *Place {
	p := r.at(0)
	r.places[r.first] = nil
	r.first = (r.first + 1) % len(r.places)
	r.count--
	return p
}

// popLast takes the last place out.
func (r *ring) popLast() *Place {
	p := r.at(r.count - 1)
	r.count--
	r.places[(r.first+r.count)%len(r.places)] = nil
	return p
}
