package limiter

import (
	"testing"
	"time"
)

// starving is a node with two peers, of which the first gets all that a bucket of 1000 a second and a burst of 1000 is
// granted, though clients ask both nodes for 3000 a second: this node sees too little in it.
type starving struct {
	*Limiter
	rule   *Rule
	now    time.Duration
	passed int64
	demand uint32 // of the peer, a minute
	told   int64  // tokens that it tells of, a second
}

func newStarving(t *testing.T, spec Spec, lacks int64) *starving {
	t.Helper()
	l, rules := newFleet(t, 2, spec)
	s := &starving{Limiter: l, rule: rules[0], now: time.Hour, demand: 180_000, told: 1000}
	s.Fleet(s.now, alive(2))
	s.restore(lacks)
	return s
}

func (s *starving) delta(units int64) []Delta {
	p := s.rule.base.policy.Load()
	return []Delta{{Key: 7, Rule: p.rule, Units: uint32(units), Demand: s.demand, Window: p.windowOf(0, int64(s.now))}}
}

// restore makes the bucket lack so much.
func (s *starving) restore(lacks int64) {
	for range 3 { // at once it takes no more than a bucket
		s.Restore(s.now, 0, s.delta(lacks))
	}
}

// resolve tells what the peer sees the bucket lack.
func (s *starving) resolve(lacks int64, age time.Duration) { s.Resolve(s.now, age, s.delta(lacks)) }

// serve lets clients ask for so long, and says whom the node doubts in the end.
func (s *starving) serve(d time.Duration) (peer int, doubts bool) {
	for end := s.now + d; s.now < end; {
		for range 150 {
			if v := takeOne(s.Limiter, s.rule, 7, s.now); !v.Refused {
				s.passed++
			}
		}
		s.now += 50 * time.Millisecond
		s.Acknowledge(s.now, drainAll(s.Limiter, s.now))
		s.Merge(s.now, 0, 0, s.delta(s.told/20))
		if p, ok := s.Doubt(); ok {
			peer, doubts = p, true
		}
	}
	return peer, doubts
}

func (s *starving) sees() int64 {
	w, _, _ := ptr(s.book.Load().place(s.rule.base, 7)).findWide()
	room, unit := s.rule.base.policy.Load().room(w.word.Load()&valueMask, int64(s.now))
	return room / unit
}

// A node doubts what it sees in a bucket when it gets too little of it for a second, though the limit is used and all
// peers are there.
func TestDoubt(t *testing.T) {
	spec := sharedSpec(1000, 1000)
	for _, c := range []struct {
		intent string
		spec   Spec
		lacks  int64 // at first
		change func(s *starving)
		d      time.Duration
		want   bool
	}{
		{"it gets nothing", spec, 1400, nil, 2 * time.Second, true},
		{"not yet for a second", spec, 1400, nil, 800 * time.Millisecond, false},
		{"the peer's clients ask for nearly all", spec, 1400, func(s *starving) { s.demand = 20_000_000 }, 2 * time.Second, true},
		{"the limit is not used up", spec, 3000, func(s *starving) { s.told = 700 }, 2 * time.Second, false},
		{"more than the limit is used", spec, 1400, func(s *starving) { s.told = 1500 }, 2 * time.Second, false},
		{"a peer is silent: its use is held", spec, 1400, func(s *starving) {
			s.Fleet(s.now, []Member{{Peer: 0}, {Peer: 1, State: Silent}})
		}, 2 * time.Second, false},
		{"it gets its share", spec, 1000, func(s *starving) { s.told = 500 }, 2 * time.Second, false},
		{"a window, which begins anew", Spec{Name: "s", Algorithm: FixedWindow, Rate: Rate{1000, second}, Shared: true}, 1000, nil, 2 * time.Second, false},
	} {
		s := newStarving(t, c.spec, c.lacks)
		if c.change != nil {
			c.change(s)
		}
		if peer, got := s.serve(c.d); got != c.want || peer != 0 {
			t.Errorf("%s: doubts %v, of peer %d", c.intent, got, peer)
		}
	}
}

// Who doubts takes over what a peer at the limit sees, less what that one cannot have heard of, and once.
func TestDoubtIsResolved(t *testing.T) {
	for _, c := range []struct {
		intent    string
		lacks     int64 // by the peer
		low, high int64 // of what the node sees then
	}{
		{"the peer sees nothing", 1000, -5, 0},
		{"the peer sees what is usual at the limit", 900, 90, 100},
		{"the peer sees much: it is not at the limit, or wrong", 400, -410, -390},
		{"the peer sees less", 1600, -600, -595},
	} {
		s := newStarving(t, sharedSpec(1000, 1000), 1400)
		s.serve(2 * time.Second)
		s.resolve(c.lacks, 0)
		if n := s.sees(); n < c.low || n > c.high {
			t.Errorf("%s: the node sees %d, want %d to %d", c.intent, n, c.low, c.high)
		}
		before := s.sees()
		s.resolve(c.lacks-50, 0)
		s.resolve(1800, 0)
		if n := s.sees(); n != before {
			t.Errorf("%s: told otherwise at once, the node sees %d, and %d before", c.intent, n, before)
		}
	}
	s := newStarving(t, sharedSpec(1000, 1000), 500)
	for range 50 {
		takeOne(s.Limiter, s.rule, 7, s.now)
	}
	drainAll(s.Limiter, s.now) // and the peer does not hear of it
	s.restore(1400)
	s.serve(2 * time.Second)
	s.resolve(1000, 0)
	if n := s.sees(); n < -55 || n > -50 {
		t.Errorf("the peer has not heard of 50 tokens: the node sees %d", n)
	}
	s = newStarving(t, sharedSpec(1000, 1000), 1400)
	s.serve(800 * time.Millisecond)
	s.resolve(1000, 0)
	if n := s.sees(); n > -350 {
		t.Errorf("without a doubt, the node sees %d", n)
	}
	s.serve(1200 * time.Millisecond)
	s.resolve(920, 100*time.Millisecond) // others have told of 100 meanwhile
	if n := s.sees(); n < 60 || n > 90 {
		t.Errorf("told late, the node sees %d", n)
	}
}

// A peer that says whatever it likes makes nobody admit more than he would alone.
func TestDoubtIsBounded(t *testing.T) {
	for _, lacks := range []int64{1000, 990, 900, 810, 500, 0} {
		s := newStarving(t, sharedSpec(1000, 1000), 1000)
		s.demand = 2 // nearly all is due to the node
		passed := [10]int64{}
		for i := range 400 {
			s.told = max(1000-(s.passed-passed[i%10])*2, 0) // so that the limit seems to be used
			passed[i%10] = s.passed
			s.serve(50 * time.Millisecond)
			s.resolve(lacks, 0)
		}
		if most := int64(18 * 1000); s.passed > most { // alone, it would be 20,000
			t.Errorf("told that the bucket lacks %d, the node admits %d in 20 s", lacks, s.passed)
		}
		t.Logf("told that the bucket lacks %d, the node admits %d in 20 s", lacks, s.passed)
	}
}

// A peer that tells of a client by another rate than the client has gives it nothing: that is another bucket, of tokens
// that are worth less.
func TestDoubtIsOfOneBucket(t *testing.T) {
	l, rules := newFleet(t, 2, sharedSpec(10, 1000))
	own, other := Rate{10, second}, Rate{1000, second}
	charges, verdicts := []Charge{{Rule: rules[0], Key: 7, Own: own}}, make([]Verdict, 1)
	now, passed := time.Hour, 0
	l.Fleet(now, alive(2))
	l.Take(now, charges, verdicts)
	name := drainAll(l, now)[0].Rule
	tell := func(rate Rate, units uint32) []Delta {
		return []Delta{{Key: 7, Rule: name, Own: rate, Units: units, Demand: 180_000}}
	}
	for range 2 {
		l.Restore(now, 0, tell(own, 1100))
	}
	for i := range uint32(1200) {
		for range 10 {
			if l.Take(now, charges, verdicts) {
				passed++
			}
		}
		now += 50 * time.Millisecond
		l.Acknowledge(now, drainAll(l, now))
		l.Merge(now, 0, 0, tell(own, i%2))
		records := &l.book.Load().records
		if records.all[records.find(7, name)].doubted {
			l.Resolve(now, 0, tell(other, 900))
		} else {
			l.Restore(now, 0, tell(other, 2000))
		}
	}
	if passed > 60*10 {
		t.Errorf("%d passed in a minute of an empty bucket, of 10 a second", passed)
	}
}

// Of a rate of some tokens a day, of which requests cost many, it takes months to know that a node gets too little.
func TestDoubtTakesItsTime(t *testing.T) {
	spec := Spec{Name: "s", Rate: Rate{1, 24 * time.Hour}, Burst: 1_000_000, Cost: 10_000, Shared: true}
	l, rules := newFleet(t, 7, spec)
	now, passed := time.Hour, 0
	l.Fleet(now, alive(7))
	name := rules[0].base.policy.Load().rule
	tell := func(units, demand uint32) []Delta {
		return []Delta{{Key: 7, Rule: name, Units: units, Demand: demand}}
	}
	l.Restore(now, 0, tell(1_000_000, 0))
	for i := range 4000 {
		for range 3 {
			if !takeOne(l, rules[0], 7, now).Refused {
				passed++
			}
		}
		now += 50 * time.Millisecond
		l.Acknowledge(now, drainAll(l, now))
		units := uint32(0) // so that the peer's use is at times averaged to what the rate grants
		if i%200 == 0 {
			units = 1
		}
		l.Merge(now, 0, 0, tell(units, 180_000))
		l.Resolve(now, 0, tell(900_000, 0))
	}
	if passed > 0 {
		t.Errorf("within %v, %d requests passed of an empty bucket", now-time.Hour, passed)
	}
}
