package limiter

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// keysOf is keys as requests bring them, in no order.
func keysOf(n int) []Key {
	keys := make([]Key, n)
	k := Key(0).Trusted("a rule")
	for i := range keys {
		keys[i] = k.Number(uint64(i))
	}
	return keys
}

// path is a way that requests go. Its burst and the time that passes with each make that sure.
type path struct {
	name  string
	burst int64
	step  time.Duration // between requests
	fresh bool          // each comes with a new key
}

var paths = []path{
	{"allow", MaxTokens, time.Microsecond, false},
	{"deny", 1, 0, false},
	{"mixed", 1, 500 * time.Nanosecond, false},
	{"newkey", 10, time.Microsecond, true},
}

func (p path) limiter(b *testing.B, algorithm Algorithm, keys int) (*Limiter, *Rule) {
	s := Spec{Algorithm: algorithm, Rate: Rate{1_000_000, second}, Burst: p.burst}
	switch {
	case p.name == "mixed": // each key's turn comes twice as often as it may
		s.Rate = Rate{1000, time.Duration(keys) * time.Millisecond}
	case algorithm == FixedWindow || algorithm == SlidingWindow:
		s.Burst, s.Rate = 0, Rate{min(p.burst, MaxSliding), time.Hour}
	case algorithm == LeakyBucket:
		s.MaxWait = time.Hour
	}
	capacity := max(keys, 1024)
	if p.fresh {
		capacity = 1 << 17
	}
	l, rules := newWithRules(b, capacity, s)
	return l, rules[0]
}

// BenchmarkTake is one decision: by the algorithm of most rules, on one thread.
func BenchmarkTake(b *testing.B) {
	for _, p := range paths {
		for _, n := range []int{1, 1000, 100_000, 1_000_000} {
			if p.fresh && n > 1 {
				continue
			}
			b.Run(fmt.Sprintf("%s/%dkeys", p.name, n), func(b *testing.B) { p.run(b, TokenBucket, n) })
		}
	}
}

// BenchmarkAlgorithm compares the algorithms.
func BenchmarkAlgorithm(b *testing.B) {
	names := []string{"token", "fixed", "sliding", "leaky"}
	for a, name := range names {
		for _, p := range paths[:2] {
			b.Run(name+"/"+p.name, func(b *testing.B) { p.run(b, Algorithm(a), 1000) })
		}
	}
}

func (p path) run(b *testing.B, algorithm Algorithm, n int) {
	l, rule := p.limiter(b, algorithm, n)
	keys := keysOf(n)
	charges, verdicts := []Charge{{Rule: rule}}, make([]Verdict, 1)
	now, admitted := time.Duration(0), 0
	for _, k := range keys {
		charges[0].Key = k
		l.Take(now, charges, verdicts)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		now += p.step
		if i++; i >= n {
			i = 0
		}
		if charges[0].Key = keys[i]; p.fresh {
			charges[0].Key = Key(now) * 0x9e3779b97f4a7c15
		}
		if l.Take(now, charges, verdicts) {
			admitted++
		}
	}
	b.ReportMetric(float64(admitted)/float64(b.N), "admitted/op")
}

// BenchmarkTakeParallel is the same on all threads.
func BenchmarkTakeParallel(b *testing.B) {
	for _, p := range paths[:2] {
		for _, n := range []int{1, 1000, 100_000} {
			b.Run(fmt.Sprintf("%s/%dkeys", p.name, n), func(b *testing.B) {
				l, rule := p.limiter(b, TokenBucket, n)
				keys := keysOf(n)
				var worker atomic.Int64
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					charges, verdicts := []Charge{{Rule: rule}}, make([]Verdict, 1)
					i := int(worker.Add(7919)) % n
					for now := time.Duration(0); pb.Next(); now += p.step {
						if i++; i >= n {
							i = 0
						}
						charges[0].Key = keys[i]
						l.Take(now, charges, verdicts)
					}
				})
			})
		}
	}
}

// BenchmarkTakeRules is a request that three rules decide on.
func BenchmarkTakeRules(b *testing.B) {
	l, rules := newWithRules(b, 1024, bucket("x", MaxTokens), bucket("y", MaxTokens), bucket("z", MaxTokens))
	charges, verdicts := charge(rules, 5), make([]Verdict, 3)
	b.ReportAllocs()
	for b.Loop() {
		l.Take(0, charges, verdicts)
	}
}

// BenchmarkCommit is a reload with a full table.
func BenchmarkCommit(b *testing.B) {
	l, rules := newWithRules(b, 1<<20, bucket("x", 10))
	for _, k := range keysOf(1 << 20) {
		takeOne(l, rules[0], k, 0)
	}
	n := int64(10)
	for b.Loop() {
		n++
		reload(b, l, 0, bucket("x", n))
	}
}
