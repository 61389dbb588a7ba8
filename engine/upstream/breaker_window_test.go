package upstream

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"
)

// TestBreakerWindowCountsAll: whoever adds at the same moment as others, in buckets that are just coming
// round, is counted exactly once. The workers draw the epochs from one counter, which keeps them together.
func TestBreakerWindowCountsAll(t *testing.T) {
	const rounds, each = 20000, 4
	var w breakerWindow
	var turn atomic.Int64
	for round := range int64(rounds) {
		end := (round + 1) * breakerBuckets * each
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				for n := turn.Add(1) - 1; n < end; n = turn.Add(1) - 1 {
					w.count(uint64(n/each), n%2 == 0)
				}
			})
		}
		all.Wait()
		turn.Store(end)
		for i := range w.buckets {
			b := &w.buckets[i]
			want := uint64(round*breakerBuckets+int64(i)) << countBits
			if b.all.Load() != want|each || b.failed.Load() != want|each/2 {
				t.Fatalf("round %d, bucket %d: %x and %x", round, i, b.all.Load(), b.failed.Load())
			}
		}
	}
	end := uint64(rounds*breakerBuckets - 1)
	full := each * breakerBuckets
	if !w.reaches(end, &BreakerConfig{MinRequests: full, FailureRatio: 0.5}) {
		t.Error("the whole window has too little")
	}
	if w.reaches(end, &BreakerConfig{MinRequests: full + 1}) || w.reaches(end, &BreakerConfig{FailureRatio: math.Nextafter(0.5, 1)}) {
		t.Error("the whole window has too much")
	}
}
