package engine

import (
	"sync/atomic"
	"time"
)

// maxWaiting is how many requests wait for their turn at once, in all queues together. Each holds a
// connection, a goroutine and its exchange.
const maxWaiting = 16 << 10

// turns is the queues of all leaky buckets. It only counts: the limiter has told each request when its turn
// is, the request's own goroutine waits for it, and the runtime's timers, which all goroutines share, wake
// it.
type turns struct{ waiting atomic.Int64 }

// awaitTurn waits for the request's turn, or until its client leaves. A request that does not stay gives
// back what it took.
func (x *exchange) awaitTurn(turn time.Duration) *Fault {
	e := x.conn.engine
	defer e.turns.waiting.Add(-1)
	if e.turns.waiting.Add(1) > maxWaiting {
		e.limiter.GiveBack(time.Since(e.started), x.metering.verdicts)
		return e.faults.queueFull
	}
	if x.sleep(turn) {
		x.metering.delayed = true
		return nil
	}
	e.limiter.GiveBack(time.Since(e.started), x.metering.verdicts)
	return e.faults.clientGone
}

// sleep waits for a time, and is false if the client left before it was over.
func (x *exchange) sleep(d time.Duration) bool {
	c := x.conn
	if c.wake == nil {
		c.wake = make(chan struct{}, 1)
	}
	if x.timer == nil {
		x.timer = time.NewTimer(d)
	} else {
		x.timer.Reset(d)
	}
	c.queued.Store(true)
	defer c.queued.Store(false)
	if c.gone.Load() {
		c.rouse() // whoever cuts exchanges may have come before we could be seen
	}
	select {
	case <-x.timer.C:
		return !c.gone.Load()
	case <-c.wake:
		x.timer.Stop()
		return false
	}
}

// rouse ends the wait of a request whose client has gone. It may be called from any goroutine, under the
// lock of conns.
func (c *conn) rouse() {
	c.gone.Store(true)
	select {
	case c.wake <- struct{}{}:
	default:
	}
}
