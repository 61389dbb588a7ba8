package limiter

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// result is what a simulation has shown.
type result struct {
	excess  float64 // % of rate*1s + burst
	rate    float64 // % that more (or, below zero, fewer) were admitted than by the central bucket
	wronged float64 // % of requests that the central bucket admitted and a node refused
	jain    float64 // fairness of the nodes' shares of admitted requests (Jain's index)
}

func (s *simulation) result() result {
	r := result{excess: 100 * s.excess / float64(s.rate+s.burst), jain: 1}
	if s.byOracle > 0 {
		r.rate = 100 * float64(s.passed-s.byOracle) / float64(s.byOracle)
		r.wronged = 100 * float64(s.wronged) / float64(s.asked)
	}
	var sum, squares, n float64
	for _, node := range s.nodes {
		if node.asked > 20 {
			x := node.passed / node.asked
			sum, squares, n = sum+x, squares+x*x, n+1
		}
	}
	if squares > 0 {
		r.jain = sum * sum / (n * squares)
	}
	return r
}

func (r result) String() string {
	return fmt.Sprintf("excess %.2f%%, rate %+.2f%%, wronged %.2f%%, jain %.3f", r.excess, r.rate, r.wronged, r.jain)
}

type load func(now time.Duration, node int) float64

func even(total float64, n int) load {
	return func(time.Duration, int) float64 { return total / float64(n) }
}

func zipf(total float64, n int) load {
	sum := 0.0
	for i := range n {
		sum += 1 / float64(i+1)
	}
	return func(_ time.Duration, node int) float64 { return total / sum / float64(node+1) }
}

func one(total float64) load {
	return func(_ time.Duration, node int) float64 {
		if node == 0 {
			return total
		}
		return 0
	}
}

func most(total float64, n int) load {
	return func(_ time.Duration, node int) float64 {
		if node == 0 {
			return 0.93 * total
		}
		return 0.07 * total / float64(n-1)
	}
}

func moving(total float64, n int) load {
	return func(now time.Duration, node int) float64 {
		if int(now/(500*time.Millisecond))%n == node {
			return total
		}
		return 0
	}
}

func flash(total float64, n int) load {
	return func(now time.Duration, _ int) float64 {
		if at := now % (4 * time.Second); at >= 2*time.Second && at < 3*time.Second {
			return total / float64(n)
		}
		return 0
	}
}

// joining is load on one node, that all others come to at once.
func joining(now time.Duration, node int) float64 {
	switch {
	case now >= 2*second:
		return 25_000
	case node == 0:
		return 900
	}
	return 0
}

func onOff(high, low float64, n int) load {
	return func(now time.Duration, _ int) float64 {
		if now%second < second/2 {
			return high / float64(n)
		}
		return low / float64(n)
	}
}

// target is what a scenario must come to, in per cent.
type target struct {
	excess  float64 // at most
	rate    float64 // at least
	wronged float64 // at most; zero: any
	jain    float64 // at least
}

func (r result) misses(g target) bool {
	return r.excess > g.excess || r.rate < g.rate || g.wronged != 0 && r.wronged > g.wronged || r.jain < g.jain
}

type scenario struct {
	name  string
	nodes int
	burst int64
	load  load
	want  target
}

// scenarios is where requests come in, and what is to come of it, for a rate of 1000 a second.
func scenarios(burst int64) []scenario {
	held, quick := target{1, -1, 0, 0}, target{1, -2.5, 0, 0}
	fair := target{1, -1, 0, 0.94}
	free := target{1, -0.2, 0.2, 0.99}
	return []scenario{
		{"three times the rate, evenly, 2 nodes", 2, burst, even(3000, 2), held},
		{"three times the rate, evenly, 3 nodes", 3, burst, even(3000, 3), held},
		{"three times the rate, evenly, 8 nodes", 8, burst, even(3000, 8), fair},
		{"three times the rate, evenly, 32 nodes", 32, burst, even(3000, 32), held},
		{"three times the rate, by Zipf", 8, burst, zipf(3000, 8), fair},
		{"three times the rate, on one node", 8, burst, one(3000), held},
		{"three times the rate, nearly all on one", 8, burst, most(3000, 8), held},
		{"three times the rate, each half second on another", 8, burst, moving(3000, 8), held},
		{"below the rate, evenly", 8, burst, even(900, 8), free},
		{"below the rate, by Zipf", 8, burst, zipf(900, 8), free},
		{"below the rate, on one node", 8, burst, one(900), free},
		{"below the rate, nearly all on one", 8, burst, most(900, 8), free},
		{"below the rate, each half second on another", 8, burst, moving(900, 8), free},
		{"200 times the rate from nothing, on all", 8, burst, flash(200_000, 8), quick},
		{"50 times the rate, on and off", 8, burst, onOff(50_000, 500, 8), quick},
		{"below the rate on one node, and then a flash on all", 8, burst, joining, target{1, -3.5, 0, 0}},
	}
}

func (c scenario) run(interval, delay, long time.Duration, engines func(*simulation, int) engine, change func(*simulation)) (*simulation, result) {
	s := newSimulation(c.nodes, 1000, c.burst, interval, delay, engines)
	s.load = c.load
	if change != nil {
		change(s)
	}
	s.run(long)
	return s, s.result()
}

const (
	quickly = 10 * time.Millisecond
	usually = 50 * time.Millisecond // the default
	near    = time.Millisecond
)

// A fleet admits what one bucket would, wherever the requests come in.
func TestFleetKeepsLimit(t *testing.T) {
	for _, c := range []struct {
		interval time.Duration
		burst    int64
	}{{quickly, 200}, {usually, 1000}, {quickly, 1000}} {
		if c.interval == quickly && c.burst == 1000 && !atLength() {
			continue
		}
		for _, scene := range scenarios(c.burst) {
			if scene.nodes > 8 && !atLength() {
				continue
			}
			t.Run(fmt.Sprintf("%v/%d/%s", c.interval, c.burst, scene.name), func(t *testing.T) {
				s, r := scene.run(c.interval, near, simTime(7), oursOf(nil), nil)
				if r.misses(scene.want) {
					t.Errorf("%v; wanted %+v", r, scene.want)
				}
				t.Logf("%v; %s", r, s.traffic())
			})
		}
	}
}

// atLength says whether to simulate longer, and more nodes: minutes of work.
func atLength() bool { return os.Getenv("SLUICE_SIMULATE") == "long" }

// simTime is how long simulations last.
func simTime(seconds int) time.Duration {
	if !atLength() {
		seconds = min(seconds, 3)
	}
	return time.Duration(seconds) * second
}

func (s *simulation) traffic() string {
	per := float64(len(s.nodes)) * s.now.Seconds()
	return fmt.Sprintf("of each node and second %.0f frames (%.0f early), %.0f deltas", float64(s.frames)/per, float64(s.urgent)/per, float64(s.deltas)/per)
}

// What others do fails where we hold: debits without an escrow, and states merged by their maximum, let too much
// through, and an n-th for each node too little.
func TestControlsFail(t *testing.T) {
	all := scenarios(1000)
	for _, c := range []struct {
		intent string
		kind   controlKind
		scene  scenario
		fails  func(r result) bool
	}{
		{"debits come too late for a flash", greedy, all[13], func(r result) bool { return r.excess > 10 }},
		{"of what two admit at once, the maximum keeps half", maxMerge, all[1], func(r result) bool { return r.excess > 50 && r.rate > 50 }},
		{"one node has no use of the others' parts", nth, all[5], func(r result) bool { return r.rate < -80 }},
		{"nor has the one that load moves to", nth, all[12], func(r result) bool { return r.wronged > 50 }},
	} {
		for _, interval := range []time.Duration{usually, quickly} {
			if interval == quickly && !atLength() {
				continue
			}
			_, r := c.scene.run(interval, near, simTime(7), controlOf(c.kind), nil)
			if !c.fails(r) {
				t.Errorf("%s: %v", c.intent, r)
			}
			_, us := c.scene.run(interval, near, simTime(7), oursOf(nil), nil)
			if us.misses(c.scene.want) {
				t.Errorf("%s: and we do not hold: %v", c.intent, us)
			}
			t.Logf("%v, %s: %s: %v; ours %v", interval, c.scene.name, c.intent, r, us)
		}
	}
}

// 128 nodes, in a full mesh; fewer if it shall not take long.
func TestFleetOfMany(t *testing.T) {
	n, rate := 128, int64(10_000)
	if !atLength() {
		n = 40
	}
	s := newSimulation(n, rate, rate, quickly, near, oursOf(nil))
	s.load = even(3*float64(rate), n)
	s.run(1300 * time.Millisecond)
	if r := s.result(); r.misses(target{1, -2, 0, 0}) {
		t.Error(r)
	} else {
		t.Logf("%v; %s", r, s.traffic())
	}
}

// The figures of BENCHMARKS.md: how large a burst has to be for the interval.
func TestFleetFigures(t *testing.T) {
	if !atLength() {
		t.Skip("SLUICE_SIMULATE=long prints them")
	}
	for _, interval := range []time.Duration{quickly, usually} {
		for _, burst := range []int64{50, 100, 200, 400, 1000} {
			var worst result
			line := ""
			for i, scene := range scenarios(burst)[:15] {
				if scene.nodes > 8 {
					continue
				}
				_, r := scene.run(interval, near, 7*second, oursOf(nil), nil)
				worst.excess = max(worst.excess, r.excess)
				switch {
				case i < 8:
					worst.rate = min(worst.rate, r.rate)
				case i < 13:
					worst.wronged = max(worst.wronged, r.wronged)
				default:
					line += fmt.Sprintf(" | %+.1f", r.rate)
				}
			}
			t.Logf("| %v | %d | %.2f | %+.1f | %.2f%s |", interval, burst, worst.excess, worst.rate, worst.wronged, line)
		}
	}
}
