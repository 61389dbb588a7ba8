package limiter

import (
	"fmt"
	"testing"
	"time"
)

// sharedBench takes by a rule that is shared or not, with many keys, so long as peers acknowledge.
type sharedBench struct {
	limiter  *Limiter
	charges  []Charge
	verdicts []Verdict
	keys     []Key
	buffer   []Delta
	now      time.Duration
	i        int
}

func newSharedBench(b *testing.B, keys int, shared bool) *sharedBench {
	spec := Spec{Name: "s", Rate: Rate{1_000_000, second}, Burst: 100_000_000, Shared: shared}
	l, rules := newWithRules(b, max(keys, 1024), spec)
	l.Fleet(0, alive(2))
	s := &sharedBench{limiter: l, charges: []Charge{{Rule: rules[0]}}, verdicts: make([]Verdict, 1), keys: keysOf(keys), buffer: make([]Delta, 0, 4096)}
	s.take(b, 2*keys)
	return s
}

func (s *sharedBench) take(b *testing.B, n int) {
	for range n {
		s.now += 100
		if s.i++; s.i >= len(s.keys) {
			s.i = 0
		}
		s.charges[0].Key = s.keys[s.i]
		if !s.limiter.Take(s.now, s.charges, s.verdicts) {
			b.Fatal("refused")
		}
	}
}

func (s *sharedBench) acknowledge() {
	for deltas := s.limiter.Drain(s.now, s.buffer); len(deltas) > 0; deltas = s.limiter.Drain(s.now, s.buffer) {
		s.limiter.Acknowledge(s.now, deltas)
	}
}

// BenchmarkShared is an admission by a shared rule beside one by a local rule of the same kind, in turns, and the
// quickest turn of each: what neighbours on the machine take does not count. One operation is one of each.
func BenchmarkShared(b *testing.B) {
	const turn = 2000
	for _, n := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprintf("%dkeys", n), func(b *testing.B) {
			sides := [2]*sharedBench{newSharedBench(b, n, false), newSharedBench(b, n, true)}
			least := [2]time.Duration{time.Hour, time.Hour}
			for i := 0; i < b.N; i += turn {
				for j, s := range sides {
					s.take(b, turn/10)
					began := time.Now()
					s.take(b, turn)
					least[j] = min(least[j], time.Since(began))
				}
				if i%(turn<<8) == 0 {
					sides[1].acknowledge()
				}
			}
			b.ReportMetric(float64(least[0])/turn, "local-ns")
			b.ReportMetric(float64(least[1])/turn, "shared-ns")
			b.ReportMetric(float64(least[1])/float64(least[0]), "ratio")
		})
	}
}

// BenchmarkSharedRefused is a refusal by a shared rule: for want of tokens, and for want of acknowledgements.
func BenchmarkSharedRefused(b *testing.B) {
	for _, c := range []struct {
		name  string
		peers int
	}{{"empty", 0}, {"withheld", 2}} {
		b.Run(c.name, func(b *testing.B) {
			l, rules := newFleet(b, c.peers, sharedSpec(1, 100))
			drain(l, rules[0], 7, 0)
			charges, verdicts := []Charge{{Rule: rules[0], Key: 7}}, make([]Verdict, 1)
			b.ReportAllocs()
			for b.Loop() {
				l.Take(0, charges, verdicts)
			}
		})
	}
}

// toldOf is deltas of many buckets, as a peer sends them.
func toldOf(rule *Rule, keys int) []Delta {
	deltas := make([]Delta, keys)
	for i, k := range keysOf(keys) {
		deltas[i] = Delta{Key: k, Rule: rule.base.policy.Load().rule, Units: 3, Demand: 5}
	}
	return deltas
}

// BenchmarkMerge debits deltas of buckets that are here: one operation is one delta; beside that, the quickest hundred.
func BenchmarkMerge(b *testing.B) {
	const page = 100
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprintf("%dkeys", n), func(b *testing.B) {
			l, rules := newWithRules(b, 1<<18, sharedSpec(1_000_000, 1_000_000))
			l.Fleet(0, alive(2))
			deltas := toldOf(rules[0], n)
			now, least := time.Duration(0), time.Hour
			l.Merge(now, 0, 0, deltas)
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += page {
				now += 100
				at := i % n
				began := time.Now()
				l.Merge(now, 1, 0, deltas[at:at+page])
				least = min(least, time.Since(began))
			}
			b.ReportMetric(float64(least)/page, "least-ns")
		})
	}
}

// BenchmarkDrain hands out deltas, and acknowledges them: one operation is one delta; beside that, the quickest page of
// each.
func BenchmarkDrain(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprintf("%dkeys", n), func(b *testing.B) {
			l, rules := newWithRules(b, 1<<18, sharedSpec(1000, 100))
			l.Fleet(0, alive(2))
			keys := keysOf(n)
			charges, verdicts := []Charge{{Rule: rules[0]}}, make([]Verdict, 1)
			buffer := make([]Delta, 0, 100)
			now, drained := time.Duration(0), 0
			drain, acknowledge := time.Hour, time.Hour
			b.ReportAllocs()
			for b.ResetTimer(); drained < b.N; {
				b.StopTimer()
				now += second
				for _, k := range keys {
					charges[0].Key = k
					for range 20 {
						l.Take(now, charges, verdicts)
					}
				}
				l.Drain(now, buffer[:0:0]) // what is to be done at every interval
				b.StartTimer()
				for {
					began := time.Now()
					deltas := l.Drain(now, buffer)
					took := time.Since(began)
					if drained += len(deltas); len(deltas) < cap(buffer) {
						break
					}
					began = time.Now()
					l.Acknowledge(now, deltas)
					drain, acknowledge = min(drain, took), min(acknowledge, time.Since(began))
				}
			}
			b.ReportMetric(float64(drain)/float64(cap(buffer)), "drain-least-ns")
			b.ReportMetric(float64(acknowledge)/float64(cap(buffer)), "acknowledge-least-ns")
		})
	}
}
