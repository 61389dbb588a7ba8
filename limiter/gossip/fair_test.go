package gossip

import (
	"math/rand/v2"
	"testing"
	"time"
)

// trouble is what befalls a fleet whose members are asked alike, each for three times the limit.
type trouble struct {
	intent string
	happen func(f *fleet, last *host)
}

func troubles() []trouble {
	const ms = time.Millisecond
	apart := func(h *host) func(from, to int) bool {
		return func(from, to int) bool { return from == h.index || to == h.index }
	}
	// restarted is away, and when it is back it hears nobody at first, though it serves; then it is starved.
	restarted := func(away, unheard, starved time.Duration) func(*fleet, *host) {
		return func(f *fleet, last *host) {
			f.kill(last)
			f.serve(away)
			f.cut = apart(last)
			f.start(last)
			f.serve(unheard)
			f.cut = nil
			f.serve(30 * ms)
			last.stalled = f.now + starved
			f.serve(starved)
		}
	}
	starved := func(each time.Duration, times int) func(*fleet, *host) {
		return func(f *fleet, _ *host) {
			for range times {
				f.hosts[f.rand.IntN(len(f.hosts))].stalled = f.now + each
				f.serve(each * 9 / 10)
			}
			f.serve(each)
		}
	}
	return []trouble{
		{"killed, and back at once", restarted(20*ms, 0, 0)},
		{"killed, and back when it is called silent", restarted(400*ms, 0, 0)},
		{"killed, and back after some seconds", restarted(4*time.Second, 0, 0)},
		{"back at once, and alone for a tenth of a second", restarted(20*ms, 100*ms, 0)},
		{"back, and alone for a second", restarted(400*ms, time.Second, 0)},
		{"back after some seconds, and alone for one", restarted(4*time.Second, time.Second, 0)},
		{"back at once, and starved", restarted(150*ms, 0, 400*ms)},
		{"back, alone, and starved", restarted(2*time.Second, 100*ms, 400*ms)},
		{"starved in turns", starved(500*ms, 4)},
		{"starved for long", starved(900*ms, 3)},
		{"cut off", func(f *fleet, last *host) {
			f.cut = apart(last)
			f.serve(2 * time.Second)
			f.cut = nil
		}},
		{"cut off for long", func(f *fleet, last *host) {
			f.cut = apart(last)
			f.serve(7 * time.Second)
			f.cut = nil
		}},
	}
}

// Members that are asked alike get alike: three seconds after any trouble, and not only when the load relents. Who sees a
// little less in a bucket than others would get nothing of it else.
func TestFleetSharesEvenlyAfterTrouble(t *testing.T) {
	t.Parallel()
	for _, trouble := range troubles() {
		worst, runs := 1.0, 0
		for _, nodes := range []int{2, 3} {
			for _, delay := range []time.Duration{time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond} {
				for seed := range uint64(3) {
					if raceEnabled && seed > 0 {
						continue
					}
					f := newFleet(t, nodes, 0, 300, 300, 50*time.Millisecond)
					f.rand, f.delay = rand.New(rand.NewPCG(seed, 2)), delay
					f.load = even(900*float64(nodes), nodes)
					f.serve(2 * time.Second)
					trouble.happen(f, f.hosts[nodes-1])
					f.serve(3 * time.Second)
					clear(f.asked)
					clear(f.passed)
					f.byCentral = 0
					f.serve(3 * time.Second)
					o := f.outcome()
					if o.fair < 0.88 || o.rate < -3 {
						t.Errorf("%s: %d nodes, %v apart, seed %d: %v got through, %v", trouble.intent, nodes, delay, seed, f.passed[:nodes], o)
					}
					worst, runs = min(worst, o.fair), runs+1
				}
			}
		}
		t.Logf("%s: fair from %.3f in %d runs", trouble.intent, worst, runs)
	}
}

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
