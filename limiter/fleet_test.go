package limiter

import (
	"sync/atomic"
	"testing"
	"time"
)

// takeAll takes on one node until nothing more passes, however often peers acknowledge, at one moment.
func takeAll(l *Limiter, r *Rule, k Key, now time.Duration) (n int) {
	for {
		more := drain(l, r, k, now)
		if more == 0 {
			return n
		}
		n += more
		l.Acknowledge(now, drainAll(l, now))
	}
}

// While peers are silent, each side keeps to its part of a limit, so that no more pass on all sides than on one.
func TestSilentPeers(t *testing.T) {
	for name, spec := range algorithms(1000) {
		spec.Shared = true
		l, rules := newFleet(t, 3, spec)
		now := time.Hour
		members := alive(3)
		members[1].State, members[2].State = Silent, Silent
		l.Fleet(now, members)
		if n := takeAll(l, rules[0], 7, now); n > 500 || n < 480 {
			t.Errorf("%s: %d of 1000 passed where half of the fleet is seen", name, n)
		}
		members[1].State, members[2].State = Gone, Gone
		l.Fleet(now, members)
		if n := takeAll(l, rules[0], 8, now); n < 990 {
			t.Errorf("%s: %d of 1000 passed after the others left", name, n)
		}
	}
}

// What a silent peer used last goes on being charged for a while, and what it tells of that time is not charged again.
func TestSilentPeerIsHeld(t *testing.T) {
	l, rules := newFleet(t, 3, sharedSpec(1000, 1000))
	r, now := rules[0], time.Hour
	tell := func(units uint32, age time.Duration) {
		l.Merge(now, 1, age, []Delta{{Key: 7, Rule: r.base.policy.Load().rule, Units: units, Demand: 60_000}})
	}
	left := func() int64 {
		v := []Verdict{takeOne(l, r, 7, now)}
		n := v[0].Remaining()
		l.GiveBack(now, v)
		return n
	}
	for range 60 { // 2000 a second, of which half comes in anew
		tell(100, 0)
		now += 50 * time.Millisecond
		l.Drain(now, make([]Delta, 0, 8))
		if left() < 100 {
			break
		}
	}
	members := alive(3)
	members[1].State = Silent
	l.Fleet(now, members)
	before := left()
	for range 10 {
		now += 50 * time.Millisecond
		l.Drain(now, make([]Delta, 0, 8))
	}
	held := left()
	if held > before {
		t.Errorf("a bucket from which a silent peer takes has %d left, and had %d", held, before)
	}
	l.Fleet(now, alive(3))
	tell(500, 100*time.Millisecond)
	if after := left(); after < held-20 {
		t.Errorf("%d left, %d before: what was held was charged again", after, held)
	}
	tell(50, 0)
	now += 900 * time.Millisecond
	tell(100, 0)
	full := left()
	if tell(100, 0); left() > full-99 {
		t.Errorf("%d left of %d: what a peer takes after it came back is charged", left(), full)
	}
}

// What many tell is seen where no request comes in, though what each tells has come in anew meanwhile.
func TestManyTellLittle(t *testing.T) {
	l, rules := newFleet(t, 31, sharedSpec(1000, 1000))
	now := time.Hour
	for from := range 31 {
		l.Merge(now, from, 10*time.Millisecond, []Delta{{Key: 7, Rule: rules[0].base.policy.Load().rule, Units: 2}})
	}
	if v := takeOne(l, rules[0], 7, now); v.Remaining() > 1000-62+10 {
		t.Errorf("%d left of 1000, of which peers took 62 ten milliseconds ago", v.Remaining())
	}
}

// Requests, deltas, members that come and go, and reloads do not get in each other's way.
func TestFleetStorm(t *testing.T) {
	l, rules := newFleet(t, 3, sharedSpec(1000, 1000), bucket("y", 100))
	var current atomic.Pointer[Rule]
	current.Store(rules[0])
	var clock atomic.Int64
	now := func() time.Duration { return time.Duration(clock.Add(10_000)) }
	work := []func(i int){
		func(i int) {
			v := []Verdict{takeOne(l, current.Load(), conserved(i%40), now())}
			if i%5 == 0 {
				l.GiveBack(now(), v)
			}
		},
		func(i int) { l.Acknowledge(now(), l.Drain(now(), make([]Delta, 0, 16))) },
		func(i int) {
			d := Delta{Key: conserved(i % 50), Rule: current.Load().base.policy.Load().rule, Units: 2, Demand: 9}
			l.Merge(now(), i%3, time.Millisecond, []Delta{d})
		},
		func(i int) {
			m := alive(3)
			m[i%3].State = MemberState(i / 3 % 3)
			l.Fleet(now(), m)
		},
		func(i int) {
			debts, _ := l.Snapshot(now(), 0, make([]Delta, 0, 8))
			l.Restore(now(), 0, debts)
		},
		func(i int) {
			if i%20 == 0 {
				current.Store(reload(t, l, now(), sharedSpec(1000, 500+int64(i)), bucket("y", 100))[0])
			}
		},
	}
	together(2*len(work), func(g int) {
		for i := range scaled(2000) {
			if g >= len(work) { // the other half are requests
				work[0](i + g)
			} else {
				work[g](i)
			}
		}
	})
	for i := range l.book.Load().wide {
		for j := range l.book.Load().wide[i] {
			if s := &l.book.Load().wide[i][j]; s.word.Load() == owned || s.tag.Load()&stateMask == statePending {
				t.Fatal("a slot is in somebody's hands, and nobody is at work")
			}
		}
	}
}
