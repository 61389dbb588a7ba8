package limiter

import (
	"time"
)

// engine is how a node decides: ours, or one of the controls.
type engine interface {
	take(now time.Duration) bool
	fleet(now time.Duration, members []Member)
	drain(now time.Duration, to []Delta) []Delta
	merge(now time.Duration, from int, age time.Duration, deltas []Delta)
	acknowledge(now time.Duration, deltas []Delta)
	pressing() bool
	wants() bool // whether pressing was true when it was asked last
}

// ours is the limiter of this package.
type ours struct {
	limiter *Limiter
	rule    *Rule
	pressed bool
	charges []Charge
	result  []Verdict
}

const simKey = Key(0x0123_4567_89ab_cdef)

// oursOf makes nodes whose limiters have one rule: the simulation's, unless change makes it another.
func oursOf(change func(*Spec)) func(s *simulation, node int) engine {
	return func(s *simulation, node int) engine {
		o := Options{Capacity: 64, Secret: [16]byte{1, 2, 3}, Epoch: epoch, Peers: 128, Interval: s.interval}
		l := New(o)
		spec := Spec{Name: "r", Rate: Rate{s.rate, second}, Burst: s.burst, Shared: true}
		if change != nil {
			change(&spec)
		}
		u, err := l.Prepare([]Spec{spec})
		if err != nil {
			panic("BUG: " + err.Error())
		}
		u.Commit(s.now)
		r := u.Rules()[0]
		return &ours{limiter: l, rule: r, charges: []Charge{{Rule: r, Key: simKey}}, result: make([]Verdict, 1)}
	}
}

func (o *ours) take(now time.Duration) bool { return o.limiter.Take(now, o.charges, o.result) }
func (o *ours) fleet(now time.Duration, m []Member) {
	o.limiter.Fleet(now, m)
}
func (o *ours) drain(now time.Duration, to []Delta) []Delta { return o.limiter.Drain(now, to) }
func (o *ours) merge(now time.Duration, from int, age time.Duration, deltas []Delta) {
	o.limiter.Merge(now, from, age, deltas)
}
func (o *ours) acknowledge(now time.Duration, deltas []Delta) { o.limiter.Acknowledge(now, deltas) }
func (o *ours) wants() bool                                   { return o.pressed }
func (o *ours) pressing() bool {
	select {
	case <-o.limiter.Pressing():
		o.pressed = true
	default:
		o.pressed = false
	}
	return o.pressed
}

// control is a bucket that counts in tokens, and what the known ways of sharing one do with it.
type control struct {
	rate, burst float64
	full        float64 // seconds: when it is full again
	unsent      uint32
	kind        controlKind
}

type controlKind int

const (
	greedy   controlKind = iota // peers' use is debited, and the rest is anybody's
	maxMerge                    // of one state that all share, the latest is kept
	nth                         // each has an n-th of the limit
)

func controlOf(kind controlKind) func(s *simulation, node int) engine {
	return func(s *simulation, node int) engine {
		c := &control{rate: float64(s.rate), burst: float64(s.burst), kind: kind}
		if kind == nth {
			c.rate, c.burst = c.rate/float64(len(s.nodes)), max(1, c.burst/float64(len(s.nodes)))
		}
		return c
	}
}

func (c *control) take(now time.Duration) bool {
	full := max(c.full, now.Seconds()) + 1/c.rate
	if full-now.Seconds() > c.burst/c.rate+1e-9 {
		return false
	}
	c.full = full
	c.unsent++
	return true
}

func (c *control) drain(now time.Duration, to []Delta) []Delta {
	to = to[:0]
	if c.unsent == 0 || c.kind == nth {
		return to
	}
	d := Delta{Units: c.unsent, Window: uint32(max(0, c.full-now.Seconds()) * 1e6)}
	c.unsent = 0
	return append(to, d)
}

func (c *control) merge(now time.Duration, _ int, age time.Duration, deltas []Delta) {
	for _, d := range deltas {
		if c.kind == maxMerge {
			c.full = max(c.full, (now-age).Seconds()+float64(d.Window)/1e6)
		} else {
			c.full = max(c.full, (now-age).Seconds()) + float64(d.Units)/c.rate
		}
	}
}

func (c *control) fleet(time.Duration, []Member)      {}
func (c *control) acknowledge(time.Duration, []Delta) {}
func (c *control) pressing() bool                     { return false }
func (c *control) wants() bool                        { return false }
