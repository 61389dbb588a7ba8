package limiter

import (
	"testing"
	"time"
)

// limitOf is the limit that a client of a tier and an own rate meets.
func limitOf(l *Limiter, r *Rule, tier string, own Rate) int64 {
	charges, verdicts := []Charge{{Rule: r, Key: 5, Tier: tier, Own: own}}, make([]Verdict, 1)
	l.Take(0, charges, verdicts)
	return verdicts[0].Limit()
}

func TestTiers(t *testing.T) {
	l, rules := newWithRules(t, 64, Spec{Algorithm: FixedWindow, Rate: Rate{10, second},
		Tiers: map[string]Rate{"gold": {1000, second}, "silver": {100, time.Minute}}})
	tests := []struct {
		intent, tier string
		own          Rate
		want         int64
	}{
		{"no tier", "", Rate{}, 10},
		{"a tier", "gold", Rate{}, 1000},
		{"another", "silver", Rate{}, 100},
		{"one that the rule does not know", "iron", Rate{}, 10},
		{"a rate of one's own", "", Rate{77, second}, 77},
		{"which wins over the tier", "gold", Rate{77, time.Minute}, 77},
		{"one that cannot be: the tier's", "gold", Rate{77, time.Microsecond}, 1000},
		{"one that cannot be, without a tier", "", Rate{-1, second}, 10},
		{"one that is too much", "", Rate{MaxTokens + 1, second}, 10},
	}
	for _, test := range tests {
		if got := limitOf(l, rules[0], test.tier, test.own); got != test.want {
			t.Errorf("%s: limit %d, not %d", test.intent, got, test.want)
		}
	}
	// Each has its buckets for itself.
	v := make([]Verdict, 1)
	l.Take(0, []Charge{{Rule: rules[0], Key: 5, Tier: "gold"}}, v)
	if v[0].Remaining() != 997 {
		t.Errorf("%d remain in gold, not 997", v[0].Remaining())
	}
	if states := l.Inspect(rules[0], 5, 0); len(states) != 5 {
		t.Errorf("a key with five rates has the buckets %+v", states)
	}
}

// A rule knows so many rates of credentials; those that come later have the tier's.
func TestOwnRatesAreBounded(t *testing.T) {
	l, rules := newWithRules(t, 64, Spec{Algorithm: FixedWindow, Rate: Rate{5, second}})
	for round := range 2 {
		for i := range int64(maxOwnRates + 50) {
			want := 1000 + i
			if i >= maxOwnRates {
				want = 5
			}
			if got := limitOf(l, rules[0], "", Rate{1000 + i, time.Hour}); got != want {
				t.Fatalf("round %d, rate %d: limit %d, not %d", round, i, got, want)
			}
		}
	}
	if n := l.plans.last; n != maxOwnRates+1 {
		t.Errorf("%d plans", n)
	}
}

// Many who bring the same new rate along at once share its plan.
func TestOwnRateRace(t *testing.T) {
	procs(t, 8)
	for round := range int64(scaled(100)) {
		l, rules := newWithRules(t, 64, Spec{Algorithm: TokenBucket, Rate: Rate{5, second}, Burst: 1})
		got := make([]int, 16)
		together(16, func(i int) {
			v := make([]Verdict, 1)
			for range 3 {
				if l.Take(0, []Charge{{Rule: rules[0], Key: 5, Own: Rate{round + 1, second}}}, v) {
					got[i]++
				}
			}
		})
		sum := 0
		for _, n := range got {
			sum += n
		}
		if sum != 1 {
			t.Fatalf("round %d: %d were admitted", round, sum)
		}
	}
}

// What is new in a rule holds for credentials with their own rates too, whenever those were first seen:
// before, while the update was ready, or after by a request that still holds the old rule.
func TestOwnRatesFollowReloads(t *testing.T) {
	l, rules := newWithRules(t, 64, Spec{Name: "r", Algorithm: TokenBucket, Rate: Rate{1, second}, Burst: 10})
	v := make([]Verdict, 1)
	ask := func(r *Rule, n int64) Verdict {
		l.Take(time.Hour, []Charge{{Rule: r, Key: 5, Own: Rate{n, second}}}, v)
		return v[0]
	}
	ask(rules[0], 1)
	u, err := l.Prepare([]Spec{{Name: "r", Algorithm: TokenBucket, Rate: Rate{1, second}, Burst: 200, Cost: 100}})
	if err != nil {
		t.Fatal(err)
	}
	ask(rules[0], 2)
	u.Commit(time.Hour)
	ask(rules[0], 3)
	for n := range int64(3) {
		if got := ask(u.Rules()[0], n+1); got.Refused || got.Limit() != 200 {
			t.Errorf("own rate %d: refused %v, limit %d", n+1, got.Refused, got.Limit())
		}
	}
}

// A rate that the rule's new algorithm cannot hold is as good as none.
func TestOwnRateOfAnotherAlgorithm(t *testing.T) {
	l, rules := newWithRules(t, 64, Spec{Name: "r", Algorithm: FixedWindow, Rate: Rate{10, second}})
	own := Rate{MaxSliding + 1, second}
	if got := limitOf(l, rules[0], "", own); got != own.N {
		t.Fatalf("limit %d", got)
	}
	rules = reload(t, l, 0, Spec{Name: "r", Algorithm: SlidingWindow, Rate: Rate{10, second}})
	if got := limitOf(l, rules[0], "", own); got != 10 {
		t.Errorf("limit %d, not 10", got)
	}
}

// Ids that were promised to an update are there when it is committed.
func TestCommitHasItsIDs(t *testing.T) {
	l, rules := newWithRules(t, 64, Spec{Name: "r", Algorithm: FixedWindow, Rate: Rate{10, second}})
	specs := []Spec{{Name: "r", Algorithm: FixedWindow, Rate: Rate{10, second}, Tiers: map[string]Rate{}}}
	for i := range maxPlans - 2 {
		specs[0].Tiers[time.Duration(i).String()] = Rate{20, second}
	}
	u, err := l.Prepare(specs)
	if err != nil {
		t.Fatal(err)
	}
	if got := limitOf(l, rules[0], "", Rate{7, second}); got != 10 {
		t.Errorf("an own rate got the last id: limit %d", got)
	}
	u.Commit(0)
}
