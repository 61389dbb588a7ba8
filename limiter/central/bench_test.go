package central

import (
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

func plenty(t testing.TB) *Rule {
	return newRule(t, limiter.Spec{Name: "r", Rate: limiter.Rate{N: 1_000_000, Per: time.Second}, Burst: 1_000_000_000})
}

// BenchmarkTake is a decision in Redis, of one client and of 32 for each processor, on 1000 buckets.
func BenchmarkTake(b *testing.B) {
	s := open(b, startRedis(b).option(), nil)
	r := plenty(b)
	take := func(i uint64) {
		c := [1]Charge{{Rule: r}}
		binary.LittleEndian.PutUint64(c[0].Bucket[:], i%1000)
		verdicts := [1]Verdict{}
		if admitted, err := s.Take(0, nil, c[:], verdicts[:]); !admitted || err != nil {
			b.Error(admitted, err)
		}
	}
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for i := uint64(0); b.Loop(); i++ {
			take(i)
		}
	})
	b.Run("many", func(b *testing.B) {
		var i atomic.Uint64
		b.ReportAllocs()
		b.SetParallelism(32)
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				take(i.Add(1))
			}
		})
	})
}

// BenchmarkTakeThree is a request that three rules decide on, in one step.
func BenchmarkTakeThree(b *testing.B) {
	s := open(b, startRedis(b).option(), nil)
	charges, verdicts := make([]Charge, 3), make([]Verdict, 3)
	for i := range charges {
		charges[i] = Charge{Rule: plenty(b), Bucket: Bucket{byte(i)}}
	}
	b.ReportAllocs()
	for b.Loop() {
		if admitted, err := s.Take(0, nil, charges, verdicts); !admitted || err != nil {
			b.Fatal(admitted, err)
		}
	}
}

// BenchmarkRecall is a request that is known to be refused.
func BenchmarkRecall(b *testing.B) {
	s := New(Config{Timeout: time.Second})
	r, v := refusedVerdict(b, Bucket{9}, 2)
	s.memory.remember(0, v)
	charges, verdicts := []Charge{{Rule: r, Bucket: Bucket{9}}}, make([]Verdict, 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Take(1, nil, charges, verdicts); err != nil {
			b.Fatal(err)
		}
	}
}
