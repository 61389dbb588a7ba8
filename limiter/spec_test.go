package limiter

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

type specRow struct {
	intent string
	spec   Spec
	field  string // of the error; empty: none
	bound  string // in its message
}

func specRate(a Algorithm, n int64, per time.Duration) Spec {
	return Spec{Algorithm: a, Rate: Rate{n, per}}
}

func rateRows() []specRow {
	day, rate := 24*time.Hour, specRate
	return []specRow{
		{"the least", rate(TokenBucket, 1, MaxPeriod), "", ""},
		{"the most in a second", rate(TokenBucket, MaxTokens, second), "", ""},
		{"the most in the longest period", rate(FixedWindow, MaxTokens, MaxPeriod), "", ""},
		{"a long period", rate(LeakyBucket, 1, 120*day), "", ""},
		{"another", rate(FixedWindow, 1, 250*day), "", ""},
		{"the most in the shortest period", rate(TokenBucket, 1_000_000, MinPeriod), "", ""},
		{"too many for the shortest period", rate(TokenBucket, 1_000_001, MinPeriod), "Rate", "1000000000 in a second"},
		{"too many for less than a second", rate(FixedWindow, 999_999_001, 999*time.Millisecond), "Rate", "1000000000 in a second"},
		{"nothing", rate(TokenBucket, 0, second), "Rate", "from 1 to 1000000000"},
		{"less than nothing", rate(FixedWindow, -1, second), "Rate", "from 1 to 1000000000"},
		{"too many", rate(FixedWindow, MaxTokens+1, time.Hour), "Rate", "from 1 to 1000000000"},
		{"the most that slides", rate(SlidingWindow, MaxSliding, second), "", ""},
		{"too many to slide", rate(SlidingWindow, MaxSliding+1, second), "Rate", "from 1 to 16777215"},
		{"no period", rate(TokenBucket, 1, 0), "Rate", "1ms to 366 days"},
		{"a negative period", rate(TokenBucket, 1, -second), "Rate", "1ms to 366 days"},
		{"a period too short", rate(TokenBucket, 1, MinPeriod-1), "Rate", "1ms to 366 days"},
		{"a period too long", rate(TokenBucket, 1, MaxPeriod+1), "Rate", "1ms to 366 days"},
	}
}

func otherRows() []specRow {
	with := func(a Algorithm, change func(s *Spec)) Spec {
		s := specRate(a, 10, second)
		change(&s)
		return s
	}
	return []specRow{
		{"the largest burst", with(TokenBucket, func(s *Spec) { s.Burst = MaxTokens }), "", ""},
		{"a burst too large", with(TokenBucket, func(s *Spec) { s.Burst = MaxTokens + 1 }), "Burst", "1000000000"},
		{"a negative burst", with(LeakyBucket, func(s *Spec) { s.Burst = -1 }), "Burst", "1000000000"},
		{"a burst of a window", with(FixedWindow, func(s *Spec) { s.Burst = 1 }), "Burst", "no burst"},
		{"a burst of a sliding window", with(SlidingWindow, func(s *Spec) { s.Burst = 1 }), "Burst", "no burst"},
		{"all at once", with(TokenBucket, func(s *Spec) { s.Burst, s.Cost = 50, 50 }), "", ""},
		{"more than all at once", with(TokenBucket, func(s *Spec) { s.Burst, s.Cost = 50, 51 }), "Cost", "50 at most"},
		{"more than the burst by default", with(TokenBucket, func(s *Spec) { s.Cost = 11 }), "Cost", "10 at most"},
		{"more than a window", with(FixedWindow, func(s *Spec) { s.Cost = 11 }), "Cost", "10 at most"},
		{"more than a window that slides", with(SlidingWindow, func(s *Spec) { s.Cost = 11 }), "Cost", "10 at most"},
		{"a cost above the length of a line", with(LeakyBucket, func(s *Spec) { s.Burst, s.Cost = 1, 11 }), "", ""},
		{"a cost too large", with(LeakyBucket, func(s *Spec) { s.Cost = MaxTokens + 1 }), "Cost", "1000000000"},
		{"a negative cost", with(LeakyBucket, func(s *Spec) { s.Cost = -1 }), "Cost", "1000000000"},
		{"the longest wait", with(LeakyBucket, func(s *Spec) { s.MaxWait = time.Hour }), "", ""},
		{"a wait too long", with(LeakyBucket, func(s *Spec) { s.MaxWait = time.Hour + 1 }), "MaxWait", "1h"},
		{"a negative wait", with(LeakyBucket, func(s *Spec) { s.MaxWait = -1 }), "MaxWait", "1h"},
		{"a tier", with(FixedWindow, func(s *Spec) { s.Tiers = map[string]Rate{"gold": {5, second}} }), "", ""},
		{"a tier that is nothing", with(FixedWindow, func(s *Spec) { s.Tiers = map[string]Rate{"gold": {}} }), "Tiers.gold", "from 1"},
		{"a tier whose clients could not pass",
			with(FixedWindow, func(s *Spec) { s.Cost, s.Tiers = 6, map[string]Rate{"gold": {5, second}} }), "Cost", "5 at most"},
		{"an algorithm that is none", specRate(LeakyBucket+1, 1, second), "Algorithm", "no such"},
	}
}

func TestSpecCheck(t *testing.T) {
	for _, test := range append(rateRows(), otherRows()...) {
		err := test.spec.Check()
		if test.field == "" {
			if err != nil {
				t.Errorf("%s: %v", test.intent, err)
			}
			continue
		}
		var e *SpecError
		if !errors.As(err, &e) || !errors.Is(err, ErrSpec) {
			t.Errorf("%s: error %v", test.intent, err)
			continue
		}
		if e.Field != test.field || !strings.Contains(e.Error(), test.bound) {
			t.Errorf("%s: %q of field %q, not %q of %q", test.intent, e.Error(), e.Field, test.bound, test.field)
		}
		if _, err := newTestLimiter(8).Prepare([]Spec{test.spec}); !errors.As(err, &e) {
			t.Errorf("%s: prepared, with error %v", test.intent, err)
		}
	}
}

// Of two faults of tiers it is always the same that is reported.
func TestSpecCheckIsSteady(t *testing.T) {
	s := Spec{Rate: Rate{1, second}, Tiers: map[string]Rate{}}
	for i := range 20 {
		s.Tiers[fmt.Sprintf("tier %02d", i)] = Rate{}
	}
	for range 20 {
		if err := s.Check(); !strings.Contains(err.Error(), "tier 00") {
			t.Fatal(err)
		}
	}
}

// Whatever Check lets pass lets a request pass, and tells sensible times about the next one.
func TestWhatCheckLetsPassWorks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Spec{
			Algorithm: Algorithm(rapid.IntRange(0, 3).Draw(t, "algorithm")),
			Burst:     rapid.OneOf(rapid.Int64Range(0, MaxTokens), rapid.Just(int64(0))).Draw(t, "burst"),
			Cost:      rapid.OneOf(rapid.Int64Range(0, 10), rapid.Int64Range(0, MaxTokens)).Draw(t, "cost"),
			MaxWait:   time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "wait")),
			Rate:      drawRate(t, "rate", MaxTokens),
		}
		if s.Check() != nil {
			return
		}
		l, rules := newWithRules(t, 8, s)
		start := drawStart(t)
		var v Verdict
		for i := range 8 {
			now := time.Duration(min(start+int64(i), maxNow))
			if v = takeOne(l, rules[0], 1, now); i == 0 && v.Refused {
				t.Fatalf("%+v: the first request was refused", s)
			}
			if v.Limit() < 1 || v.Remaining() < 0 || v.Remaining() > v.Limit() || v.Window() <= 0 {
				t.Fatalf("%+v: %d of %d in %v", s, v.Remaining(), v.Limit(), v.Window())
			}
			if v.Reset() < 0 || v.RetryAfter() < 0 || v.RetryAfter() > v.Reset() || v.Turn() < 0 || v.Turn() > s.MaxWait {
				t.Fatalf("%+v: retry after %v, reset %v, turn %v", s, v.RetryAfter(), v.Reset(), v.Turn())
			}
			if word := wordOf(l, rules[0], 1); word>>valueBits != 0 {
				t.Fatalf("%+v: word %x", s, word)
			}
		}
	})
}
