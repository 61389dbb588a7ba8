package gossip

import (
	"testing"
	"time"
)

// A node that begins anew and is not heard at first takes its part of a bucket that was full, at once, and its part of the
// rate. The others hold as much of the rate for it: that is not given back when it is met, for it never tells.
func TestFleetHoldsForWhoBeginsAlone(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{2, 3} {
		for _, away := range []time.Duration{150 * time.Millisecond, 400 * time.Millisecond, 2 * time.Second} {
			f := newFleet(t, nodes, 0, 300, 300, 50*time.Millisecond)
			f.load = even(900*float64(nodes), nodes)
			f.serve(2 * time.Second)
			last := f.hosts[nodes-1]
			f.kill(last)
			f.serve(away)
			f.cut = func(from, to int) bool { return from == last.index || to == last.index }
			f.start(last)
			f.serve(time.Second)
			f.cut = nil
			f.serve(3 * time.Second)
			if most := 300.0/float64(nodes) + 15; f.excess > most {
				t.Errorf("%d nodes, one away for %v: %.0f tokens too many, want %.0f at most", nodes, away, f.excess, most)
			} else {
				t.Logf("%d nodes, one away for %v: %.0f tokens too many", nodes, away, f.excess)
			}
		}
	}
}
