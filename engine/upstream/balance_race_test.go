package upstream

import (
	"sync"
	"testing"
	"time"
)

// TestPickTogether: many goroutines pick, seats come and go, and every pick is a seat that was ready a moment
// before; a seat that is always there keeps the policy from finding none.
func TestPickTogether(t *testing.T) {
	for _, p := range policies() {
		t.Run(string(p), func(t *testing.T) {
			tb := tableOf(t, p, 1, 2, 0, 3, 4)
			var picking, changing sync.WaitGroup
			done := make(chan struct{})
			changing.Go(func() {
				for now := time.Duration(1); ; now += time.Second {
					for i := 1; i < len(tb.seats); i++ {
						select {
						case <-done:
							return
						default:
						}
						tb.seats[i].leave()
						tb.seats[i].comeBack(now)
					}
				}
			})
			for g := range 4 {
				picking.Go(func() {
					d := dice(g)
					for n := range 5000 {
						i := tb.pick(time.Duration(n)*time.Millisecond, d.next(), d.next(), n%7-1)
						if i < 0 || tb.seats[i].weight == 0 {
							t.Errorf("picked %d", i)
							return
						}
						tb.begin(i, 1)
						tb.begin(i, -1)
					}
				})
			}
			picking.Wait()
			close(done)
			changing.Wait()
		})
	}
}

// TestTurnsAreExactTogether: turns are given out once each, by however many goroutines.
func TestTurnsAreExactTogether(t *testing.T) {
	tb := tableOf(t, RoundRobin, 1, 2, 3, 4)
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			d := dice(g)
			for range 2500 {
				tb.begin(tb.pick(0, 0, d.next(), -1), 1)
			}
		})
	}
	all.Wait()
	for i, s := range tb.seats {
		if n := s.inFlight.Load(); n != 1000*s.weight {
			t.Errorf("seat %d has %d of 10000 turns", i, n)
		}
	}
}
