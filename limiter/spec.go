package limiter

import (
	"errors"
	"fmt"
	"math/bits"
	"time"
)

// Bounds of what a rule may say. Within them no arithmetic overflows; scale says what is rounded.
const (
	MaxTokens  = 1_000_000_000        // of a rate, a burst, a cost
	MaxSliding = 1<<24 - 1            // tokens in a sliding window: two counts share a word
	MaxPeriod  = 366 * 24 * time.Hour // of a rate
	MinPeriod  = time.Millisecond
	MaxShared  = 1 << 23 // tokens that a request of a shared rule takes
)

// ErrSpec is what every fault of a Spec wraps.
var ErrSpec = errors.New("limiter: bad rule")

// SpecError says which field of a Spec cannot be, and why.
type SpecError struct {
	Field  string // Algorithm, Rate, Burst, Cost, MaxWait, or Tiers.NAME
	Reason string
}

func (e *SpecError) Error() string { return "limiter: " + e.Field + ": " + e.Reason }

// Unwrap lets errors.Is find ErrSpec.
func (e *SpecError) Unwrap() error { return ErrSpec }

// Spec is a rule as its user writes it.
type Spec struct {
	Name      string // what the rule's buckets are kept under; the same over reloads
	Algorithm Algorithm
	Rate      Rate
	// Burst is how many tokens a token bucket holds, or how many requests may wait in a leaky bucket's
	// queue. Zero: as many as the rate grants in a second, and at least one. Windows have none.
	Burst   int64
	Cost    int64           // tokens that a request takes; zero: one
	MaxWait time.Duration   // leaky bucket: the longest wait for one's turn
	Tiers   map[string]Rate // rates of clients of a tier; others have Rate
	Shadow  bool            // count, but let everything pass

	// Shared says that the limit is one for all nodes of a fleet: see "One limit on many gateways". Parts is
	// whatever else has to be the same on all of them for that, such as what the keys are made of.
	Shared bool
	Parts  string
}

// burst is the burst that goes with a rate.
func (s *Spec) burst(r Rate) int64 {
	if s.Burst > 0 {
		return s.Burst
	}
	hi, lo := bits.Mul64(uint64(r.N), uint64(time.Second))
	if hi >= uint64(r.Per) {
		return MaxTokens
	}
	tokens, _ := bits.Div64(hi, lo, uint64(r.Per))
	return max(1, min(MaxTokens, int64(tokens)))
}

// BurstAt is how many tokens a bucket holds, or requests a queue, for a rate: the burst, or one second's worth.
func (s *Spec) BurstAt(r Rate) int64 { return s.burst(r) }

// Check finds the first thing that cannot be: what the arithmetic does not hold, or a request that could
// never pass. Its error is a *SpecError.
func (s *Spec) Check() error {
	if s.Algorithm > LeakyBucket {
		return &SpecError{"Algorithm", "there is no such algorithm"}
	}
	if s.Burst < 0 || s.Burst > MaxTokens {
		return &SpecError{"Burst", fmt.Sprintf("at most %d", int64(MaxTokens))}
	}
	if s.Cost < 0 || s.Cost > MaxTokens {
		return &SpecError{"Cost", fmt.Sprintf("at most %d", int64(MaxTokens))}
	}
	windowed := s.Algorithm == FixedWindow || s.Algorithm == SlidingWindow
	if windowed && s.Burst != 0 {
		return &SpecError{"Burst", "windows have no burst: the rate says all"}
	}
	if s.Algorithm == LeakyBucket && (s.MaxWait < 0 || s.MaxWait > time.Hour) {
		return &SpecError{"MaxWait", "at most 1h"}
	}
	if s.Shared && s.Cost > MaxShared {
		return &SpecError{"Cost", fmt.Sprintf("at most %d of a shared limit", MaxShared)}
	}
	if err := s.checkRate("Rate", s.Rate); err != nil {
		return err
	}
	for _, tier := range sortedTiers(s) {
		if err := s.checkRate("Tiers."+tier, s.Tiers[tier]); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spec) checkRate(field string, r Rate) error {
	most := int64(MaxTokens)
	if s.Algorithm == SlidingWindow {
		most = MaxSliding
	}
	windowed := s.Algorithm == FixedWindow || s.Algorithm == SlidingWindow
	holds := r.N
	if s.Algorithm == TokenBucket {
		holds = s.burst(r)
	}
	switch {
	case r.N < 1 || r.N > most:
		return &SpecError{field, fmt.Sprintf("from 1 to %d in a period", most)}
	case r.Per < MinPeriod || r.Per > MaxPeriod:
		return &SpecError{field, fmt.Sprintf("a period lasts from %v to %d days", MinPeriod, MaxPeriod/(24*time.Hour))}
	case s.Shared && windowed && r.Per < time.Second:
		return &SpecError{field, "a shared window lasts a second at least"}
	case r.N > int64(r.Per): // MaxTokens in a second are one in a nanosecond
		return &SpecError{field, fmt.Sprintf("at most %d in a second", int64(MaxTokens))}
	case s.Algorithm != LeakyBucket && s.Cost > holds:
		return &SpecError{"Cost", fmt.Sprintf("no request could ever pass: a bucket holds %d at most", holds)}
	}
	return nil
}
