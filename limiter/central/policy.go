package central

import (
	"encoding/binary"
	"math"
	"math/bits"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

// century is the longest time that a bucket may take to fill, or a request's cost to be granted, in
// microseconds: with the time of day it stays below 2^53.
const century = 100 * 365 * 24 * int64(time.Hour/time.Microsecond)

// late is how far a bucket may be ahead of a clock that was set back, and be believed; a window at least by one.
const late = time.Minute

// span is a time: whole microseconds, and parts of one, fewer than the policy's den.
type span struct{ us, parts int64 }

func (s span) less(t span) bool { return s.us < t.us || s.us == t.us && s.parts < t.parts }

// policy is what a rule says for one of its rates. It is immutable.
type policy struct {
	algorithm limiter.Algorithm
	rate      limiter.Rate
	limit     int64  // tokens: burst, or tokens in a window
	cost      int64  // tokens that a request takes
	id        uint64 // hash of all that a decision depends on
	tier      string
	field     string // in Redis
	kind      byte   // for the scripts
	packed    string // for the scripts: see scriptClock

	// The two buckets. A token is num/den microseconds, in lowest terms.
	num, den uint64
	each     float64 // the same, about
	increase span    // by a request
	size     span    // token bucket: all it holds; leaky bucket: the longest line before a request

	window int64 // microseconds; zero: it is a bucket
}

// newPolicy makes the policy of a rule for a rate, both of which have been checked by package limiter. field
// says in Redis which of the rule's rates it is.
func newPolicy(s *limiter.Spec, rate limiter.Rate, tier, field string) (*policy, error) {
	p := &policy{algorithm: s.Algorithm, rate: rate, cost: max(s.Cost, 1), tier: tier, field: field}
	var err error
	if s.Algorithm == limiter.FixedWindow || s.Algorithm == limiter.SlidingWindow {
		err = p.setWindow(s, rate)
	} else {
		err = p.setBucket(s, rate)
	}
	if err != nil {
		return nil, err
	}
	p.id = identify(s.Name, p.field, p.packed)
	return p, nil
}

func (p *policy) setWindow(s *limiter.Spec, rate limiter.Rate) error {
	if rate.Per%time.Microsecond != 0 {
		return &limiter.SpecError{Field: "Rate", Reason: "Redis has no windows of parts of a microsecond"}
	}
	p.limit, p.window = max(rate.N, p.cost), int64(rate.Per/time.Microsecond)
	p.kind = 'f'
	if s.Algorithm == limiter.SlidingWindow {
		p.kind = 's'
	}
	p.pack(s.Shadow, p.window, p.limit, p.cost, p.ahead(), 0, 0)
	return nil
}

func (p *policy) setBucket(s *limiter.Spec, rate limiter.Rate) error {
	num, den := uint64(rate.Per), uint64(rate.N)*uint64(time.Microsecond)
	common := gcd(num, den)
	p.num, p.den = num/common, den/common
	p.each = float64(p.num) / float64(p.den)
	p.kind = 't'
	burst, known := s.BurstAt(rate), true
	p.limit = max(burst, p.cost)
	if p.size, known = p.spanOf(p.limit); !known && p.algorithm == limiter.TokenBucket {
		return &limiter.SpecError{Field: "Burst", Reason: "Redis cannot hold a bucket that takes a century to fill"}
	}
	if p.algorithm == limiter.LeakyBucket {
		p.kind = 'l'
		longest := span{int64(s.MaxWait / time.Microsecond), int64(s.MaxWait%time.Microsecond) * int64(p.den) / int64(time.Microsecond)}
		if p.size, known = p.spanOf(burst); !known || longest.less(p.size) {
			p.size = longest
		}
		p.limit = max(p.tokens(p.size), 1)
	}
	if p.increase, known = p.spanOf(p.cost); !known {
		return &limiter.SpecError{Field: "Cost", Reason: "Redis cannot count a request that takes a century to be granted"}
	}
	p.pack(s.Shadow, p.increase.us, p.increase.parts, p.size.us, p.size.parts, int64(p.den), p.each)
	return nil
}

// pack writes down what the scripts need to know of the policy.
func (p *policy) pack(shadow bool, a, b, c, d, e int64, f float64) {
	mark := byte('n')
	if shadow {
		mark = 'y'
	}
	p.packed = string(appendFloats([]byte{p.kind, mark}, float64(a), float64(b), float64(c), float64(d), float64(e), f))
}

func appendFloats(b []byte, numbers ...float64) []byte {
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint64(b, math.Float64bits(n))
	}
	return b
}

// packState writes down a state as it is in Redis, but for its end.
func (p *policy) packState(s state) string {
	a, b, c, d, e := float64(s.a), float64(s.b), float64(s.c), float64(p.window), float64(p.limit)
	if p.window == 0 {
		c, d, e = float64(p.den), p.each, float64(p.size.us)
	}
	return string(appendFloats(append(make([]byte, 0, 41), p.kind), a, b, c, d, e))
}

// ahead is how many windows a bucket may be ahead of a clock that was set back.
func (p *policy) ahead() int64 { return max(1, int64(late/time.Microsecond)/p.window) }

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// identify hashes the content of a policy (FNV-1a): nobody but the operator has a say in it.
func identify(parts ...string) uint64 {
	h := uint64(14695981039346656037)
	add := func(s string) {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
		h = (h ^ 0xff) * 1099511628211
	}
	for _, p := range parts {
		add(p)
	}
	return h
}

// spanOf is the time in which the rate grants so many tokens, if that is less than a century.
func (p *policy) spanOf(tokens int64) (s span, ok bool) {
	hi, lo := bits.Mul64(uint64(tokens), p.num)
	if hi >= p.den {
		return span{}, false
	}
	us, parts := bits.Div64(hi, lo, p.den)
	if us >= uint64(century) {
		return span{}, false
	}
	return span{int64(us), int64(parts)}, true
}

// tokens is how many whole tokens the rate grants in a time. It is at most a few times the limit.
func (p *policy) tokens(s span) int64 {
	hi, lo := bits.Mul64(uint64(s.us), p.den)
	lo, carry := bits.Add64(lo, uint64(s.parts), 0)
	q, _ := bits.Div64(hi+carry, lo, p.num)
	return int64(q)
}

func (p *policy) plus(s, t span) span {
	s = span{s.us + t.us, s.parts + t.parts}
	if s.parts >= int64(p.den) {
		s.us, s.parts = s.us+1, s.parts-int64(p.den)
	}
	return s
}

func (p *policy) minus(s, t span) span {
	s = span{s.us - t.us, s.parts - t.parts}
	if s.parts < 0 {
		s.us, s.parts = s.us-1, s.parts+int64(p.den)
	}
	return s
}

// duration is a time in nanoseconds, rounded up; no time is negative.
func (p *policy) duration(s span) time.Duration {
	if s.us < 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(s.parts), uint64(time.Microsecond))
	ns, rest := bits.Div64(hi, lo, p.den)
	if rest > 0 {
		ns++
	}
	return microseconds(s.us) + time.Duration(ns)
}

func microseconds(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// ceilDiv is a*b/c rounded up, which fits if one of a and b is at most c.
func ceilDiv(a, b, c int64) int64 {
	q, rest := divide(a, b, c)
	if rest > 0 {
		q++
	}
	return q
}

func divide(a, b, c int64) (q, rest int64) {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	uq, ur := bits.Div64(hi, lo, uint64(c))
	return int64(uq), int64(ur)
}
