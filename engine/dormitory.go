package engine

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/engine/socket"
)

const (
	// bedtime is how long a connection has been silent when it goes to sleep: long enough that clients which have more
	// to say seldom pay for the way to bed and back.
	bedtime = 5 * time.Second
	// manySleepers is how many connections have to fall asleep for it to be worthwhile to collect garbage for their sake: their
	// stacks are some megabytes then.
	manySleepers = 1000
)

// errDrowsy says that a connection has been silent for so long that it may sleep.
var errDrowsy = errors.New("engine: silent until bedtime")

// dormitory is for connections that have been silent for a while, and have no goroutine: the stack of one is most of what
// an idle connection takes. Whatever happens to a connection wakes it: bytes, its client's leaving, that it is closed
// here, idle_timeout. To be woken is to be attended to again; who was woken in vain finds nothing, and does not sleep
// again before its next request.
type dormitory struct {
	bedtime time.Duration
	many    int
	asleep  atomic.Int64 // how many sleep
}

// admit puts c to sleep, if that is possible: then it is no longer the caller's. It has been silent since its clock, and
// all that was read of it has been used, save for what needs more bytes to be of use: a part of a TLS record.
func (d *dormitory) admit(c *conn) (asleep bool) {
	c.restless = true
	below, ok := c.socket.(*socket.Conn)
	if !ok || c.readUntil(time.Time{}) != nil {
		return false
	}
	c.idleSince.Store(c.clock.UnixNano())
	c.giveBack()
	c.engine.conns.rest(c, true)
	c.asleep.Store(true)
	d.asleep.Add(1)
	if below.Sleep(func() { d.wake(c) }) {
		return true
	}
	c.asleep.Store(false)
	d.asleep.Add(-1)
	c.engine.conns.rest(c, false)
	return false
}

// wake has c attended to again. It may be called under the lock of conns.
func (d *dormitory) wake(c *conn) {
	c.asleep.Store(false)
	d.asleep.Add(-1)
	go func() {
		c.engine.conns.rest(c, false)
		c.engine.attend(c)
	}()
}

// wakeUp wakes c if it sleeps.
func (c *conn) wakeUp() {
	if below, ok := c.socket.(*socket.Conn); ok {
		below.Stir()
	}
}

// giveBack gives memory back to the system when many have gone to sleep: left alone, the runtime keeps their stacks, and
// what they were served with, for later use.
func (d *dormitory) giveBack(ctx context.Context) {
	ticker := time.NewTicker(2 * d.bedtime)
	defer ticker.Stop()
	known := 0 // of those who sleep, how many have nothing left to give
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		asleep := int(d.asleep.Load())
		known = min(known, asleep)
		if asleep >= known+d.many {
			runtime.GC() // pools let go of what they hold at the second only
			debug.FreeOSMemory()
			known = asleep
		}
	}
}
