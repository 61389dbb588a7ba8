package gossip

import (
	"math"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

// scenario is a fleet under a load, and what may come of it at most, in percent. Where no excess is given it is 1.
type scenario struct {
	intent   string
	nodes    int
	above    int // with more others than that they relay; 0: FullMesh
	load     load
	burst    int64 // 0: 1000
	interval time.Duration
	change   func(f *fleet)
	during   func(f *fleet) // instead of serving for eight seconds

	rate    float64 // fewer admitted than by one bucket; 0: not judged
	wronged float64 // refused wrongly; 0: not judged
	fair    float64 // at least
	excess  float64 // of rate * 1 s + burst
}

func (s scenario) run(t *testing.T) {
	t.Parallel()
	if s.nodes > 8 && raceEnabled {
		t.Skip("slow")
	}
	if s.burst == 0 {
		s.burst = 1000
	}
	if s.interval == 0 {
		s.interval = testInterval
	}
	if s.excess == 0 {
		s.excess = 1
	}
	f := newFleet(t, s.nodes, s.above, 1000, s.burst, s.interval)
	f.load = s.load
	if s.change != nil {
		s.change(f)
	}
	packets, bytes, began := f.carried, f.bytes, f.now
	switch {
	case s.during != nil:
		s.during(f)
	case raceEnabled || testing.Short():
		f.serve(3 * time.Second)
	default:
		f.serve(8 * time.Second)
	}
	o, each := f.outcome(), (f.now-began).Seconds()*float64(s.nodes)
	t.Logf("%v; %.0f packets/s and %.1f kB/s a node", o, float64(f.carried-packets)/each, float64(f.bytes-bytes)/each/1000)
	if o.excess > s.excess || s.rate > 0 && o.rate < -s.rate || s.wronged > 0 && o.wronged > s.wronged || o.fair < s.fair {
		t.Errorf("%v; wanted excess up to %v, rate from -%v, wronged up to %v, fair from %v", o, s.excess, s.rate, s.wronged, s.fair)
	}
}

// The laws of a fleet: what several nodes admit together is what one would, in every weather.
func TestFleetKeepsOneLimit(t *testing.T) {
	const half = time.Second / 2
	lose := func(share float64) func(f *fleet) { return func(f *fleet) { f.loss = share } }
	for _, s := range []scenario{
		{intent: "two nodes, evenly", nodes: 2, load: even(3000, 2), rate: 1},
		{intent: "three nodes, evenly", nodes: 3, load: even(3000, 3), rate: 1},
		{intent: "eight nodes, evenly", nodes: 8, load: even(3000, 8), rate: 1},
		{intent: "a small burst", nodes: 8, load: even(3000, 8), burst: 200, rate: 1},
		{intent: "32 nodes, evenly", nodes: 32, load: even(3000, 32), rate: 1.5},
		{intent: "the default interval", nodes: 3, load: even(3000, 3), interval: 50 * time.Millisecond, rate: 1},
		{intent: "skewed", nodes: 8, load: zipf(3000, 8), rate: 1, fair: 0.94},
		{intent: "all at one node", nodes: 8, load: mostly(3000, 1, 8, 0), rate: 1},
		{intent: "nearly all at one node", nodes: 8, load: mostly(3000, 0.93, 8, 0), rate: 1},
		{intent: "all at one node, and then at another", nodes: 8, load: mostly(3000, 1, 8, half), rate: 1},
		{intent: "below the limit", nodes: 8, load: even(900, 8), burst: 200, rate: 1, wronged: 0.2},
		{intent: "below the limit, skewed", nodes: 8, load: zipf(900, 8), burst: 200, rate: 1, wronged: 0.2},
		{intent: "below the limit, at one node", nodes: 8, load: mostly(900, 1, 8, 0), burst: 200, rate: 1, wronged: 0.2},
		{intent: "a flash crowd", nodes: 8, load: flash(200_000, 8), rate: 2.5},
		{intent: "on and off", nodes: 8, load: onOff(50_000, 500, 8), rate: 2.5},
		{intent: "1 % lost", nodes: 8, load: even(3000, 8), change: lose(0.01), rate: 1},
		{intent: "10 % lost", nodes: 8, load: even(3000, 8), change: lose(0.1), rate: 1},
		{intent: "30 % lost", nodes: 8, load: even(3000, 8), change: lose(0.3), rate: 2},
		{intent: "30 % lost, a flash crowd", nodes: 8, load: flash(200_000, 8), change: lose(0.3)},
		{intent: "packets come late, twice and broken", nodes: 8, load: even(3000, 8), change: func(f *fleet) {
			f.jitter, f.twice, f.flip = 20*time.Millisecond, 1, 0.02
		}, rate: 2},
		{intent: "far apart", nodes: 8, load: even(3000, 8), interval: 20 * time.Millisecond, change: func(f *fleet) { f.delay = 40 * time.Millisecond }, rate: 2},
		{intent: "clocks drift by 100 ppm", nodes: 8, load: even(3000, 8), change: func(f *fleet) {
			for i, h := range f.hosts {
				h.drift = []float64{-1e-4, 1e-4}[i%2]
			}
		}, rate: 1},
	} {
		t.Run(s.intent, s.run)
	}
}

// A network that is cut costs little more than what was under way, and heals at once.
func TestFleetCutInTwo(t *testing.T) {
	for _, c := range []struct {
		below  int
		intent string
	}{{4, "in halves"}, {7, "one alone"}} {
		s := scenario{nodes: 8, load: even(3000, 8), excess: 6, // 4 % of rate * 3 s
			during: func(f *fleet) {
				f.serve(2 * time.Second)
				f.cut = between(c.below)
				f.serve(3 * time.Second)
				f.cut = nil
				f.serve(200 * time.Millisecond)
				for _, h := range f.hosts {
					if h.alive() != 7 {
						t.Errorf("%s: %s sees %d peers 200 ms after", c.intent, h.node.name, h.alive())
					}
				}
				f.serve(3 * time.Second)
			}}
		t.Run(c.intent, s.run)
	}
}

// A node that is killed takes no more with it than it held. One that restarts does not begin with a full bucket, nor
// with more debt than the others: then it would get nothing for as long as they are at the limit, and fairness be 0.75.
func TestFleetKilledAndRestarted(t *testing.T) {
	for _, away := range []time.Duration{100 * time.Millisecond, 5 * time.Second} {
		s := scenario{nodes: 4, load: even(3000, 4), during: func(f *fleet) {
			f.serve(2 * time.Second)
			f.kill(f.hosts[3])
			f.serve(away)
			f.start(f.hosts[3])
			f.serve(100 * time.Millisecond)
			clear(f.asked)
			clear(f.passed)
			f.byCentral = 0
			f.serve(2 * time.Second)
		}, rate: 1.5, fair: 0.85}
		t.Run(away.String(), s.run)
	}
	s := scenario{nodes: 4, load: even(3000, 4), during: func(f *fleet) {
		f.serve(time.Second)
		for _, h := range f.hosts {
			h.node.Leave(f.now)
			f.kill(h)
			f.serve(300 * time.Millisecond)
			f.start(h)
			f.serve(time.Second)
		}
	}, rate: 1.5, fair: 0.85}
	t.Run("one after the other", s.run)
}

// Members that get no processor for a while are called silent, and the fleet goes on; when they are back, all see the
// same in the bucket again, and have their shares. A member that is starved may serve requests all the same.
func TestFleetOfStarvedMembers(t *testing.T) {
	for _, c := range []struct {
		intent string
		nodes  int
		load   load
		serves bool
	}{
		{"three, which serve", 3, even(3000, 3), true},
		{"three, which do not", 3, even(3000, 3), false},
		{"eight, which serve", 8, even(3000, 8), true},
		{"eight, which do not", 8, even(3000, 8), false},
		{"skewed", 8, zipf(3000, 8), true},
		{"a little above the limit", 3, even(1200, 3), true},
	} {
		f := newFleet(t, c.nodes, 0, 1000, 1000, 50*time.Millisecond)
		f.load = func(now time.Duration, node int) float64 {
			if !c.serves && f.hosts[node].stalled > f.now {
				return 0
			}
			return c.load(now, node)
		}
		f.serve(2 * time.Second)
		for range 8 {
			h := f.hosts[f.rand.IntN(c.nodes)]
			for h.stalled > f.now {
				h = f.hosts[f.rand.IntN(c.nodes)]
			}
			h.stalled = f.now + time.Duration(300+f.rand.IntN(500))*time.Millisecond
			f.serve(700 * time.Millisecond)
		}
		during := f.outcome()
		f.serve(1500 * time.Millisecond)
		clear(f.asked)
		clear(f.passed)
		f.byCentral, f.wronged = 0, 0
		f.serve(2 * time.Second)
		after := f.outcome()
		if during.excess > 4 || during.rate < -15 || after.fair < 0.88 || f.apart() > 50 {
			t.Errorf("%s: starved %v; afterwards %v, %d tokens apart", c.intent, during, after, f.apart())
		} else {
			t.Logf("%s: starved %v; afterwards %v, %d tokens apart", c.intent, during, after, f.apart())
		}
	}
}

// apart is by how many tokens what the nodes see in the bucket differs.
func (f *fleet) apart() int64 {
	least, most := int64(math.MaxInt64), int64(0)
	for _, h := range f.hosts {
		n, debts := int64(0), []limiter.Delta(nil)
		debts, _ = h.member.Snapshot(h.clock(f.now), 0, make([]limiter.Delta, 0, 4))
		for i := range debts {
			n += int64(debts[i].Units)
		}
		least, most = min(least, n), max(most, n)
	}
	return most - least
}

// Two fleets that began apart, each with the whole limit, keep it as one as soon as they meet.
func TestFleetsThatMergeKeepOneLimit(t *testing.T) {
	for _, c := range []struct {
		intent string
		load   load
		fair   float64
	}{
		{"both at the limit", even(3000, 8), 0.9},
		{"one side has most of the load", zipf(3000, 8), 0.85},
		{"the load moves to the other side", func(now time.Duration, node int) float64 {
			if (now < 3*time.Second) == (node < 4) {
				return 750
			}
			return 0
		}, 0.75},
	} {
		f := newFleet(t, 0, 0, 1000, 1000, 50*time.Millisecond)
		f.asked, f.passed, f.cut = make([]float64, 8), make([]float64, 8), between(4)
		f.network.begin(8)
		f.know(4)
		f.run(time.Second)
		f.begun, f.load = f.now, c.load
		f.serve(3 * time.Second)
		f.cut = nil
		f.know(8)
		f.serve(200 * time.Millisecond)
		f.level, f.excess, f.byCentral = 1000, 0, 0 // what they let pass is all that there was
		clear(f.asked)
		clear(f.passed)
		f.serve(3 * time.Second)
		if o := f.outcome(); f.excess > 60 || o.fair < c.fair || o.rate < -2 {
			t.Errorf("%s: %.0f tokens too many, %v", c.intent, f.excess, o)
		} else {
			t.Logf("%s: %.0f tokens too many, %v", c.intent, f.excess, o)
		}
	}
}

// know tells the nodes of those who are on their side: the first so many, and the others.
func (w *network) know(side int) {
	all := w.everybody()
	for _, h := range w.hosts {
		if h.index < side {
			h.node.Members(w.now, all[:side])
		} else {
			h.node.Members(w.now, all[side:])
		}
	}
}
