package gossip

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

// fleet is real limiters and real nodes on a virtual network, which clients ask, and one bucket that all that was
// admitted is poured into: what it holds beyond the burst is the excess.
type fleet struct {
	*network
	rate, burst int64
	load        func(now time.Duration, node int) float64 // requests a second
	asked       []float64                                 // by node
	passed      []float64
	level       float64
	excess      float64
	central     *limiter.Limiter // gets the same requests

	centralTakes func(time.Duration) bool
	byCentral    float64
	wronged      float64 // refused by a node, admitted by the central bucket
	begun        time.Duration
}

// member is a limiter that is watched.
type member struct {
	*limiter.Limiter
	h     *host
	takes func(now time.Duration) bool
}

func (m *member) Fleet(now time.Duration, members []limiter.Member) {
	m.h.book.Fleet(now, members)
	m.Limiter.Fleet(now, members)
}

func newLimiter(t testing.TB, rate, burst int64, interval time.Duration, shared bool) (*limiter.Limiter, func(time.Duration) bool) {
	l := limiter.New(limiter.Options{Capacity: 64, Secret: [16]byte{1}, Epoch: time.Unix(1_700_000_000, 0), Peers: MaxMembers, Interval: interval})
	u, err := l.Prepare([]limiter.Spec{{Name: "r", Rate: limiter.Rate{N: rate, Per: time.Second}, Burst: burst, Shared: shared}})
	if err != nil {
		t.Fatal(err)
	}
	u.Commit(0)
	charges, verdicts := []limiter.Charge{{Rule: u.Rules()[0], Key: 1}}, make([]limiter.Verdict, 1)
	return l, func(now time.Duration) bool { return l.Take(now, charges, verdicts) }
}

// newFleet makes a fleet that relays if each node has more than above others.
func newFleet(t testing.TB, nodes, above int, rate, burst int64, interval time.Duration) *fleet {
	f := &fleet{network: newNetwork(t, 0, 1), rate: rate, burst: burst, asked: make([]float64, MaxMembers+1), passed: make([]float64, MaxMembers+1)}
	f.timing, f.above = interval, above
	f.ledger = func(h *host) Ledger {
		m := &member{h: h}
		m.Limiter, m.takes = newLimiter(t, rate, burst, interval, true)
		h.member = m
		return m
	}
	f.begin(nodes)
	f.meet()
	f.begun = f.now
	return f
}

const step = 500 * time.Microsecond

// poisson is a number of events of which so many are to be expected.
func (f *fleet) poisson(mean float64) int {
	if mean > 50 {
		return max(0, int(math.Round(mean+math.Sqrt(mean)*f.rand.NormFloat64())))
	}
	limit, n := math.Exp(-mean), 0
	for p := f.rand.Float64(); p > limit; p *= f.rand.Float64() {
		n++
	}
	return n
}

// serve lets clients ask for d; of the first second only the excess counts.
func (f *fleet) serve(d time.Duration) {
	if f.central == nil {
		var takes func(time.Duration) bool
		f.central, takes = newLimiter(f.t, f.rate, f.burst, 0, false)
		load := f.load
		f.load = func(now time.Duration, node int) float64 { return load(now-f.begun, node) }
		f.centralTakes = takes
	}
	for end := f.now + d; f.now < end; f.run(step) {
		for i, h := range f.hosts {
			if h.down {
				continue
			}
			for range f.poisson(f.load(f.now, i) * step.Seconds()) {
				f.request(i, h)
			}
			select {
			case <-h.member.Pressing():
				h.node.Hurry()
				f.tick(h, h.life)
			default:
			}
		}
		f.level = max(0, f.level-float64(f.rate)*step.Seconds())
	}
}

func (f *fleet) request(i int, h *host) {
	counted := f.now-f.begun > time.Second
	central, here := f.centralTakes(f.now), h.member.takes(h.clock(f.now))
	if here {
		f.level++
		f.excess = max(f.excess, f.level-float64(f.burst))
	}
	if !counted {
		return
	}
	f.asked[i]++
	if here {
		f.passed[i]++
	}
	if central {
		f.byCentral++
		if !here {
			f.wronged++
		}
	}
}

// outcome is in percent, but for fairness.
type outcome struct{ excess, rate, wronged, fair float64 }

func (f *fleet) outcome() outcome {
	o := outcome{excess: 100 * f.excess / float64(f.rate+f.burst)}
	var asked, passed, shares, squares, n float64
	for i := range f.asked {
		asked, passed = asked+f.asked[i], passed+f.passed[i]
		if f.asked[i] > 20 {
			x := f.passed[i] / f.asked[i]
			shares, squares, n = shares+x, squares+x*x, n+1
		}
	}
	o.rate, o.wronged = 100*(passed-f.byCentral)/f.byCentral, 100*f.wronged/asked
	o.fair = shares * shares / (n * squares)
	return o
}

func (o outcome) String() string {
	return fmt.Sprintf("excess %.2f%%, rate %+.2f%%, wronged %.2f%%, fair %.3f", o.excess, o.rate, o.wronged, o.fair)
}

type load = func(now time.Duration, node int) float64

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

// mostly is with one node, which changes as often as every says; 0: never.
func mostly(total, share float64, n int, every time.Duration) load {
	return func(now time.Duration, node int) float64 {
		at := 0
		if every > 0 {
			at = int(now/every) % n
		}
		if node == at {
			return share * total
		}
		return (1 - share) * total / float64(n-1)
	}
}

// flash is in the third second of every four.
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
		if now%time.Second < time.Second/2 {
			return high / float64(n)
		}
		return low / float64(n)
	}
}
