package telemetry

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Durations are counted in buckets of a fixed scale: sixteen in each power of ten from 10 us to 100 s, none
// wider than a quarter of its lower end, with one below and one above. The decimal bounds that are published
// (1, 2.5 and 5 in each power) are among its borders, so that coarse buckets are exact sums of fine ones.
const (
	perDecade = 16
	decades   = 7
	buckets   = 1 + perDecade*decades + 1
	groups    = 1 + 3*decades + 1 // of buckets: what lies between two bounds
)

// decadeSteps are the lower borders of the buckets of a decade, in hundredths of its beginning.
var decadeSteps = [perDecade]int64{100, 125, 150, 175, 200, 225, 250, 300, 350, 400, 450, 500, 600, 700, 800, 900}

// powers are those of ten; the scale begins at 10^firstDecade nanoseconds.
var powers = [...]uint64{1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11}

const firstDecade = 4

// bucketOf is the bucket of a duration. Borders belong to the bucket below, as Prometheus has it.
func bucketOf(d time.Duration) int {
	if d <= 0 {
		return 0
	}
	ns := uint64(d - 1)
	switch {
	case ns < powers[firstDecade]:
		return 0
	case ns >= powers[firstDecade+decades]:
		return buckets - 1
	}
	decade := bits.Len64(ns) * 1233 >> 12 // of the power of ten that is as large, or the next
	if ns < powers[decade] {
		decade--
	}
	quarters := int(ns * 4 / powers[decade]) // 4 to 39
	step := 0
	switch {
	case quarters < 10:
		step = quarters - 4
	case quarters < 20:
		step = 6 + (quarters-10)/2
	default:
		step = 11 + (quarters-20)/4
	}
	return 1 + (decade-firstDecade)*perDecade + step
}

// lowerEnd is where a bucket begins; that of the last but one past all is where the scale ends.
func lowerEnd(bucket int) time.Duration {
	if bucket == 0 {
		return 0
	}
	decade, step := (bucket-1)/perDecade, (bucket-1)%perDecade
	return time.Duration(decadeSteps[step] * int64(powers[decade+firstDecade]) / 100) // #nosec G115 -- at most 1e11
}

// groupOf is the group of a bucket.
func groupOf(bucket int) int {
	if bucket == 0 || bucket == buckets-1 {
		return bucket * (groups - 1) / (buckets - 1)
	}
	decade, step := (bucket-1)/perDecade, (bucket-1)%perDecade
	group := 1 + 3*decade
	if step >= 6 {
		group++
	}
	if step >= 11 {
		group++
	}
	return group
}

// histogram counts durations. Its counts wrap around: who reads it takes differences.
type histogram struct {
	sum    atomic.Uint64 // nanoseconds
	counts [buckets]atomic.Uint32
}

func (h *histogram) observe(d time.Duration) {
	h.counts[bucketOf(d)].Add(1)
	h.sum.Add(uint64(max(d, 0)))
}

// spread is how many durations fell into each bucket in some span of time.
type spread [buckets]uint32

// quantile estimates the duration that a share q of those counted do not exceed: within its bucket, they are
// taken to be spread evenly. Nothing counted gives 0.
func (s *spread) quantile(q float64) time.Duration {
	var all uint64
	for _, n := range s {
		all += uint64(n)
	}
	if all == 0 {
		return 0
	}
	rank := q * float64(all)
	for b, n := range s {
		if float64(n) < rank || n == 0 {
			rank -= float64(n)
			continue
		}
		low := lowerEnd(b)
		if b == buckets-1 {
			return low
		}
		return low + time.Duration(rank/float64(n)*float64(lowerEnd(b+1)-low))
	}
	return lowerEnd(buckets - 1)
}
