//go:build !race

package limiter

import (
	"testing"
	"time"
)

// Nothing on the way of a request by a shared rule allocates, nor anything on the way of a delta.
func TestSharedAllocations(t *testing.T) {
	for name, spec := range algorithms(1000) {
		spec.Shared = true
		l, rules := newFleet(t, 3, spec, bucket("y", MaxTokens))
		now := time.Hour
		next := Key(0)
		charges, verdicts := charge(rules, 1), make([]Verdict, 2)
		buffer := make([]Delta, 0, 64)
		deltas := toldOf(rules[0], 50)
		for i := range deltas {
			deltas[i].Window = rules[0].base.policy.Load().windowOf(0, int64(now))
		}
		for _, test := range []struct {
			intent string
			do     func()
		}{
			{"admitted, then withheld", func() { l.Take(now, charges[:1], verdicts) }},
			{"two rules", func() { l.Take(now, charges, verdicts) }},
			{"a new key", func() {
				next += 0x9e3779b97f4a7c15
				l.Take(now, []Charge{{Rule: rules[0], Key: next}}, verdicts)
			}},
			{"given back", func() {
				l.Take(now, charges[:1], verdicts)
				l.GiveBack(now, verdicts[:1])
			}},
			{"drained and acknowledged", func() {
				now += 50 * time.Millisecond
				l.Acknowledge(now, l.Drain(now, buffer))
			}},
			{"merged", func() { l.Merge(now, 1, time.Millisecond, deltas) }},
			{"handed to a node that joins", func() { l.Snapshot(now, 0, buffer) }},
			{"restored", func() { l.Restore(now, 0, deltas) }},
			{"resolved", func() { l.Resolve(now, 0, deltas) }},
		} {
			if n := testing.AllocsPerRun(200, test.do); n != 0 {
				t.Errorf("%s, %s: %v allocations", name, test.intent, n)
			}
		}
	}
}
