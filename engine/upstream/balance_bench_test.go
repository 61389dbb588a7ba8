package upstream

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// crowded is a table with uneven loads and, if weighted, uneven weights.
func crowded(b testing.TB, p Policy, targets int, weighted bool) *table {
	b.Helper()
	weights := slices.Repeat([]int64{1}, targets)
	if weighted {
		for i := range weights {
			weights[i] += int64(i % 5)
		}
	}
	tb := tableOf(b, p, weights...)
	for i, s := range tb.seats {
		s.breaker = NewBreaker(BreakerConfig{FailureRatio: 0.5, MinRequests: 20, Window: 10 * time.Second,
			OpenFor: 5 * time.Second, Probes: 3}, func(_, _ BreakerState) {})
		tb.begin(i, 4*weights[i]+int64(i*7%3))
	}
	return tb
}

func BenchmarkPick(b *testing.B) {
	for _, p := range policies() {
		for _, targets := range []int{2, 16, 256} {
			b.Run(fmt.Sprintf("%s/%d", p, targets), func(b *testing.B) {
				tb := crowded(b, p, targets, false)
				benchPick(b, tb, -1)
			})
		}
	}
}

// BenchmarkPickHard is the choice when it is not plain: uneven weights, a quarter of the seats out, one to avoid.
func BenchmarkPickHard(b *testing.B) {
	for _, p := range policies() {
		for _, targets := range []int{2, 16, 256} {
			b.Run(fmt.Sprintf("%s/%d", p, targets), func(b *testing.B) {
				tb := crowded(b, p, targets, true)
				for i := 3; i < targets; i += 4 {
					tb.seats[i].leave()
				}
				benchPick(b, tb, targets/2)
			})
		}
	}
}

func benchPick(b *testing.B, tb *table, avoid int) {
	b.ReportAllocs()
	d := dice(1)
	for b.Loop() {
		i := tb.pick(time.Hour, d.next(), d.next(), avoid)
		tb.begin(i, 1)
		tb.begin(i, -1)
	}
}

// BenchmarkPickTogether is the contention of parallel picks.
func BenchmarkPickTogether(b *testing.B) {
	for _, p := range policies() {
		b.Run(string(p), func(b *testing.B) {
			tb := crowded(b, p, 16, false)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				d := dice(1)
				for pb.Next() {
					i := tb.pick(time.Hour, d.next(), d.next(), -1)
					tb.begin(i, 1)
					tb.begin(i, -1)
				}
			})
		})
	}
}

func BenchmarkNewTable(b *testing.B) {
	for _, targets := range []int{16, 256} {
		b.Run(fmt.Sprint(targets), func(b *testing.B) {
			tb := crowded(b, Hash, targets, true)
			for b.Loop() {
				newTable(tb.seats)
			}
		})
	}
}
