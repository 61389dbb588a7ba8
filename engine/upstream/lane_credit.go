package upstream

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// moveCost is how many requests must be answered in their places for each one that is asked once more, endCost for
	// each lane that ends before its time.
	moveCost, endCost = 20, 4
	// creditStalls is how many lanes in a row may be held up before it counts, and creditMost what may be saved up.
	creditStalls = 2
	creditMost   = 16
	// The time for which lanes are not used doubles if they fail soon again: before four times as long have gone by.
	shortSuspension = time.Second
	longSuspension  = 2 * time.Minute
	soonAgain       = 4
)

// credit bounds the requests that a target is asked twice, for lanes that were held up, to a share of those that it
// answers well. When it is used up the lanes are suspended, each time for longer: a target that is slow as a rule, or
// closes connections, is better off without them.
type credit struct {
	epoch  time.Time
	grant  int64 // what there is at first, and after a suspension
	most   int64
	left   atomic.Int64
	until  atomic.Int64 // of the suspension, since the epoch
	moved  *atomic.Uint64
	mu     sync.Mutex
	length time.Duration // of the last suspension; under mu
}

func (c *credit) start(epoch time.Time, depth int, moved *atomic.Uint64) {
	c.epoch, c.moved = epoch, moved
	if c.moved == nil {
		c.moved = &atomic.Uint64{}
	}
	c.grant = int64(depth) * creditStalls * moveCost
	c.most = int64(depth) * creditMost * moveCost
	c.left.Store(c.grant)
}

// spent says whether the lanes are suspended.
func (c *credit) spent() bool {
	until := c.until.Load()
	return until > 0 && int64(time.Since(c.epoch)) < until
}

// earn notes requests that were answered in their places.
func (c *credit) earn(n int64) {
	if c.left.Load() < c.most {
		c.left.Add(n)
	}
}

// charge notes that a lane was held up, or ended, and n requests moved.
func (c *credit) charge(n int) {
	c.moved.Add(uint64(n)) // #nosec G115 -- not negative
	if c.left.Add(-int64(n)*moveCost-endCost) >= 0 {
		return
	}
	now := time.Since(c.epoch)
	c.mu.Lock()
	defer c.mu.Unlock()
	last := time.Duration(c.until.Load())
	if now < last {
		return
	}
	if c.length > 0 && now-last < soonAgain*c.length {
		c.length = min(2*c.length, longSuspension)
	} else {
		c.length = shortSuspension
	}
	c.left.Store(c.grant)
	c.until.Store(int64(now + c.length))
}
