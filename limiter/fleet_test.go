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
	t.Run("told at once", func(t *testing.T) { holdSilentPeer(t, 10, 0) })
	t.Run("told some time after it came back", func(t *testing.T) { holdSilentPeer(t, 24, 6) })
}

// holdSilentPeer lets a peer be silent for so many intervals, and tell what it did so many after it came back.
func holdSilentPeer(t *testing.T, silent, after int) {
	l, rules := newFleet(t, 3, sharedSpec(1000, 1000))
	r, now := rules[0], time.Hour
	tell := func(units uint32, age time.Duration) {
		l.Merge(now, 1, age, []Delta{{Key: 7, Rule: r.base.policy.Load().rule, Units: units, Demand: 60_000}})
	}
	left := func() int64 { // below zero is a debt
		at := l.book.Load().place(r.base, 7)
		w, _, _ := at.findWide()
		value, policy := r.base.read(w.word.Load(), int64(now))
		slack, unit := policy.room(value, int64(now))
		return slack / unit
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
	for range silent {
		now += 50 * time.Millisecond
		l.Drain(now, make([]Delta, 0, 8))
	}
	held := left()
	if held > before {
		t.Errorf("a bucket from which a silent peer takes has %d left, and had %d", held, before)
	}
	l.Fleet(now, alive(3))
	for range after {
		now += 50 * time.Millisecond
		l.Drain(now, make([]Delta, 0, 8))
	}
	held = left()
	tell(500, time.Duration(2+after)*50*time.Millisecond)
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

// There is room for many peers, which is taken when they speak, and nothing is forgotten by that.
func TestMorePeersThanMost(t *testing.T) {
	l, rules := newFleet(t, 127, sharedSpec(1000, 1000))
	records := &l.book.Load().records
	for i, c := range []struct{ from, room, active int }{{3, 32, 1}, {31, 32, 2}, {32, 64, 3}, {126, 127, 4}, {64, 127, 5}, {127, 127, 5}} {
		l.Merge(time.Hour, c.from, 0, []Delta{{Key: 7, Rule: rules[0].base.policy.Load().rule, Units: 5, Demand: 100}})
		r := records.all[records.find(7, rules[0].base.policy.Load().rule)]
		if records.peers != c.room || r.active != c.active || r.sum != uint64(100*c.active) {
			t.Errorf("after %d: room for %d, %d use the bucket, demand %d", i, records.peers, r.active, r.sum)
		}
	}
	if left := peek(l, rules[0], 7, time.Hour, 1000); left != 1000-6*5 {
		t.Errorf("%d left", left)
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
