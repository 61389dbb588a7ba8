package limiter

import (
	"testing"
	"time"
)

// The other algorithms keep their limit in a fleet too: no more pass in a window than one node would let.
func TestFleetOfWindows(t *testing.T) {
	for _, interval := range []time.Duration{quickly, usually} {
		for _, c := range []struct {
			intent    string
			algorithm Algorithm
			rate      Rate
			burst     int64
			load      load
			low, high float64 // per cent more than by one bucket
		}{
			{"a fixed window, evenly", FixedWindow, Rate{1000, second}, 0, even(3000, 4), -5, 0.5},
			{"a fixed window, on one node", FixedWindow, Rate{1000, second}, 0, one(3000), -3, 0.5},
			{"a fixed window, by Zipf", FixedWindow, Rate{1000, second}, 0, zipf(3000, 4), -5, 0.5},
			{"a fixed window, below", FixedWindow, Rate{1000, second}, 0, even(900, 4), -2, 0.5},
			{"a sliding window, evenly", SlidingWindow, Rate{1000, second}, 0, even(3000, 4), -5, 1},
			{"a sliding window, on one node", SlidingWindow, Rate{1000, second}, 0, one(3000), -5, 1},
			{"a leaky bucket, evenly", LeakyBucket, Rate{1000, second}, 500, even(3000, 4), -1, 1},
			{"a leaky bucket, on one node", LeakyBucket, Rate{1000, second}, 500, one(3000), -1, 1},
		} {
			spec := Spec{Name: "r", Algorithm: c.algorithm, Rate: c.rate, Burst: c.burst, MaxWait: second / 2, Shared: true}
			s := newSimulation(4, 1000, 1000, interval, near, oursOf(func(s *Spec) { *s = spec }))
			spec.Name, spec.Shared = "o", false
			s.oracleOf = reload(t, s.oracle, 0, spec)[0]
			spec.Name, spec.Shared = "r", true
			s.load, s.settle = c.load, 0
			s.run(4 * second)
			r := s.result()
			if r.rate < c.low || r.rate > c.high {
				t.Errorf("%v, %s: %v", interval, c.intent, r)
			}
			t.Logf("%v, %s: %v; %s", interval, c.intent, r, s.traffic())
		}
	}
}
