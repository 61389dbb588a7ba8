package limiter

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"
)

// sharedSpec is a rule that a fleet shares.
func sharedSpec(rate, burst int64) Spec {
	return Spec{Name: "s", Rate: Rate{rate, second}, Burst: burst, Shared: true}
}

// newFleet makes a limiter with a shared rule and so many peers.
func newFleet(t fataler, peers int, specs ...Spec) (*Limiter, []*Rule) {
	t.Helper()
	l, rules := newWithRules(t, 1024, specs...)
	l.Fleet(0, alive(peers))
	return l, rules
}

func alive(peers int) []Member {
	var m []Member
	for i := range peers {
		m = append(m, Member{Peer: i})
	}
	return m
}

// drainAll takes what there is to tell at some time.
func drainAll(l *Limiter, now time.Duration) []Delta {
	var all []Delta
	for {
		page := l.Drain(now, make([]Delta, 0, 64))
		all = append(all, page...)
		if len(page) < 64 {
			return all
		}
	}
}

func units(deltas []Delta) (n int64) {
	for _, d := range deltas {
		n += int64(d.Units)
	}
	return n
}

// A node takes its share, and no more before it is acknowledged; then a share of what is left.
func TestEscrow(t *testing.T) {
	l, rules := newFleet(t, 3, sharedSpec(1, 400)) // the rate is next to nothing
	r := rules[0]
	if n := drain(l, r, 5, 0); n != 100 {
		t.Fatalf("%d of 400 were admitted on one of four nodes", n)
	}
	v := takeOne(l, r, 5, 0)
	if !v.Refused || v.Remaining() != 300 || v.RetryAfter() <= 0 || v.RetryAfter() > second {
		t.Errorf("refused %v, %d remain, try again after %v", v.Refused, v.Remaining(), v.RetryAfter())
	}
	select {
	case <-l.Pressing():
	default:
		t.Error("nobody was told to hurry")
	}
	deltas := drainAll(l, 0)
	if units(deltas) != 100 || len(deltas) != 1 {
		t.Fatalf("%+v", deltas)
	}
	if n := drain(l, r, 5, 0); n != 0 {
		t.Errorf("%d were admitted before peers had acknowledged", n)
	}
	l.Acknowledge(0, deltas)
	// Nobody else uses the bucket: all but a reserve is ours.
	if n := drain(l, r, 5, 0); n != 225 {
		t.Errorf("%d were admitted of the 300 that are left", n)
	}
	other, others := newFleet(t, 3, sharedSpec(1, 400))
	other.Merge(0, 0, 0, deltas)
	if v := takeOne(other, others[0], 5, 0); v.Refused || v.Remaining() != 299 {
		t.Errorf("a peer has %d left", v.Remaining())
	}
	// A newcomer to a bucket in use has a part of the reserve, which is not quite a twelfth: shares are rounded down.
	if n := drain(other, others[0], 5, 0); n != 300/4/3-2 {
		t.Errorf("a newcomer takes %d more", n)
	}
}

// Alone, a node has all, and tells nothing.
func TestAlone(t *testing.T) {
	l, rules := newFleet(t, 0, sharedSpec(1, 400))
	if n := drain(l, rules[0], 5, 0); n != 400 {
		t.Errorf("%d", n)
	}
	if d := drainAll(l, 0); len(d) != 0 {
		t.Errorf("%+v", d)
	}
	l.Fleet(0, alive(1))
	debts, next := l.Snapshot(0, 0, make([]Delta, 0, 8))
	if len(debts) != 1 || debts[0].Units != 400 || next != 0 {
		t.Errorf("%+v", debts)
	}
}

// All that peers have taken is debited, for every algorithm, and may put a bucket below zero.
func TestMergeDebits(t *testing.T) {
	for name, spec := range algorithms(100) {
		spec.Shared = true
		a, as := newFleet(t, 1, spec)
		b, bs := newFleet(t, 1, spec)
		now := time.Hour
		for range 40 {
			takeOne(a, as[0], 7, now)
		}
		deltas := drainAll(a, now)
		if units(deltas) != 40 {
			t.Fatalf("%s: %+v", name, deltas)
		}
		b.Merge(now, 0, 0, deltas)
		if v := takeOne(b, bs[0], 7, now); v.Refused || v.Remaining() != 59 {
			t.Errorf("%s: a peer has %d left, not 59", name, v.Remaining())
		}
		if s := b.LedgerStats(); s.Merged != 1 || s.Unknown+s.Late+s.NoRoom+s.Unneeded != 0 {
			t.Errorf("%s: %+v", name, s)
		}
		deltas[0].Units = 70
		b.Merge(now, 0, 0, deltas)
		v := takeOne(b, bs[0], 7, now)
		if !v.Refused || v.Remaining() != 0 || v.RetryAfter() <= 0 {
			t.Errorf("%s: below zero, %v with %d left", name, v.Refused, v.Remaining())
		}
		if s := b.LedgerStats(); s.Excess < 9 || s.Excess > 12 {
			t.Errorf("%s: an excess of %d, not 10 or 11", name, s.Excess)
		}
	}
}

// Debts end somewhere, whatever a member says.
func TestMergeBounds(t *testing.T) {
	l, rules := newFleet(t, 3, sharedSpec(10, 100))
	takeOne(l, rules[0], 7, 0)
	d := Delta{Key: 7, Rule: rules[0].base.policy.Load().rule, Units: 1<<32 - 1, Demand: 1<<32 - 1}
	for range 50 {
		l.Merge(0, 2, -time.Hour, []Delta{d})
		l.Merge(0, 1<<30, time.Hour, []Delta{d})
	}
	if v := takeOne(l, rules[0], 7, 0); v.Reset() > 21*second {
		t.Errorf("full again in %v, with a burst of ten seconds", v.Reset())
	}
	before := l.LedgerStats()
	for _, bad := range []Delta{{Key: 7, Rule: 1, Units: 5}, {Key: 7, Units: 5, Own: Rate{-1, -1}}} {
		l.Merge(0, 0, 0, []Delta{bad})
	}
	if s := l.LedgerStats(); s.Unknown != before.Unknown+2 || s.Merged != before.Merged {
		t.Errorf("%+v", s)
	}
}

// Rules that differ are different ones, and rules that are alike are the same on every node.
func TestContent(t *testing.T) {
	base := Spec{Name: "s", Rate: Rate{10, second}, Burst: 5, Shared: true, Parts: "client", Tiers: map[string]Rate{"gold": {20, second}}}
	hash := func(s Spec) uint64 {
		_, rules := newFleet(t, 1, s)
		return rules[0].base.policy.Load().rule
	}
	if hash(base) != hash(base) {
		t.Error("one rule is two")
	}
	for intent, change := range map[string]func(*Spec){
		"name": func(s *Spec) { s.Name = "t" }, "rate": func(s *Spec) { s.Rate.N = 11 }, "burst": func(s *Spec) { s.Burst = 6 },
		"cost": func(s *Spec) { s.Cost = 2 }, "parts": func(s *Spec) { s.Parts = "ip" }, "algorithm": func(s *Spec) { s.Algorithm = LeakyBucket },
	} {
		s := base
		if change(&s); hash(s) == hash(base) {
			t.Errorf("rules of different %s are the same", intent)
		}
	}
	_, rules := newFleet(t, 1, base)
	if rules[0].tiers[0].plan.policy.Load().rule == rules[0].base.policy.Load().rule {
		t.Error("a tier's buckets are those of everybody")
	}
}

// A credential's own rate is known to peers that never saw the credential.
func TestOwnRatesTravel(t *testing.T) {
	spec := sharedSpec(10, 0)
	a, as := newFleet(t, 1, spec)
	b, bs := newFleet(t, 1, spec)
	own := Rate{600, time.Minute}
	charges, verdicts := []Charge{{Rule: as[0], Key: 7, Own: own}}, make([]Verdict, 1)
	for range 4 {
		a.Take(0, charges, verdicts)
	}
	deltas := drainAll(a, 0)
	if len(deltas) != 1 || deltas[0].Own != own {
		t.Fatalf("%+v", deltas)
	}
	b.Merge(0, 0, 0, deltas)
	charges[0].Rule = bs[0]
	b.Take(0, charges, verdicts)
	if left := verdicts[0].Remaining(); left != 5 {
		t.Errorf("%d are left", left)
	}
}

// What is given back before peers are told is as if it had not been; afterwards, as much of what comes next is not
// told.
func TestGiveBackShared(t *testing.T) {
	for name, spec := range algorithms(100) {
		spec.Shared = true
		l, rules := newFleet(t, 1, spec)
		now := time.Hour
		take := func(n int) (all []Verdict) {
			for range n {
				all = append(all, takeOne(l, rules[0], 7, now))
			}
			return all
		}
		take(10)
		l.GiveBack(now, take(1))
		deltas := drainAll(l, now)
		if units(deltas) != 10 {
			t.Errorf("%s: %d were told of 10", name, units(deltas))
		}
		late := take(1)
		told := units(drainAll(l, now))
		l.GiveBack(now, late)
		take(3)
		if told += units(drainAll(l, now)); told != 3 {
			t.Errorf("%s: %d were told of 3", name, told)
		}
		w, _, _ := ptr(l.book.Load().place(rules[0].base, 7)).findWide()
		if own := ownOf(w.use.Load()); own != 13 {
			t.Errorf("%s: %d are unacknowledged, of 13", name, own)
		}
	}
}

func ptr[T any](v T) *T { return &v }

// A node that begins anew gets its peers' debts, in pages, and no debt twice.
func TestSnapshot(t *testing.T) {
	for name, spec := range algorithms(1000) {
		spec.Shared = true
		a, as := newFleet(t, 1, spec)
		b, bs := newFleet(t, 1, spec)
		now := time.Hour + 90*second
		want := map[Key]int64{}
		for i := range 100 {
			k := Key(i+1) * 0x9e3779b97f4a7c15
			for range i%5 + 1 {
				v := takeOne(a, as[0], k, now)
				want[k] = v.Remaining()
			}
		}
		a.Acknowledge(now, drainAll(a, now)) // what is not told yet is not in a snapshot: it comes as a delta
		for range 2 {
			page, cursor := make([]Delta, 0, 16), uint64(0)
			for {
				page, cursor = a.Snapshot(now, cursor, page)
				b.Restore(now, 0, page)
				if cursor == 0 {
					break
				}
			}
		}
		for k, left := range want {
			if v := takeOne(b, bs[0], k, now); v.Remaining() != left-1 {
				t.Fatalf("%s: %d left, not %d", name, v.Remaining(), left-1)
			}
		}
	}
}

// Of a slot that changes hands, neither what was told nor what is acknowledged goes to the wrong bucket; and all that
// is admitted is told, exactly, while requests, merges, drains and acknowledgements go on at once.
func TestLedgerConserves(t *testing.T) {
	const goroutines, keys = 8, 3
	for name, spec := range algorithms(1_000_000) {
		t.Run(name, func(t *testing.T) {
			spec.Shared = true
			l, rules := newFleet(t, 1, spec)
			var admitted, told atomic.Int64
			var stop atomic.Bool
			now := time.Hour
			go func() {
				defer stop.Store(true)
				together(goroutines, func(i int) {
					random := rand.New(rand.NewPCG(uint64(i), 1))
					for range scaled(20_000) {
						v := []Verdict{takeOne(l, rules[0], conserved(random.IntN(keys)), now)}
						if v[0].Refused {
							continue
						}
						admitted.Add(1)
						if spec.Algorithm != LeakyBucket && random.IntN(8) == 0 {
							l.GiveBack(now, v)
							admitted.Add(-1)
						}
					}
				})
			}()
			buffer := make([]Delta, 0, 2)
			peer := Delta{Key: conserved(0), Rule: rules[0].base.policy.Load().rule, Units: 1, Window: rules[0].base.policy.Load().windowOf(0, int64(now))}
			for {
				last := stop.Load()
				deltas := l.Drain(now, buffer)
				told.Add(units(deltas))
				l.Merge(now, 0, 0, []Delta{peer})
				l.Acknowledge(now, deltas)
				if last && len(deltas) == 0 {
					break
				}
			}
			b := l.book.Load()
			for k := range keys {
				w, _, _ := ptr(b.place(rules[0].base, conserved(k))).findWide()
				own, unsent := ownOf(w.use.Load()), unsentOf(w.use.Load())
				told.Add(unsent) // what was given back after it was told
				if own != unsent {
					t.Errorf("%d are unacknowledged, %d unsent", own, unsent)
				}
			}
			if told.Load() != admitted.Load() {
				t.Errorf("%d were told of %d", told.Load(), admitted.Load())
			}
		})
	}
}

func conserved(i int) Key { return Key(i+1) * 0x9e3779b97f4a7c15 }

// On one key, many at once take no more than the node's share.
func TestEscrowRace(t *testing.T) {
	const goroutines = 32
	procs(t, 8)
	for name, spec := range algorithms(1000) {
		spec.Shared = true
		for round := range scaled(50) {
			l, rules := newFleet(t, 3, spec)
			var n atomic.Int64
			together(goroutines, func(int) {
				for range 20 {
					if v := takeOne(l, rules[0], Key(round), time.Hour); !v.Refused {
						n.Add(1)
					}
				}
			})
			if n.Load() != 250 {
				t.Fatalf("%s: %d were admitted of 250", name, n.Load())
			}
		}
	}
}

// Without a shared rule there is no memory for one; a reload may bring the first, and takes debts along.
func TestSharedReload(t *testing.T) {
	l, _ := newWithRules(t, 64, bucket("s", 10))
	if l.book.Load() != nil {
		t.Error("there is a book for nobody")
	}
	l.Fleet(0, alive(1))
	rules := reload(t, l, 0, sharedSpec(1, 100))
	for range 10 {
		takeOne(l, rules[0], 7, 0)
	}
	rules = reload(t, l, 0, sharedSpec(1, 50))
	if v := takeOne(l, rules[0], 7, 0); v.Remaining() != 39 {
		t.Errorf("%d are left", v.Remaining())
	}
	rules = reload(t, l, 0, bucket("s", 50))
	if v := takeOne(l, rules[0], 7, 0); v.Refused {
		t.Error("a rule that is not shared any more begins anew")
	}
	for _, s := range []Spec{
		{Name: "x", Shared: true, Rate: Rate{1, time.Millisecond}, Algorithm: FixedWindow},
		{Name: "x", Shared: true, Rate: Rate{MaxTokens, second}, Cost: MaxShared + 1},
	} {
		if _, err := l.Prepare([]Spec{s}); err == nil {
			t.Error(fmt.Sprintf("%+v can be shared", s))
		}
	}
}
