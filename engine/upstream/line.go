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
	prev, next *Waiter
}

// Ready gets a value when it is worth to Retake: there may be room.
func (w *Waiter) Ready() <-chan struct{} { return w.ready }

// line is those who wait for room, first come first served. Only they come near its lock, and requests that end
// while somebody waits.
//
// Nobody sleeps while there is room: who makes some, and sees somebody wait, wakes the first one not yet woken,
// and who leaves the line wakes the next. One who joins, or has been woken in vain, looks once more when it can be
// woken again; but who joins behind others need not look, for they would have had the room.
type line struct {
	waiting     atomic.Int64
	mu          sync.Mutex
	first, last *Waiter
}

// Waiting is how many requests wait for room.
func (p *Pool) Waiting() int { return int(p.line.waiting.Load()) }

// Join gets in line after ErrBusy. It fails if the line is full: it holds as many as the targets do. first says
// that nobody is before w, so that it should look for room at once. Quit must follow.
func (p *Pool) Join(w *Waiter) (first, ok bool) {
	l := &p.line
	if w.ready == nil {
		w.ready = make(chan struct{}, 1)
	}
	most := int64(p.config.MaxInFlight) * int64(len(p.Targets()))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting.Load() >= most {
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
	return l.first == w, true
}

// Retake is Admit for one who is in line.
func (p *Pool) Retake(w *Waiter, c Choice) (pass Pass, wait time.Duration, err error) {
	p.line.mu.Lock()
	w.woken = false
	w.drain()
	p.line.mu.Unlock()
	return p.admit(c)
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
			w.ready <- struct{}{}
			return true
		}
	}
	return false
}
