package limiter

import (
	"math/big"
	"sort"
	"time"
)

// The models are the algorithms as their definitions read: for one bucket, in exact numbers, slow. They
// share no arithmetic with what they judge.

// answer is what a model says of a request. Times are nanoseconds, not rounded.
type answer struct {
	ok                 bool
	remaining          *big.Rat // tokens
	retry, turn, reset *big.Rat
	margin             *big.Rat // how many tokens off the opposite decision would have been; nil: it is exact
}

type model interface {
	take(now, cost int64) answer
	// debt is how many tokens are lacking at now.
	debt(now int64) *big.Rat
}

func rat(n int64) *big.Rat         { return new(big.Rat).SetInt64(n) }
func add(a, b *big.Rat) *big.Rat   { return new(big.Rat).Add(a, b) }
func sub(a, b *big.Rat) *big.Rat   { return new(big.Rat).Sub(a, b) }
func mul(a, b *big.Rat) *big.Rat   { return new(big.Rat).Mul(a, b) }
func quo(a, b *big.Rat) *big.Rat   { return new(big.Rat).Quo(a, b) }
func atMost(a, b *big.Rat) bool    { return a.Cmp(b) <= 0 }
func positive(a *big.Rat) *big.Rat { return larger(a, new(big.Rat)) }
func perToken(r Rate) *big.Rat     { return big.NewRat(int64(r.Per), r.N) }
func modelBurst(s Spec, r Rate) int64 {
	if s.Burst > 0 {
		return s.Burst
	}
	return max(1, ceil(quo(rat(int64(time.Second)), perToken(r))))
}

func larger(a, b *big.Rat) *big.Rat {
	if atMost(a, b) {
		return b
	}
	return a
}

func smaller(a, b *big.Rat) *big.Rat {
	if atMost(a, b) {
		return a
	}
	return b
}

func floor(a *big.Rat) int64 {
	return new(big.Int).Div(a.Num(), a.Denom()).Int64() // Euclidean: rounds down, as denominators are positive
}

func ceil(a *big.Rat) int64 { return -floor(new(big.Rat).Neg(a)) }

// newModel is a full bucket.
func newModel(s Spec, r Rate) model {
	switch s.Algorithm {
	case TokenBucket:
		burst := max(modelBurst(s, r), s.Cost)
		return &tokenModel{burst: rat(burst), tokens: rat(burst), last: -1, each: perToken(r)}
	case LeakyBucket:
		longest := smaller(rat(int64(s.MaxWait)), mul(rat(modelBurst(s, r)), perToken(r)))
		limit := max(1, floor(quo(longest, perToken(r))))
		return &leakyModel{each: perToken(r), longest: longest, limit: rat(limit), free: new(big.Rat)}
	}
	w := windowModel{limit: max(r.N, s.Cost), per: int64(r.Per), used: map[int64]int64{}}
	if s.Algorithm == FixedWindow {
		return &fixedModel{w}
	}
	return &slidingModel{w}
}

// tokenModel is a bucket of tokens that is filled continuously.
type tokenModel struct {
	burst  *big.Rat
	tokens *big.Rat // at last
	last   int64    // when something was taken; -1: never
	each   *big.Rat // nanoseconds for a token
}

func (m *tokenModel) level(now int64) *big.Rat {
	if m.last < 0 {
		return m.burst
	}
	return smaller(m.burst, add(m.tokens, quo(rat(now-m.last), m.each)))
}

func (m *tokenModel) take(now, cost int64) answer {
	level := m.level(now)
	a := answer{ok: atMost(rat(cost), level), margin: sub(level, rat(cost))}
	if a.ok {
		level = sub(level, rat(cost))
		m.tokens, m.last = level, now
	} else {
		a.retry = mul(sub(rat(cost), level), m.each)
	}
	a.remaining = positive(level)
	a.reset = mul(sub(m.burst, level), m.each)
	return a
}

func (m *tokenModel) debt(now int64) *big.Rat { return sub(m.burst, m.level(now)) }

// leakyModel is a line in which the turns are a fixed time apart.
type leakyModel struct {
	each    *big.Rat
	longest *big.Rat // wait
	limit   *big.Rat
	free    *big.Rat // the next free turn
	turns   []*big.Rat
}

func (m *leakyModel) take(now, cost int64) answer {
	turn := larger(m.free, rat(now))
	wait := sub(turn, rat(now))
	a := answer{ok: atMost(wait, m.longest), margin: quo(sub(m.longest, wait), m.each)}
	if a.ok {
		m.turns = append(m.turns, turn)
		m.free = add(turn, mul(rat(cost), m.each))
		a.turn = wait
	} else {
		a.retry = sub(wait, m.longest)
	}
	a.reset = positive(sub(m.free, rat(now)))
	a.remaining = positive(smaller(m.limit, add(quo(sub(m.longest, a.reset), m.each), rat(1))))
	return a
}

func (m *leakyModel) debt(now int64) *big.Rat {
	return quo(positive(sub(m.free, rat(now))), m.each)
}

// windowModel is the tokens taken in every window of the wall's clock.
type windowModel struct {
	limit, per int64
	used       map[int64]int64
	latest     int64 // window that something was counted in
}

// at is the window of now, or the one that is begun already if now is late, and the moment that counts.
func (m *windowModel) at(now int64) (window, moment int64) {
	moment = epoch.UnixNano() + now
	window = moment / m.per
	if window < m.latest {
		return m.latest, m.latest * m.per
	}
	return window, moment
}

func (m *windowModel) count(window, cost int64) {
	m.latest = window
	m.used[window] += cost
	for w := range m.used {
		if w < window-1 {
			delete(m.used, w)
		}
	}
}

type fixedModel struct{ windowModel }

func (m *fixedModel) take(now, cost int64) answer {
	window, _ := m.at(now)
	end := rat((window+1)*m.per - epoch.UnixNano() - now)
	a := answer{ok: m.used[window]+cost <= m.limit, reset: end}
	if a.ok {
		m.count(window, cost)
	} else {
		a.retry = end
	}
	a.remaining = rat(max(m.limit-m.used[window], 0))
	if m.used[window] == 0 {
		a.reset = new(big.Rat)
	}
	return a
}

func (m *fixedModel) debt(now int64) *big.Rat {
	window, _ := m.at(now)
	return rat(m.used[window])
}

type slidingModel struct{ windowModel }

// weight is how many tokens count at a moment: of the window before, in proportion.
func (m *slidingModel) weight(window, moment int64) *big.Rat {
	left := big.NewRat((window+1)*m.per-moment, m.per)
	return add(rat(m.used[window]), mul(rat(m.used[window-1]), left))
}

func (m *slidingModel) fits(now, cost int64) bool {
	return atMost(add(m.weight(m.at(now)), rat(cost)), rat(m.limit))
}

func (m *slidingModel) take(now, cost int64) answer {
	window, moment := m.at(now)
	a := answer{ok: m.fits(now, cost)}
	if a.ok {
		m.count(window, cost)
	} else {
		// As long as nothing is taken, what fits at some time fits later too.
		most := (max(window, m.latest)+3)*m.per - epoch.UnixNano() - now
		wait := sort.Search(int(most), func(d int) bool { return m.fits(now+int64(d), cost) })
		a.retry = rat(int64(wait))
	}
	a.remaining = positive(sub(rat(m.limit), m.weight(window, moment)))
	last := window // the last window in which something counts
	switch {
	case m.used[window] > 0:
		last = window + 1
	case m.used[window-1] == 0:
		last = -1
	}
	a.reset = new(big.Rat)
	if last >= 0 {
		a.reset = rat((last+1)*m.per - epoch.UnixNano() - now)
	}
	return a
}

func (m *slidingModel) debt(now int64) *big.Rat { return m.weight(m.at(now)) }
