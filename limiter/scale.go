package limiter

import (
	"math/bits"
	"time"
)

const (
	maxNow  = 1 << 58 // nanoseconds since the epoch, some nine years; later counts as then
	maxPace = 4       // grains in a nanosecond, at most: a clock ends below 1<<60
	maxDebt = 1 << 59 // grains that a bucket holds at most
)

// scale is the clock of a rate: it runs in grains, the fraction of a token that a bucket counts in. There
// are whole grains in a token, and the clock gains exactly one token's worth in the time that the rate
// grants one. Where it can be, a clock ticks in whole grains per nanosecond (100/s: a token is ten million
// grains, one each nanosecond), so that nothing is ever rounded; for rates such as 999/s it is off by less
// than a grain, which is less than a nanosecond unless the burst is worth centuries.
type scale struct {
	mul, div uint64 // grains per nanosecond, as a fraction in lowest terms
	token    int64  // grains in a token
}

// newScale makes the clock of n tokens per period, for buckets of up to size tokens.
func newScale(n int64, per time.Duration, size int64) scale {
	common := gcd(uint64(n), uint64(per))
	tokens, span := uint64(n)/common, uint64(per)/common
	if tokens <= maxPace && span <= maxDebt/uint64(size) {
		return scale{mul: tokens, div: 1, token: int64(span)}
	}
	token := uint64(1) << (bits.Len64(maxDebt/uint64(size)) - 1)
	for token > 1 && !slower(token, uint64(n), maxPace*uint64(per)) {
		token /= 2
	}
	// token*n fits 64 bits: it is at most maxPace*per by now.
	common = gcd(token*uint64(n), uint64(per))
	return scale{mul: token * uint64(n) / common, div: uint64(per) / common, token: int64(token)}
}

// slower says whether a*b <= c.
func slower(a, b, c uint64) bool {
	hi, lo := bits.Mul64(a, b)
	return hi == 0 && lo <= c
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// at is the clock's reading at now: the grains that the rate has granted since the epoch, rounded down.
func (s *scale) at(now int64) int64 {
	if s.div == 1 {
		return now * int64(s.mul)
	}
	hi, lo := bits.Mul64(uint64(now), s.mul)
	grains, _ := bits.Div64(hi, lo, s.div)
	return int64(grains)
}

// when is the first moment at which the clock shows at least the reading.
func (s *scale) when(reading int64) int64 {
	if s.div == 1 && s.mul == 1 {
		return min(reading, maxNow)
	}
	hi, lo := bits.Mul64(uint64(reading), s.div)
	lo, carry := bits.Add64(lo, s.mul-1, 0)
	hi += carry
	if hi >= s.mul {
		return maxNow
	}
	now, _ := bits.Div64(hi, lo, s.mul)
	return int64(min(now, maxNow))
}

// span is how many grains the clock gains in a time, rounded down, at most most.
func (s *scale) span(t time.Duration, most int64) int64 {
	hi, lo := bits.Mul64(uint64(max(t, 0)), s.mul)
	if hi >= s.div {
		return most
	}
	grains, _ := bits.Div64(hi, lo, s.div)
	return int64(min(grains, uint64(most)))
}
