package limiter

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// flood asks for so many new keys, from two sides, and now and then for one of the victims. It says how
// many were admitted, and of the victims.
func flood(l *Limiter, r *Rule, spray, victims int, victim func(i int) Key) (admitted, freed int64) {
	var a, f atomic.Int64
	together(2, func(half int) {
		charges, verdicts := make([]Charge, 1), make([]Verdict, 1)
		for i := half; i < spray; i += 2 {
			charges[0] = Charge{Rule: r, Key: r.Key().Number(uint64(victims + i)), Group: Key(i)}
			if l.Take(second, charges, verdicts) {
				a.Add(1)
			}
			if i%64 == 0 {
				charges[0].Key = victim(i / 64 % victims)
				if l.Take(second, charges, verdicts) {
					f.Add(1)
				}
			}
		}
	})
	return a.Load(), f.Load()
}

// A flood of new keys frees nobody from what he owes, takes no memory, and is limited as a whole.
func TestFlood(t *testing.T) {
	const victims = 1000
	capacity := 1 << 16
	if raceEnabled {
		capacity = 1 << 13
	}
	for _, burst := range []int64{100, 5, 1} {
		spray := 500_000
		if burst == 100 {
			spray = 10_000_000
		}
		if raceEnabled {
			spray /= 25
		}
		l, rules := newWithRules(t, capacity, Spec{Algorithm: TokenBucket, Rate: Rate{1, time.Hour}, Burst: burst})
		r := rules[0]
		victim := func(i int) Key { return r.Key().Number(uint64(i)) }
		for i := range victims {
			if n := drain(l, r, victim(i), 0); n != int(burst) {
				t.Fatalf("a client was admitted %d times, not %d", n, burst)
			}
		}
		before := heap()
		admitted, freed := flood(l, r, spray, victims, victim)
		if grown := int64(heap()) - int64(before); grown > 1<<18 {
			t.Errorf("burst %d: the heap grew by %d bytes", burst, grown)
		}
		for i := range victims {
			if v := takeOne(l, r, victim(i), second); !v.Refused {
				freed++
			}
		}
		s := l.Stats(second)
		if freed != 0 {
			t.Errorf("burst %d: throttled clients were admitted %d times", burst, freed)
		}
		// Each of the flood's buckets was begun at most once in each slot, or in one that was given up.
		most := int64(s.Claims) + overflows*burst
		if admitted > most {
			t.Errorf("burst %d: %d of the flood were admitted, of %d at most", burst, admitted, most)
		}
		if s.Overflowed < uint64(spray)/10 {
			t.Errorf("burst %d: %+v", burst, s)
		}
		if burst == 100 && s.Evictions == 0 || s.Evictions > uint64(2*len(l.table.rows)*8) {
			t.Errorf("burst %d: %+v", burst, s)
		}
		if s.Live < capacity || s.Live > len(l.table.rows)*8 {
			t.Errorf("burst %d: %+v", burst, s)
		}
		checkTable(t, l)
	}
}

// When a bucket has to make room, its successor does not begin full, so that a client gains nothing by
// being forgotten.
func TestSuccessorsBeginWithADebt(t *testing.T) {
	for name, spec := range algorithms(100) {
		l, rules := newWithRules(t, 10, spec)
		for k := range Key(16) { // all 16 places, each with one token taken
			takeOne(l, rules[0], (k+1)*0x9e3779b97f4a7c15, time.Hour)
		}
		if s := l.Stats(time.Hour); s.Live != 16 {
			t.Fatalf("%s: %+v", name, s)
		}
		v := takeOne(l, rules[0], 0xabcdef, time.Hour)
		if v.Refused || v.Overflowed() || v.Remaining() > 95 {
			t.Errorf("%s: the successor has %d of 100 tokens left", name, v.Remaining())
		}
		if s := l.Stats(time.Hour); s.Evictions != 1 || s.Live != 16 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// Those who share an overflow bucket share its tokens; other groups have their own.
func TestOverflowIsSharedByGroups(t *testing.T) {
	for name, spec := range algorithms(10) {
		l, rules := newWithRules(t, 10, spec)
		for k := range Key(16) {
			drain(l, rules[0], (k+1)*0x9e3779b97f4a7c15, time.Hour)
		}
		for _, group := range []Key{1, 2, 1 + overflows} {
			n, charges, verdicts := 0, make([]Charge, 1), make([]Verdict, 1)
			for i := range 20 {
				charges[0] = Charge{Rule: rules[0], Key: group<<40 + Key(i), Group: group}
				if l.Take(time.Hour, charges, verdicts) {
					n++
					if !verdicts[0].Overflowed() {
						t.Fatalf("%s: there was a place", name)
					}
				}
			}
			want := 10
			if group > overflows { // shares the bucket of group 1
				want = 0
			}
			if n != want {
				t.Errorf("%s: %d of a group were admitted, not %d", name, n, want)
			}
			// What is given back is there again.
			charges[0].Group = 2
			if group == 2 {
				l.GiveBack(0, verdicts)
			}
		}
		if s := l.Stats(time.Hour); s.Overflowed != 60 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// A request that takes a whole bucket is not refused for ever because its bucket would have to take the
// place of another.
func TestCostlySuccessor(t *testing.T) {
	l, rules := newWithRules(t, 10, Spec{Name: "slow", Algorithm: TokenBucket, Rate: Rate{1, 24 * time.Hour}, Burst: 100},
		Spec{Name: "costly", Algorithm: TokenBucket, Rate: Rate{100, second}, Burst: 100, Cost: 100})
	for k := range Key(16) {
		takeOne(l, rules[0], (k+1)*0x9e3779b97f4a7c15, 0)
	}
	now, n := time.Duration(0), 0
	for range 10 {
		v := takeOne(l, rules[1], 0xabcdef, now)
		if !v.Refused {
			n++
		}
		now += v.RetryAfter()
	}
	if n != 5 || now != 5*second {
		t.Errorf("%d were admitted in %v", n, now)
	}
}
