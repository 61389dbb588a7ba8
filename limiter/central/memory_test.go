package central

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

// refusedVerdict is what Redis says of an empty bucket of 2/s that holds one token, when its clock is at zero.
func refusedVerdict(t testing.TB, b Bucket, rate int64) (*Rule, *Verdict) {
	r := newRule(t, limiter.Spec{Name: "r", Rate: limiter.Rate{N: rate, Per: time.Second}, Burst: 1})
	return r, &Verdict{policy: r.base, rule: r, bucket: b, Refused: true, known: true, now: 5_000_000, state: state{5_000_000 + r.base.increase.us, 0, 0}}
}

// A refusal is remembered until the bucket has what was asked for, to the moment, and at most a second; under its own rule.
func TestMemoryEnds(t *testing.T) {
	bucket := Bucket{1, 2, 3}
	for _, c := range []struct {
		intent string
		rate   int64
		lasts  time.Duration
	}{
		{"half a second", 2, 500 * time.Millisecond},
		{"a microsecond", 1_000_000, time.Microsecond},
	} {
		m, asked := newMemory(), 7*time.Second
		r, v := refusedVerdict(t, bucket, c.rate)
		m.remember(asked, v)
		for _, at := range []time.Duration{0, c.lasts - 1, c.lasts, time.Hour} {
			got := Verdict{policy: r.base, bucket: bucket}
			want := at < c.lasts
			if m.recall(asked+at, &got) != want {
				t.Errorf("%s: %v after the question, remembered is not %v", c.intent, at, want)
			} else if want && (!got.Refused || !got.Known() || got.RetryAfter() <= 0 || got.RetryAfter() > c.lasts) {
				t.Errorf("%s: %v after the question, retry after %v", c.intent, at, got.RetryAfter())
			}
		}
		other := *r.base
		other.id++
		if got := (Verdict{policy: &other, bucket: bucket}); m.recall(asked, &got) {
			t.Errorf("%s: a changed rule is bound by what was refused before", c.intent)
		}
		m.forget(bucket)
		if got := (Verdict{policy: r.base, bucket: bucket}); m.recall(asked, &got) {
			t.Errorf("%s: it is not forgotten", c.intent)
		}
	}
	day := newRule(t, limiter.Spec{Name: "r", Rate: limiter.Rate{N: 1, Per: 24 * time.Hour}, Burst: 1})
	v := Verdict{policy: day.base, bucket: bucket, Refused: true, state: state{int64(24 * time.Hour / time.Microsecond), 0, 0}}
	m := newMemory()
	m.remember(0, &v)
	if got := (Verdict{policy: day.base, bucket: bucket}); m.recall(longestMemory, &got) {
		t.Error("it is remembered for longer than a second")
	}
}

// Whatever is remembered and recalled at once, a recalled verdict is one that was remembered for that bucket.
func TestMemoryStorm(t *testing.T) {
	m := newMemory()
	r, _ := refusedVerdict(t, Bucket{}, 2)
	bucketOf := func(i int) (b Bucket) { // all in one set
		binary.LittleEndian.PutUint64(b[8:], uint64(i+1))
		return b
	}
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), 1))
			for range 20000 {
				i := random.IntN(9)
				v := Verdict{policy: r.base, bucket: bucketOf(i), Refused: true, now: int64(i), state: state{int64(i) + 500_000, int64(i), int64(i)}}
				if random.IntN(3) == 0 {
					m.remember(0, &v)
					continue
				}
				got := Verdict{policy: r.base, bucket: v.bucket}
				if m.recall(0, &got) && (got.state != v.state || got.now != v.now) {
					t.Errorf("bucket %d is told %+v", i, got.state)
					return
				}
			}
		})
	}
	all.Wait()
}

func TestRecallAllocatesNothing(t *testing.T) {
	s := New(Config{Timeout: time.Second})
	r, v := refusedVerdict(t, Bucket{9}, 2)
	s.memory.remember(0, v)
	charges, verdicts := []Charge{{Rule: r, Bucket: Bucket{9}}}, make([]Verdict, 1)
	if n := testing.AllocsPerRun(100, func() {
		if admitted, err := s.Take(1, nil, charges, verdicts); admitted || err != nil {
			t.Fatal(admitted, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a request that is known to be refused", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		charges[0].Bucket[0]++
		if _, err := s.Take(1, nil, charges, verdicts); err == nil {
			t.Fatal("nobody decides")
		}
	}); n != 0 {
		t.Errorf("%v allocations while Redis is away", n)
	}
}
