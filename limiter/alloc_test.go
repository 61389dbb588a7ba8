//go:build !race

package limiter

import (
	"testing"
	"time"
)

// No decision allocates, whatever it is.
func TestTakeAllocations(t *testing.T) {
	for name, spec := range algorithms(1000) {
		spec.Tiers = map[string]Rate{"gold": {2000, time.Minute}}
		l, rules := newWithRules(t, 1<<14, spec, bucket("y", MaxTokens), bucket("z", 5), Spec{Name: "w", Rate: Rate{1, second}})
		drain(l, rules[2], 1, 0)
		charges, verdicts := charge(rules, 1), make([]Verdict, 4)
		next := Key(0)
		own := Rate{50, time.Minute}
		tests := []struct {
			intent string
			take   func()
		}{
			{"admitted", func() { l.Take(0, charges[1:2], verdicts) }},
			{"refused, at the end", func() { l.Take(0, charges[:1], verdicts) }},
			{"two rules", func() { l.Take(0, charges[:2], verdicts) }},
			{"refused by one of three", func() { l.Take(0, charges[:3], verdicts) }},
			{"a new key", func() {
				next += 0x9e3779b97f4a7c15
				l.Take(0, []Charge{{Rule: rules[0], Key: next}}, verdicts)
			}},
			{"a tier", func() { l.Take(0, []Charge{{Rule: rules[0], Key: 1, Tier: "gold"}}, verdicts) }},
			{"an own rate", func() { l.Take(0, []Charge{{Rule: rules[0], Key: 1, Own: own}}, verdicts) }},
			{"given back", func() {
				l.Take(0, charges[1:2], verdicts)
				l.GiveBack(0, verdicts[:1])
			}},
			{"what there is to tell", func() {
				v := &verdicts[0]
				v.Limit()
				v.Remaining()
				v.Reset()
				v.RetryAfter()
				v.Turn()
				v.Window()
			}},
			{"keys", func() { l.Hostile(rules[0].Key().Trusted("a route").Number(3), []byte("a client's own words")) }},
		}
		for _, test := range tests {
			if n := testing.AllocsPerRun(200, test.take); n != 0 {
				t.Errorf("%s, %s: %v allocations", name, test.intent, n)
			}
		}
		if s := l.Stats(0); s.Overflowed != 0 {
			t.Errorf("%+v", s)
		}
		// A table that is full.
		small, rules := newWithRules(t, 10, spec)
		if n := testing.AllocsPerRun(2000, func() {
			next += 0x9e3779b97f4a7c15
			small.Take(0, []Charge{{Rule: rules[0], Key: next}}, verdicts)
		}); n != 0 {
			t.Errorf("%s, a full table: %v allocations", name, n)
		}
	}
}
