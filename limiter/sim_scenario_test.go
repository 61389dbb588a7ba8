package limiter

import (
	"fmt"
	"math"
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

func onOff(high, low float64, n int) load {
	return func(now time.Duration, _ int) float64 {
		if now%second < second/2 {
			return high / float64(n)
		}
		return low / float64(n)
	}
}

func TestSimExplore(t *testing.T) {
	for _, f := range []time.Duration{10 * time.Millisecond, 50 * time.Millisecond} {
		for _, burst := range []int64{200, 1000} {
			for _, c := range []struct {
				name string
				n    int
				load load
			}{
				{"even3", 2, even(3000, 2)}, {"even3", 3, even(3000, 3)}, {"even3", 8, even(3000, 8)}, {"even3", 32, even(3000, 32)},
				{"zipf", 8, zipf(3000, 8)}, {"one", 8, one(3000)}, {"93", 8, most(3000, 8)}, {"moving", 8, moving(3000, 8)},
				{"even.9", 8, even(900, 8)}, {"zipf.9", 8, zipf(900, 8)}, {"one.9", 8, one(900)}, {"93.9", 8, most(900, 8)}, {"moving.9", 8, moving(900, 8)},
				{"flash", 8, flash(200_000, 8)}, {"onoff", 8, onOff(50_000, 500, 8)},
			} {
				for e, m := range map[string]func(s *simulation, node int) engine{"ours": oursOf(nil), "greedy": controlOf(greedy)} {
					if e != "ours" && c.name != "flash" {
						continue
					}
					s := newSimulation(c.n, 1000, burst, f, time.Millisecond, m)
					s.load = c.load
					s.run(8 * time.Second)
					t.Logf("F=%v B=%d N=%d %s %s: %v  frames/node/s %.0f urgent %.0f deltas %.1f", f, burst, c.n, c.name, e, s.result(),
						float64(s.frames)/float64(c.n)/8, float64(s.urgent)/float64(c.n)/8, float64(s.deltas)/float64(c.n)/8)
				}
			}
		}
	}
	_ = math.Pi
}
