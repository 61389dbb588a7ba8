package limiter

import (
	"math"
	"math/bits"
	"time"
)

// Algorithm is how a rule counts.
type Algorithm uint8

// The algorithms. The package documentation says what each of them admits.
const (
	TokenBucket Algorithm = iota
	FixedWindow
	SlidingWindow
	LeakyBucket
)

// A word holds a bucket: the epoch of the policy that it is written in, and the value, whose meaning is
// the algorithm's. No bucket looks like owned, as epochs end before the bits do.
const (
	valueBits = 61
	valueMask = 1<<valueBits - 1
	epochs    = 7
	owned     = math.MaxUint64 // a word in the hands of a claim; see table.claim
)

// policy is what a plan's numbers mean for its words: algorithm, rate and size, in the units of the
// arithmetic. It is immutable.
type policy struct {
	algorithm Algorithm
	epoch     uint64 // in its place in a word
	limit     int64  // tokens: burst, or tokens in a window
	cost      int64  // tokens that a request takes
	rate      Rate

	// Of shared rules.
	rule     uint64 // what peers know the bucket's rule by
	own      bool   // the rate is that of credentials
	patience int64  // nanoseconds until peers have acknowledged what was taken, about

	// The two buckets. Their value is the theoretical arrival time of GCRA (ITU-T I.371), by the rate's
	// own clock: the reading at which the bucket is full again.
	scale scale
	size  int64 // grains: token bucket, all it holds; leaky bucket, the longest line before a request

	// The two windows.
	window int64  // nanoseconds
	phase  int64  // nanoseconds from a window's start to the epoch
	count  uint   // bits of a count
	wrap   uint64 // mask of a window's number
	ahead  uint64 // how many windows a bucket can be ahead of a request that is late
}

// newPolicy makes the policy of a rule for one of its rates. The spec has been checked. phase is the
// nanoseconds from the Unix epoch to the limiter's.
func newPolicy(s *Spec, rate Rate, unix int64) *policy {
	p := &policy{algorithm: s.Algorithm, rate: rate, cost: s.Cost}
	switch s.Algorithm {
	case TokenBucket:
		p.limit = max(s.burst(rate), s.Cost)
		p.scale = newScale(rate.N, rate.Per, p.limit)
		p.size = p.limit * p.scale.token
	case LeakyBucket:
		burst := s.burst(rate)
		p.scale = newScale(rate.N, rate.Per, burst+s.Cost)
		p.size = p.scale.span(s.MaxWait, burst*p.scale.token)
		p.limit = max(p.size/p.scale.token, 1)
	case FixedWindow, SlidingWindow:
		p.limit = max(rate.N, s.Cost)
		p.window = int64(rate.Per)
		p.phase = ((unix % p.window) + p.window) % p.window
		p.count = uint(bits.Len64(uint64(p.limit)))
		counts := p.count
		if s.Algorithm == SlidingWindow {
			counts *= 2
		}
		p.wrap = 1<<(valueBits-counts) - 1
		p.ahead = max(1, min(uint64(latest/rate.Per), p.wrap/4))
	}
	return p
}

// same says whether two policies read and write the same words.
func (p *policy) same(q *policy) bool {
	r := *q
	r.epoch = p.epoch
	return *p == r
}

// take decides on a request of a cost (at most the limit) at now, from the value of its bucket. next is
// the value afterwards, and means nothing if the request is refused.
func (p *policy) take(value uint64, now, cost int64) (next uint64, ok bool) {
	switch p.algorithm {
	case TokenBucket:
		clock := p.scale.at(now)
		full := max(int64(value), clock) + cost*p.scale.token
		return uint64(full), full-clock <= p.size
	case LeakyBucket:
		clock := p.scale.at(now)
		turn := max(int64(value), clock)
		return uint64(turn + cost*p.scale.token), turn-clock <= p.size
	case FixedWindow:
		number, used, _ := p.fixed(value, now)
		return number<<p.count | uint64(used+cost), used+cost <= p.limit
	default:
		w := p.sliding(value, now)
		w.current += cost
		return p.slidingValue(&w), w.fits(p.limit-w.current, p.window)
	}
}

// wait is the time from now until a request that was refused would pass, if nothing else is taken
// meanwhile.
func (p *policy) wait(value uint64, now, cost int64) int64 {
	switch p.algorithm {
	case TokenBucket:
		return p.scale.when(int64(value)+cost*p.scale.token-p.size) - now
	case LeakyBucket:
		return p.scale.when(int64(value)-p.size) - now
	case FixedWindow:
		_, _, left := p.fixed(value, now)
		return left
	default:
		w := p.sliding(value, now)
		return w.late + p.slideWait(&w, cost)
	}
}

// turn is the time from now until the turn of a request begins that left the value behind.
func (p *policy) turn(value uint64, now, cost int64) int64 {
	if p.algorithm != LeakyBucket {
		return 0
	}
	return max(p.scale.when(int64(value)-cost*p.scale.token)-now, 0)
}

// state is how many tokens are left at now, and the time until none is missing any more.
func (p *policy) state(value uint64, now int64) (left, full int64) {
	switch p.algorithm {
	case TokenBucket, LeakyBucket:
		debt := int64(value) - p.scale.at(now)
		if debt <= 0 {
			return p.limit, 0
		}
		full = p.scale.when(int64(value)) - now
		switch {
		case debt > p.size:
			return 0, full
		case p.algorithm == LeakyBucket: // who finds the line just as long as it may be still gets in
			return min((p.size-debt)/p.scale.token+1, p.limit), full
		}
		return (p.size - debt) / p.scale.token, full
	case FixedWindow:
		_, used, left := p.fixed(value, now)
		if used == 0 {
			left = 0
		}
		return max(p.limit-used, 0), left
	default:
		w := p.sliding(value, now)
		return max(p.limit-w.current-int64(w.carried(p.window)), 0), p.slideFull(&w)
	}
}

// debt is how many tokens a bucket lacks at now, as a fraction.
func (p *policy) debt(value uint64, now int64) (tokens, parts uint64) {
	switch p.algorithm {
	case TokenBucket, LeakyBucket:
		return uint64(max(int64(value)-p.scale.at(now), 0)), uint64(p.scale.token)
	case FixedWindow:
		_, used, _ := p.fixed(value, now)
		return uint64(used), 1
	default:
		w := p.sliding(value, now)
		return uint64(w.current) + w.carried(p.window), 1
	}
}

// indebted is the value of a bucket that lacks some tokens at now, rounded up; more than a bucket can
// lack is forgiven.
func (p *policy) indebted(tokens, parts uint64, now int64) uint64 {
	switch p.algorithm {
	case TokenBucket, LeakyBucket:
		most := p.size
		if p.algorithm == LeakyBucket { // the last of the line is behind it
			most += p.cost * p.scale.token
		}
		return uint64(p.scale.at(now) + int64(mulDivUp(tokens, uint64(p.scale.token), parts, uint64(most))))
	default:
		used := mulDivUp(tokens, 1, parts, uint64(p.limit))
		return p.number(now)&p.wrap<<p.shift() | used
	}
}

// adopt translates a value from the policy that a plan had before: what a client has used stays used,
// as far as the new size goes, and drains at the new rate from now on.
func (p *policy) adopt(old *policy, value uint64, now int64) uint64 {
	if p.window != 0 && p.window == old.window {
		return p.adoptWindow(old, value, now)
	}
	tokens, parts := old.debt(value, now)
	return p.indebted(tokens, parts, now)
}

// spent says whether a bucket is as good as new: it may be forgotten without loss.
func (p *policy) spent(value uint64, now int64) bool {
	tokens, _ := p.debt(value, now)
	return tokens == 0
}

// slight says whether a bucket lacks less than a twentieth of its limit: what is lost when it is
// forgotten although somebody else needs its place.
func (p *policy) slight(value uint64, now int64) bool {
	tokens, parts := p.debt(value, now)
	hi, lo := bits.Mul64(tokens, 20)
	limitHi, limitLo := bits.Mul64(uint64(p.limit), parts)
	return hi < limitHi || hi == limitHi && lo < limitLo
}

// worn is the value of a bucket that takes the place of another one, which had to be forgotten: it begins
// with a debt as large as that one's may have been, as far as that is whole tokens.
func (p *policy) worn(now int64) uint64 { return p.indebted(uint64(p.limit)/20, 1, now) }

// refund is what can still be given back of a request that was admitted.
type refund struct {
	taken         uint64 // the value that the request left behind
	cost          int64  // tokens
	tokens, parts uint64 // buckets: what has not come in anew since, as a fraction
}

// unused is what can be given back at now of a request that left a value behind: what the rate has granted
// since would have overflowed, had nothing been taken.
func (p *policy) unused(taken uint64, now, cost int64) refund {
	r := refund{taken: taken, cost: cost, tokens: uint64(cost), parts: 1}
	if p.window == 0 {
		r.tokens = uint64(max(min(int64(taken)-p.scale.at(now), cost*p.scale.token), 0))
		r.parts = uint64(p.scale.token)
	}
	return r
}

// giveBack is the value after a refund, as far as that is still possible. A turn is given back only while
// it is the last.
func (p *policy) giveBack(value uint64, r refund) (next uint64, ok bool) {
	switch p.algorithm {
	case TokenBucket:
		return p.less(value, r), true
	case LeakyBucket:
		return p.less(value, r), value == r.taken
	case FixedWindow:
		if value>>p.count != r.taken>>p.count {
			return value, false
		}
		return value - min(uint64(r.cost), value&(1<<p.count-1)), true
	default:
		return p.giveBackSliding(value, r.taken, r.cost)
	}
}

// less is the value of a bucket that gets a refund, which may be of another policy.
func (p *policy) less(value uint64, r refund) uint64 {
	hi, lo := bits.Mul64(r.tokens, uint64(p.scale.token))
	if hi >= r.parts {
		return 0
	}
	grains, _ := bits.Div64(hi, lo, r.parts)
	return value - min(grains, value)
}

// mulDivUp is a*b/c, rounded up, at most most.
func mulDivUp(a, b, c, most uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	lo, carry := bits.Add64(lo, c-1, 0)
	hi += carry
	if hi >= c {
		return most
	}
	q, _ := bits.Div64(hi, lo, c)
	return min(q, most)
}

// Rate is N requests in every Per.
type Rate struct {
	N   int64
	Per time.Duration
}
