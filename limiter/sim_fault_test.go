package limiter

import (
	"testing"
	"time"
)

// Frames that are lost are repaired; until then nobody takes what they told of.
func TestFleetLosesFrames(t *testing.T) {
	for _, interval := range []time.Duration{quickly, usually} {
		for _, c := range []struct {
			loss, rate float64
		}{{0, -0.5}, {0.01, -0.5}, {0.1, -1}, {0.3, -2}} {
			if !atLength() && (c.loss < 0.1 || c.loss < 0.3 && interval == quickly) {
				continue
			}
			scene := scenario{"", 8, 1000, even(3000, 8), target{1, c.rate, 0, 0}}
			s, r := scene.run(interval, near, simTime(7), oursOf(nil), func(s *simulation) { s.loss = c.loss })
			if r.misses(scene.want) {
				t.Errorf("%v, %v lost: %v", interval, c.loss, r)
			}
			t.Logf("%v, %v lost: %v; %s", interval, c.loss, r, s.traffic())
		}
		scene := scenario{"", 8, 1000, even(3000, 8), target{1, -3, 0, 0}}
		_, r := scene.run(interval, near, simTime(7), oursOf(nil), func(s *simulation) {
			s.lossy = func(now time.Duration) bool { return now%(2*second) > second && now%(2*second) < 1200*time.Millisecond }
			s.silence = second
		})
		if r.misses(scene.want) {
			t.Errorf("%v, all lost for 200ms at times: %v", interval, r)
		}
		t.Logf("%v, all lost for 200ms at times: %v", interval, r)
	}
}

// Without repair, what is lost is taken twice: by q/(1-q), where q is the part of what each node admits that is lost to
// another one. So the simulated network loses what it says.
func TestLossWithoutRepair(t *testing.T) {
	const loss = 0.1
	scene := scenario{"", 8, 1000, even(3000, 8), target{}}
	_, r := scene.run(quickly, near, simTime(7), oursOf(nil), func(s *simulation) { s.loss, s.noRepair = loss, true })
	q := loss * 7 / 8
	if want := 100 * q / (1 - q); r.rate < want-2 || r.rate > want+2 {
		t.Errorf("%v; wanted %+.1f%%", r, want)
	}
}

// A fleet that falls apart keeps its limit as well.
func TestFleetPartition(t *testing.T) {
	for _, interval := range []time.Duration{quickly, usually} {
		for _, side := range []int{1, 4} {
			for _, long := range []time.Duration{3 * second, 8 * second} {
				if !atLength() && (long > 3*second || interval == usually && side == 1) {
					continue
				}
				s := newSimulation(8, 1000, 1000, interval, near, oursOf(nil))
				s.load = even(3000, 8)
				from, to := 2*second, 2*second+long
				s.cut = func(now time.Duration, a, b int) bool { return now >= from && now < to && (a < side) != (b < side) }
				s.run(from)
				s.level, s.excess = 0, 0
				before := s.passed
				s.run(to)
				extra := 100 * (float64(s.passed-before) - 1000*long.Seconds()) / (1000 * long.Seconds())
				if extra > 4 || extra < -30 {
					t.Errorf("%v, %d of 8 cut off for %v: %+.1f%% passed", interval, side, long, extra)
				}
				s.run(to + 200*time.Millisecond)
				healed := s.passed
				at := s.byOracle
				s.run(to + 1200*time.Millisecond)
				after := 100 * float64(s.passed-healed-(s.byOracle-at)) / 1000
				if after > 4 || after < -4 {
					t.Errorf("%v, %d of 8 cut off for %v: 200 ms after they met again %+.1f%% passed", interval, side, long, after)
				}
				t.Logf("%v, %d of 8 cut off for %v: %+.1f%% passed; healed: %+.1f%%", interval, side, long, extra, after)
			}
		}
	}
}

// What a killed node has admitted and not told is lost. It is no more than its share.
func TestFleetKill(t *testing.T) {
	for _, interval := range []time.Duration{quickly, usually} {
		for _, c := range []struct {
			intent  string
			pause   time.Duration
			restore bool
		}{
			{"back at once", 100 * time.Millisecond, true},
			{"back after all have missed it", 700 * time.Millisecond, true},
			{"back without its peers' debts", 100 * time.Millisecond, false},
		} {
			s := newSimulation(8, 1000, 1000, interval, near, oursOf(nil))
			s.load = even(3000, 8)
			for round := range 2 {
				s.run(s.now + 800*time.Millisecond)
				n := s.nodes[round]
				n.down = true
				s.run(s.now + c.pause)
				s.start(round, oursOf(nil)(s, round))
				if c.restore {
					s.run(s.now + 2*time.Millisecond)
					s.restore(n, s.nodes[7])
				}
			}
			s.run(s.now + second)
			if r := s.result(); r.excess > 1 {
				t.Errorf("%v, %s: %v", interval, c.intent, r)
			} else {
				t.Logf("%v, %s: %v", interval, c.intent, r)
			}
		}
	}
}

// restore lets a node that has begun anew have what another knows.
func (s *simulation) restore(n, from *simNode) {
	to, other := n.engine.(*ours).limiter, from.engine.(*ours).limiter
	page := make([]Delta, 0, 8)
	for cursor := uint64(0); ; {
		page, cursor = other.Snapshot(from.clock(s.now), cursor, page)
		to.Restore(n.clock(s.now), s.delay, page)
		if cursor == 0 {
			return
		}
	}
}

// Far away, with a burst of a second.
func TestFleetFarApart(t *testing.T) {
	scene := scenario{"", 8, 1000, even(3000, 8), target{1, -2, 0, 0}}
	s, r := scene.run(20*time.Millisecond, 40*time.Millisecond, simTime(7), oursOf(nil), nil)
	if r.misses(scene.want) {
		t.Error(r)
	}
	t.Logf("%v; %s", r, s.traffic())
}

// Clocks run at rates that differ a little, and at times that differ a lot.
func TestFleetClocks(t *testing.T) {
	for _, c := range []struct {
		drift, most float64
	}{{100e-6, 0.3}, {0.01, 1.7}} {
		s := newSimulation(8, 1000, 1000, quickly, near, oursOf(nil))
		s.load = even(3000, 8)
		for i, n := range s.nodes {
			n.drift = c.drift * float64(i%2)
		}
		s.run(simTime(7))
		if r := s.result(); r.rate > c.most || r.rate < -1 {
			t.Errorf("drift %v: %v", c.drift, r)
		} else {
			t.Logf("drift %v: %v", c.drift, r)
		}
	}
	for _, step := range []time.Duration{time.Hour, -time.Hour} {
		stepped := func(s *simulation, node int) engine {
			e := oursOf(nil)(s, node).(*ours)
			if node == 3 { // it began when its clock on the wall was wrong
				l := New(Options{Capacity: 64, Secret: [16]byte{1, 2, 3}, Epoch: epoch.Add(step), Interval: s.interval})
				u, _ := l.Prepare([]Spec{e.rule.spec})
				u.Commit(0)
				e.limiter, e.rule = l, u.Rules()[0]
				e.charges[0].Rule = e.rule
			}
			return e
		}
		scene := scenario{"", 8, 1000, even(3000, 8), target{1, -1, 0, 0}}
		if _, r := scene.run(quickly, near, simTime(4), stepped, nil); r.misses(scene.want) {
			t.Errorf("wall clock %v off: %v", step, r)
		}
	}
}

// Of limits too small to be shared out, the rate is kept, and as many may pass too many as there are peers.
func TestFleetSmallLimits(t *testing.T) {
	for _, n := range []int{8, 32} {
		for _, limit := range []int64{1, 5, 10} {
			for _, times := range []float64{3, 300} {
				if !atLength() && (n > 8 || limit == 1) {
					continue
				}
				s := newSimulation(n, limit, limit, quickly, near, oursOf(nil))
				s.step = 2 * time.Millisecond
				s.load = even(times*float64(limit), n)
				tokens := int64(200)
				if !atLength() {
					tokens = 60
				}
				s.run(time.Duration(tokens/limit) * second)
				r := s.result()
				if off := s.passed - s.byOracle; s.excess > float64(n-1) || max(off, -off) > max(8, s.byOracle/20) {
					t.Errorf("%d nodes, %d a second, %v times that: %.1f tokens too many, %v", n, limit, times, s.excess, r)
				}
				t.Logf("%d nodes, %d a second, %v times that: %.1f tokens too many, %v", n, limit, times, s.excess, r)
			}
		}
	}
}

// Nor do more of any limit below two tokens for each node, when frames are lost, and when nodes are killed and come back.
func TestFleetSmallLimitsInTrouble(t *testing.T) {
	for _, n := range []int{3, 8, 32} {
		for limit := int64(1); limit <= int64(2*n); limit++ {
			if !atLength() && n > 3 && limit%int64(n) != 1 && limit != int64(2*n) {
				continue
			}
			for _, c := range []struct {
				intent string
				each   float64 // requests a second
				loss   float64
				kills  int
			}{
				{"a flood: all nodes are asked more than once before any is told of the others", 2000, 0, 0},
				{"a flood, of whose frames one in ten is lost", 2000, 0.1, 0},
				{"one in ten frames is lost", 30, 0.1, 0},
				{"nodes are killed", 30, 0, 3},
			} {
				interval := usually
				if limit%2 == 0 {
					interval = quickly
				}
				s := newSimulation(n, limit, limit, interval, near, oursOf(nil))
				s.step, s.loss, s.load = 2*time.Millisecond, c.loss, even(c.each*float64(n), n)
				for k := range c.kills {
					s.run(s.now + 600*time.Millisecond)
					s.nodes[k%n].down = true
					s.run(s.now + 400*time.Millisecond)
					s.start(k%n, oursOf(nil)(s, k%n))
					s.run(s.now + 2*s.step)
					s.restore(s.nodes[k%n], s.nodes[n-1])
				}
				s.run(max(s.now+second, simTime(6)))
				if s.excess > float64(n-1)+float64(limit)*s.step.Seconds() { // what comes in during a step counts after it
					t.Errorf("%d nodes, %d a second, %s: %.2f tokens too many", n, limit, c.intent, s.excess)
				}
			}
		}
	}
}

// The rule changes under load, on all nodes at once, and the fleet goes on as one bucket would.
func TestFleetReload(t *testing.T) {
	for _, c := range []struct {
		intent string
		spec   Spec
	}{
		{"ten times the rate", Spec{Rate: Rate{10_000, second}, Burst: 1000}},
		{"a tenth of the rate", Spec{Rate: Rate{100, second}, Burst: 1000}},
		{"less burst", Spec{Rate: Rate{1000, second}, Burst: 300}},
		{"more burst", Spec{Rate: Rate{1000, second}, Burst: 3000}},
		{"another algorithm", Spec{Rate: Rate{1000, second}, Algorithm: SlidingWindow}},
	} {
		c.spec.Name = "r"
		s := newSimulation(8, 1000, 1000, quickly, near, oursOf(nil))
		s.load = even(15_000, 8)
		s.run(1200 * time.Millisecond)
		c.spec.Name = "o"
		s.oracleOf = reload(t, s.oracle, s.now, c.spec)[0]
		c.spec.Name, c.spec.Shared = "r", true
		passed, byOracle := s.passed, s.byOracle
		for _, n := range s.nodes {
			e := n.engine.(*ours)
			e.rule = reload(t, e.limiter, n.clock(s.now), c.spec)[0]
			e.charges[0].Rule = e.rule
		}
		s.run(s.now + time.Second)
		got, want := s.passed-passed, s.byOracle-byOracle
		most := float64(want) + 0.01*float64(c.spec.Rate.N+max(c.spec.Burst, c.spec.Rate.N))
		if float64(got) > most || float64(got) < 0.9*float64(want)-20 {
			t.Errorf("%s: %d passed in a second, of %d", c.intent, got, want)
		}
		t.Logf("%s: %d passed in a second, of %d", c.intent, got, want)
	}
}

// Load a little above the rate, so thin on each node that its bucket is full again after each request, is seen all
// the same.
func TestFleetSeesThinLoad(t *testing.T) {
	for _, interval := range []time.Duration{quickly, usually} {
		for _, n := range []int{8, 32, 96} {
			if !atLength() && (n > 32 || n > 8 && interval == quickly) {
				continue
			}
			s := newSimulation(n, 1000, 200, interval, near, oursOf(nil))
			s.load = even(1100, n)
			s.run(simTime(10))
			if r := s.result(); s.excess > 12 || r.rate < -5 {
				t.Errorf("%d nodes, %v: %.1f tokens too many, %v", n, interval, s.excess, r)
			} else {
				t.Logf("%d nodes, %v: %.1f tokens too many, %v; %s", n, interval, s.excess, r, s.traffic())
			}
		}
	}
}

// Two intervals and two delays after the last request, all nodes see the same, but for a little that can wait or was
// forgiven while the bucket was nearly full.
func TestFleetConverges(t *testing.T) {
	for _, interval := range []time.Duration{quickly, usually} {
		for _, total := range []float64{900, 3000, 50_000} {
			s := newSimulation(8, 1000, 1000, interval, near, oursOf(nil))
			s.load = func(now time.Duration, node int) float64 {
				if now >= second {
					return 0
				}
				return zipf(total, 8)(now, node)
			}
			s.run(second + 2*interval + 2*near + 5*time.Millisecond)
			if least, most := s.views(); most-least > 15 {
				t.Errorf("%v, %v requests a second: buckets hold from %d to %d", interval, total, least, most)
			}
		}
	}
}

// views is what the nodes see in the bucket: the least, and the most.
func (s *simulation) views() (least, most int64) {
	least, most = s.burst, -1<<62
	for _, n := range s.nodes {
		o := n.engine.(*ours)
		room, unit := s.burst, int64(1)
		if w, _, _ := ptr(o.limiter.book.Load().place(o.rule.base, simKey)).findWide(); w != nil {
			room, unit = o.rule.base.policy.Load().room(w.word.Load()&valueMask, int64(s.now))
		}
		least, most = min(least, room/unit), max(most, room/unit)
	}
	return least, most
}
