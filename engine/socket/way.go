package socket

import (
	"sync"
	"sync/atomic"
	"time"
)

// states of a way
const (
	calm    uint32 = iota // nothing happened since its goroutine last looked
	stirred               // something may have happened
	awaited               // its goroutine waits for that
	asleep                // it has none, until then
)

// way is one direction of a connection. One goroutine goes it; any may stir it.
type way struct {
	state atomic.Uint32
	wake  chan struct{} // ends the wait; made for the first
	rouse func()        // ends the sleep

	late     atomic.Bool // the deadline has passed
	mu       sync.Mutex  // guards what follows
	deadline time.Time
	timer    *time.Timer // made for the first deadline
	over     bool
}

// stir tells the way's goroutine that something may have happened.
func (w *way) stir() {
	if w.state.Load() == stirred {
		return
	}
	switch w.state.Swap(stirred) {
	case awaited:
		w.wake <- struct{}{}
	case asleep:
		w.rouse()
	}
}

// pause waits until the way is stirred. It is to be calmed then, before its goroutine looks what happened.
func (w *way) pause() {
	if w.state.Load() == stirred {
		return
	}
	if w.wake == nil {
		w.wake = make(chan struct{}, 1)
	}
	if w.state.CompareAndSwap(calm, awaited) {
		<-w.wake
	}
}

func (w *way) calm() { w.state.Store(calm) }

// doze lets the way be without a goroutine, unless it is stirred.
func (w *way) doze() bool { return w.state.CompareAndSwap(calm, asleep) }

// until sets the deadline; zero: none. It does nothing once the way is over, and says so.
func (w *way) until(t time.Time) (over bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return true
	}
	now := time.Now()
	left := t.Sub(now)
	if w.deadline = t; !t.IsZero() {
		w.deadline = now.Add(left) // which no clock that is set back can put off
	}
	w.late.Store(!t.IsZero() && left <= 0)
	switch {
	case w.late.Load():
		w.stir()
	case t.IsZero() && w.timer == nil:
	case t.IsZero():
		w.timer.Stop()
	case w.timer == nil:
		w.timer = time.AfterFunc(left, w.alarm)
	default:
		w.timer.Reset(left)
	}
	return false
}

func (w *way) alarm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deadline.IsZero() || time.Until(w.deadline) > 0 {
		return // it was moved
	}
	w.late.Store(true)
	w.stir()
}

// end ends the way's wait, and all deadlines.
func (w *way) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deadline, w.over = time.Time{}, true
	if w.timer != nil {
		w.timer.Stop()
	}
	w.stir()
}
