package upstream

import (
	"sync"
	"sync/atomic"
	"time"
)

// Waiter is a request's place in the line of those for whom no target had room. The zero value is ready, and may
// be used again after Quit.
type Waiter struct {
	ready      chan struct{} // gets one when there may be room
	woken      bool          // has one, or had it since the last look; guarded by line.mu, as what follows
	asleep     bool          // counts as one of line.asleep
	prev, next *Waiter
}

// Ready gets a value when it is worth to Retake: there may be room.
func (w *Waiter) Ready() <-chan struct{} { return w.ready }

// line is those who wait for room, first come first served. Only they come near its lock, and requests that end
// while somebody waits.
//
// Nobody sleeps while there is room: who makes some, and sees somebody wait, wakes the first one not yet woken,
// and who leaves the line wakes the next. One who joins, or has been woken in vain, looks once more when it can be
// woken again; but who joins behind others need not look, for they would have had the room. Only a breaker makes
// room silently, when its time to be open is over: the pool's Run looks for that.
type line struct {
	waiting     atomic.Int64
	mu          sync.Mutex
	first, last *Waiter
	asleep      int64 // of them: they have not been woken, and do not look
}

// Waiting is how many requests wait for room.
func (p *Pool) Waiting() int { return int(p.line.waiting.Load()) }

// Join gets in line after ErrBusy. It fails if the line is full: as many as the targets hold may sleep in it. Who is
// on the way to a target that has room does not count, or one who just left it would find the line full, and nobody
// at the target; but with them there are never more than twice as many. first says that nobody is before w, so that
// it should look for room at once. Quit must follow.
func (p *Pool) Join(w *Waiter) (first, ok bool) {
	l := &p.line
	if w.ready == nil {
		w.ready = make(chan struct{}, 1)
	}
	most := int64(p.config.MaxInFlight) * int64(len(p.Targets()))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asleep >= most || l.waiting.Load() >= 2*most {
		return false, false
	}
	w.woken, w.prev, w.next = false, l.last, nil
	if l.last == nil {
		l.first = w
	} else {
		l.last.next = w
	}
	l.last = w
	l.waiting.Add(1)
	first = l.first == w
	l.rest(w, !first)
	return first, true
}

// rest notes whether w sleeps. It is called with the lock held.
func (l *line) rest(w *Waiter, asleep bool) {
	switch {
	case asleep && !w.asleep:
		l.asleep++
	case !asleep && w.asleep:
		l.asleep--
	}
	w.asleep = asleep
}

// Retake is Admit for one who is in line.
func (p *Pool) Retake(w *Waiter, c Choice) (pass Pass, wait time.Duration, err error) {
	l := &p.line
	l.mu.Lock()
	w.woken = false
	w.drain()
	l.rest(w, false)
	l.mu.Unlock()
	if pass, wait, err = p.admit(c); err == ErrBusy {
		l.mu.Lock()
		l.rest(w, !w.woken)
		l.mu.Unlock()
	}
	return pass, wait, err
}

// drain takes a wake that w has not heard.
func (w *Waiter) drain() {
	select {
	case <-w.ready:
	default:
	}
}

// Quit leaves the line.
func (p *Pool) Quit(w *Waiter) {
	l := &p.line
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.prev == nil {
		l.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		l.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next = nil, nil
	w.drain()
	l.rest(w, false)
	l.waiting.Add(-1)
	l.wakeFirst()
}

// wake tells the line that there is room for one more.
func (l *line) wake() {
	if l.waiting.Load() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wakeFirst()
}

// wakeAll tells everybody in line to look again: targets have come or gone.
func (l *line) wakeAll() {
	if l.waiting.Load() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.wakeFirst() {
	}
}

// wakeFirst wakes the first who sleeps, if anybody does. It is called with the lock held.
func (l *line) wakeFirst() bool {
	for w := l.first; w != nil; w = w.next {
		if !w.woken {
			w.woken = true
			l.rest(w, false)
			w.ready <- struct{}{}
			return true
		}
	}
	return false
}
