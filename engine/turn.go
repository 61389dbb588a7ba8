package engine

import (
	"time"

	"github.com/sluice-gateway/sluice/engine/telemetry"
)

// awaitTurn waits until the request has had every turn that the limits from first on, which were asked together
// at now, gave it, or until its client leaves. It gets in line for the latest one, and mostly the others have
// come meanwhile; but as it may move up in that line, one after the other is looked at. A request that does
// not stay gives back what it took.
func (x *exchange) awaitTurn(first int, now time.Duration) *Fault {
	e, m := x.conn.engine, &x.metering
	began := time.Now()
	defer func() {
		x.spent.waited += time.Since(began)
		x.stepped(telemetry.StepQueue, began)
		e.turns.waiting.Add(-1)
	}()
	if e.turns.waiting.Add(1) > maxWaiting {
		x.forgo(first, 0, now)
		return e.faults.queueFull
	}
	m.delayed = true
	had := uint64(0) // bits: the limits whose turn it has had; their verdicts may be others' by now
	for i := m.latest(first, had); i >= 0 && m.turnAt(i, now) > time.Since(e.started); i = m.latest(first, had) {
		had |= 1 << i
		if !x.awaitOne(i, now) {
			x.forgo(first, had, now)
			return e.faults.clientGone
		}
	}
	return nil
}

// latest is the limit from first on whose turn comes last of those that the request has not had; -1: none.
func (m *metering) latest(first int, had uint64) (latest int) {
	latest = -1
	for i := first; i < len(m.verdicts); i++ {
		if had>>i&1 == 0 && m.awaited(i) && (latest < 0 || m.verdict(i).Turn() > m.verdict(latest).Turn()) {
			latest = i
		}
	}
	return latest
}

// awaited says whether the i-th limit gave the request a turn to wait for. A shadow's turn is nobody's.
func (m *metering) awaited(i int) bool { return m.verdict(i).Turn() > 0 && !m.meters[i].rule.Shadow() }

// turnAt is when the turn begins that the i-th limit gave, by the limiter's clock.
func (m *metering) turnAt(i int, now time.Duration) time.Duration {
	if v := m.remote.verdict(i); v != nil {
		return m.remote.answered + v.Turn()
	}
	return now + m.verdicts[i].Turn()
}

// awaitOne waits for a turn of the i-th limit. Lines are of one gateway: in a queue that several share nobody moves up.
func (x *exchange) awaitOne(i int, now time.Duration) bool {
	if x.metering.remote.verdict(i) == nil {
		return x.standInLine(i, now)
	}
	return x.sleep(x.metering.turnAt(i, now) - time.Since(x.conn.engine.started))
}

// standInLine waits for a turn of the i-th limit: the one that it gave, or that of somebody who was before the
// request in line and left. It is false if the client leaves.
func (x *exchange) standInLine(i int, now time.Duration) bool {
	m := &x.metering
	w, v := &m.waiter, &m.verdicts[i]
	x.conn.engine.join(lineOf(m.meters[i], &m.charges[i], v), &turn{now + v.Turn(), *v}, w)
	stayed := stay(x.conn, w.ready, nil)
	if !stayed {
		if spent, left := w.leave(); left {
			*v = spent
			return false
		}
	}
	*v, w.turn = w.turn.verdict, nil
	return stayed && !x.conn.gone.Load()
}

// forgo gives back all that the request took. The turns that it has not stood in line for move those up who
// do.
func (x *exchange) forgo(first int, had uint64, now time.Duration) {
	e, m := x.conn.engine, &x.metering
	today := time.Since(e.started)
	for i := range m.verdicts {
		v := &m.verdicts[i]
		if m.remote.verdict(i) != nil {
			continue
		}
		if at := now + v.Turn(); i >= first && had>>i&1 == 0 && m.awaited(i) && at > today {
			*v = e.offer(lineOf(m.meters[i], &m.charges[i], v), &turn{at, *v})
		} else {
			e.limiter.GiveBack(today, m.verdicts[i:i+1])
		}
	}
	if len(m.remote.verdicts) > 0 {
		x.snap.limitStore.GiveBack(m.remote.verdicts)
	}
}

// sleep waits for a time, and is false if the client left before it was over.
func (x *exchange) sleep(d time.Duration) bool {
	x.arm(d)
	began := time.Now()
	stayed := stay(x.conn, x.timer.C, nil)
	x.spent.waited += time.Since(began)
	if !stayed {
		x.timer.Stop()
		return false
	}
	return !x.conn.gone.Load()
}

// await waits until ready, and is false if the client left before or a time is over.
func (x *exchange) await(ready <-chan struct{}, d time.Duration) bool {
	x.arm(d)
	defer x.timer.Stop()
	began := time.Now()
	ok := stay(x.conn, ready, x.timer.C)
	x.spent.waited += time.Since(began)
	return ok && !x.conn.gone.Load()
}

func (x *exchange) arm(d time.Duration) {
	if x.timer == nil {
		x.timer = time.NewTimer(d)
	} else {
		x.timer.Reset(d)
	}
}

// stay waits until ready, and is false if the client left before or it is over. A nil over never is.
func stay[T any](c *conn, ready <-chan T, over <-chan time.Time) bool {
	gone, end := c.wait()
	defer end()
	select {
	case <-ready:
		return true
	case <-gone:
		return false
	case <-over:
		return false
	}
}

// wait begins a wait, until end, which gone ends if the client leaves.
func (c *conn) wait() (gone <-chan struct{}, end func()) {
	if c.wake == nil {
		c.wake = make(chan struct{}, 1)
		c.endWait = func() { c.queued.Store(false) }
	}
	c.queued.Store(true)
	if c.gone.Load() {
		c.rouse() // whoever cuts exchanges may have come before we could be seen
	}
	return c.wake, c.endWait
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
