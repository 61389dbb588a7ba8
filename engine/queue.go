package engine

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

const (
	// maxWaiting is how many requests wait for their turn at once, in all lines together. Each holds a
	// connection, a goroutine and its exchange. No shard keeps more turns than that.
	maxWaiting = 16 << 10
	// lineShards is how many locks the lines share.
	lineShards = 16
	// spareTime is how long turns that could not be given back are kept for a line in which nobody waits: as
	// long as one who has been given a later turn may take to get in line.
	spareTime = time.Second
)

// turns is the lines of all leaky buckets. Only requests that wait come near them.
type turns struct {
	waiting atomic.Int64
	shards  [lineShards]lines
}

// lines is the lines that share a lock.
type lines struct {
	mu   sync.Mutex
	open map[lineID]*line
	held int // turns, in all lines
}

// lineID is the bucket that a line belongs to.
type lineID struct {
	rule   *meterCounts // it outlives reloads exactly when the rule's buckets do
	key    limiter.Key
	limit  int64 // with the window: the rate, as clients of several tiers may share a key but not a bucket
	window time.Duration
	shared bool // the table had no room, and the key is the group's
}

// turn is a moment at which the rate lets one request go.
type turn struct {
	at      time.Duration // by the limiter's clock
	verdict limiter.Verdict
}

// line is those who wait for turns of one bucket, and the turns that it has given: the first in line has the
// earliest turn, and so on. Whoever leaves goes without a turn, so that all behind move up by one, and the
// last turn is over: it is given back. That costs the same wherever in the line it happens, for only the
// first one's turn needs a timer.
//
// There may be more turns than are waited for: the limiter takes back no turn while somebody has a later one,
// and he may not be in line yet. When he comes, they are his and that of those behind him.
type line struct {
	id      lineID
	lines   *lines
	limiter *limiter.Limiter
	epoch   time.Time

	turns       []*turn // by time; never fewer than those who wait
	first, last *waiter
	waiting     int
	timer       *time.Timer   // nil before the first settle
	due         time.Duration // what the timer is set to; zero: to nothing
	until       time.Duration // when a line of nobody is given up; zero: somebody waits
}

// waiter is a request in a line.
type waiter struct {
	ready      chan struct{} // gets one when its turn has come
	turn       *turn         // is then the one that it had
	lines      *lines
	line       *line // under the lock of lines; nil: it is in none, any more
	prev, next *waiter
}

// lineOf is the line of the bucket that a charge was counted in.
func lineOf(m *meter, c *limiter.Charge, v *limiter.Verdict) lineID {
	id := lineID{m.counts, c.Key, v.Limit(), v.Window(), v.Overflowed()}
	if id.shared {
		id.key = c.Group
	}
	return id
}

// lock locks and returns the shard of a line.
func (t *turns) lock(id lineID) *lines {
	s := &t.shards[uint64(id.key)%lineShards]
	s.mu.Lock()
	return s
}

// line finds a line, or opens it.
func (s *lines) line(e *Engine, id lineID) *line {
	q := s.open[id]
	if q == nil {
		q = &line{id: id, lines: s, limiter: e.limiter, epoch: e.started}
		if s.open == nil {
			s.open = map[lineID]*line{}
		}
		s.open[id] = q
	}
	return q
}

// join puts w in line with the turn that it was given. It must be waiting for nothing else.
func (e *Engine) join(id lineID, t *turn, w *waiter) {
	if w.ready == nil {
		w.ready = make(chan struct{}, 1)
	}
	s := e.turns.lock(id)
	defer s.mu.Unlock()
	q := s.line(e, id)
	now := time.Since(q.epoch)
	q.admit(now) // turns that have passed are not for those who come now
	q.link(w, q.insert(t))
	q.settle(now)
}

// leave takes w out of its line. It fails if w's turn has come already; else spent is a verdict of which
// nothing is left to give back.
func (w *waiter) leave() (spent limiter.Verdict, ok bool) {
	w.lines.mu.Lock()
	defer w.lines.mu.Unlock()
	if q := w.line; q != nil {
		now := time.Since(q.epoch)
		if q.admit(now); w.line != nil {
			q.unlink(w)
			return q.settle(now), true
		}
		q.settle(now)
	}
	<-w.ready
	return spent, false
}

// offer gives up a turn that nobody in line has, as of a request that waited elsewhere. It returns a verdict
// of which nothing is left to give back.
func (e *Engine) offer(id lineID, t *turn) limiter.Verdict {
	s := e.turns.lock(id)
	defer s.mu.Unlock()
	q := s.line(e, id)
	q.insert(t)
	now := time.Since(q.epoch)
	spent := q.settle(now)
	if spent == (limiter.Verdict{}) { // it passed just now, and nobody was there
		v := [1]limiter.Verdict{t.verdict}
		e.limiter.GiveBack(now, v[:])
		spent = v[0]
	}
	return spent
}

// insert adds a turn, and says which one in the line it is.
func (q *line) insert(t *turn) int {
	i := len(q.turns)
	if i > 0 && t.at < q.turns[i-1].at {
		i, _ = slices.BinarySearchFunc(q.turns, t.at+1, func(u *turn, at time.Duration) int { return int(u.at - at) })
	}
	q.turns = slices.Insert(q.turns, i, t)
	q.lines.held++
	return i
}

// link puts w in the i-th place of the line, or in its last. Those who come have later turns than those who
// are there, unless they overtook each other on their way or a reload has made the rate higher.
func (q *line) link(w *waiter, i int) {
	next := (*waiter)(nil)
	prev := q.last
	for n := q.waiting; n > i; n-- {
		next, prev = prev, prev.prev
	}
	w.line, w.lines, w.prev, w.next = q, q.lines, prev, next
	if prev == nil {
		q.first = w
	} else {
		prev.next = w
	}
	if next == nil {
		q.last = w
	} else {
		next.prev = w
	}
	q.waiting++
}

func (q *line) unlink(w *waiter) {
	if w.prev == nil {
		q.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.line, w.prev, w.next = nil, nil, nil
	q.waiting--
}

// admit lets those go whose turn has come.
func (q *line) admit(now time.Duration) {
	for len(q.turns) > 0 && q.turns[0].at <= now {
		if w := q.first; w != nil {
			q.unlink(w)
			w.turn = q.turns[0]
			w.ready <- struct{}{}
		}
		q.turns[0] = nil
		q.turns = q.turns[1:]
		q.lines.held--
	}
}

// settle does what is due in the line after any change. It returns what shed does.
func (q *line) settle(now time.Duration) limiter.Verdict {
	q.admit(now)
	spent := q.shed(now)
	switch {
	case q.waiting > 0:
		q.until = 0
		q.wakeAt(now, q.turns[0].at)
	case len(q.turns) == 0 || q.until != 0 && q.until <= now:
		q.close()
	default:
		if q.until == 0 {
			q.until = now + spareTime
		}
		q.until = min(q.until, q.turns[len(q.turns)-1].at)
		q.wakeAt(now, q.until)
	}
	return spent
}

// shed gives back the turns that nobody waits for, the last one first, as far as the limiter takes them. It
// returns the verdict of the first of them, given back or not.
func (q *line) shed(now time.Duration) (spent limiter.Verdict) {
	for first := true; len(q.turns) > q.waiting; first = false {
		end := len(q.turns) - 1
		v := [1]limiter.Verdict{q.turns[end].verdict}
		place := v[0].Turn()
		q.limiter.GiveBack(now, v[:])
		if first {
			spent = v[0]
		}
		if v[0].Turn() == place && q.lines.held <= maxWaiting {
			break // somebody has a later turn; this one can be given back yet, or be of use
		}
		q.turns[end] = nil
		q.turns = q.turns[:end]
		q.lines.held--
	}
	return spent
}

func (q *line) wakeAt(now, at time.Duration) {
	switch {
	case q.timer == nil:
		q.timer = time.AfterFunc(at-now, q.fire)
	case q.due != at:
		q.timer.Reset(at - now)
	}
	q.due = at
}

func (q *line) fire() {
	q.lines.mu.Lock()
	defer q.lines.mu.Unlock()
	if q.lines.open[q.id] == q { // else it was closed while the timer fired
		q.due = 0
		q.settle(time.Since(q.epoch))
	}
}

// close forgets a line in which nobody waits. What turns it still has pass unused.
func (q *line) close() {
	if q.timer != nil {
		q.timer.Stop()
	}
	q.lines.held -= len(q.turns)
	q.turns = nil
	delete(q.lines.open, q.id)
}
