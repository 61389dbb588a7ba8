package introspection

import (
	"sync"
	"time"
)

const (
	failuresMax = 3 // in a row, before the authority is taken for down
	firstPause  = 250 * time.Millisecond
	longPause   = time.Second
)

// circuit keeps requests from an authority that is down: after some failures in a row there is one request at a
// time, and a pause between them, until one succeeds. The pauses stay short, for it is not the authority
// that suffers most from the wait.
type circuit struct {
	random func() float64

	mu       sync.Mutex
	failures int
	retry    time.Time // when the next request may go, while open
	trying   bool      // it is under way
}

// isOpen says whether a request would be refused.
func (c *circuit) isOpen(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refuses(now)
}

// admit says whether a request may go. If so, record must follow.
func (c *circuit) admit(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuses(now) {
		return false
	}
	c.trying = c.failures >= failuresMax
	return true
}

func (c *circuit) refuses(now time.Time) bool {
	return c.failures >= failuresMax && (c.trying || now.Before(c.retry))
}

// record takes note of how a request ended. Those that began before the circuit opened count too.
func (c *circuit) record(now time.Time, well bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trying = false
	if well {
		c.failures = 0
		return
	}
	c.failures++
	pause := min(firstPause<<min(max(c.failures-failuresMax, 0), 10), longPause)
	c.retry = now.Add(time.Duration(float64(pause) * (1 - 0.2*c.random())))
}
