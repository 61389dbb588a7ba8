package central

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A breaker opens after failures in a row, or when half fail, and not for a few among many.
func TestBreakerOpens(t *testing.T) {
	for _, c := range []struct {
		intent   string
		outcomes string // . answered, x failed
		open     bool
	}{
		{"one failure", "x", false},
		{"four in a row", "xxxx", false},
		{"five in a row", "xxxxx", true},
		{"four, an answer, four", "xxxx.xxxx", false},
		{"half of many", "x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x", true},
		{"a third of many", "x..x..x..x..x..x..x..x..x..x..x..x..", false},
		{"long ago", "xxxx................................xxxx", false},
		{"an answer closes it", "xxxxx.", false},
		{"and what was before is forgotten", "xxxxx.xxxx", false},
	} {
		var b breaker
		for _, o := range c.outcomes {
			if o == 'x' {
				b.failed(time.Second)
			} else {
				b.succeeded()
			}
		}
		if b.open() != c.open {
			t.Errorf("%s: open %v", c.intent, b.open())
		}
	}
}

// Of all that come at once after the rest, one finds out; the others come again after the next.
func TestBreakerProbesAlone(t *testing.T) {
	var b breaker
	now := time.Second
	for range inARow {
		b.failed(now)
	}
	if b.admit(now + openFor) {
		t.Error("somebody passes too early")
	}
	for round := range 3 {
		now += openFor + 1
		var passed atomic.Int32
		var all sync.WaitGroup
		for range 32 {
			all.Go(func() {
				if b.admit(now) {
					passed.Add(1)
				}
			})
		}
		all.Wait()
		if n := passed.Load(); n != 1 {
			t.Errorf("round %d: %d pass, want 1", round, n)
		}
		if wait := b.reopens(now); wait <= 0 || wait > openFor+1 {
			t.Errorf("the next may try in %v", wait)
		}
		b.failed(now)
	}
	if !b.succeeded() || !b.admit(now) || !b.admit(now) || b.reopens(now) != 0 {
		t.Error("an answer does not close it")
	}
}
