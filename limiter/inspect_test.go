package limiter

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// What an operator sees of a bucket is what the next request would meet, and looking changes nothing.
func TestInspectSeesWhatTakeMeets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := newTrial(t, drawSpec(t), drawStart(t))
		for range rapid.IntRange(1, 10).Draw(t, "steps") {
			tr.step()
		}
		l, now := tr.limiter, time.Duration(tr.clock)
		word := wordOf(l, tr.rule, trialKey)
		states := l.Inspect(tr.rule, trialKey, now)
		if wordOf(l, tr.rule, trialKey) != word {
			t.Fatalf("looking at a bucket changed it")
		}
		var v Verdict
		l.look(&Charge{Rule: tr.rule, Key: trialKey}, &v, tr.clock)
		switch {
		case len(states) > 1:
			t.Fatalf("states %+v", states)
		case len(states) == 0:
			if v.Reset() != 0 || v.Remaining() != v.Limit() {
				t.Fatalf("no state, but %d of %d remain", v.Remaining(), v.Limit())
			}
		default:
			want := State{Rate: tr.spec.Rate, Limit: v.Limit(), Remaining: v.Remaining(), Reset: v.Reset()}
			if states[0] != want {
				t.Fatalf("state %+v, not %+v", states[0], want)
			}
		}
		if n := l.Forget(tr.rule, trialKey, now); n != len(states) {
			t.Fatalf("%d buckets were forgotten, of %d", n, len(states))
		}
		if l.Forget(tr.rule, trialKey, now) != 0 || l.Inspect(tr.rule, trialKey, now) != nil {
			t.Fatalf("a bucket that was forgotten is there")
		}
		tr.model = newModel(tr.spec, tr.spec.Rate) // and full again
		tr.take(tr.clock)
	})
}

// Forget reaches every rate that a client has had, and nobody else.
func TestForget(t *testing.T) {
	l, rules := newWithRules(t, 64, Spec{Name: "x", Algorithm: FixedWindow, Rate: Rate{3, time.Hour},
		Tiers: map[string]Rate{"gold": {3, time.Hour}}}, bucket("y", 3))
	ask := func(r *Rule, k Key, tier string, own Rate) bool {
		v := make([]Verdict, 1)
		return l.Take(0, []Charge{{Rule: r, Key: k, Tier: tier, Own: own}}, v)
	}
	for range 3 {
		ask(rules[0], 1, "", Rate{})
		ask(rules[0], 1, "gold", Rate{})
		ask(rules[0], 1, "", Rate{3, time.Minute})
		ask(rules[0], 2, "", Rate{})
		ask(rules[1], 1, "", Rate{})
	}
	names := map[string]int{}
	for _, s := range l.Inspect(rules[0], 1, 0) {
		names[s.Tier]++
		if s.Remaining != 0 || s.Limit != 3 {
			t.Errorf("%+v", s)
		}
	}
	if names["gold"] != 1 || names[""] != 2 {
		t.Errorf("tiers %v", names)
	}
	if n := l.Forget(rules[0], 1, 0); n != 3 {
		t.Errorf("%d were forgotten, not 3", n)
	}
	tests := []struct {
		intent string
		got    bool
		want   bool
	}{
		{"the rule's rate", ask(rules[0], 1, "", Rate{}), true},
		{"a tier's", ask(rules[0], 1, "gold", Rate{}), true},
		{"an own rate", ask(rules[0], 1, "", Rate{3, time.Minute}), true},
		{"another key", ask(rules[0], 2, "", Rate{}), false},
		{"another rule", ask(rules[1], 1, "", Rate{}), false},
	}
	for _, test := range tests {
		if test.got != test.want {
			t.Errorf("%s: admitted is %v", test.intent, test.got)
		}
	}
	if n := l.Forget(rules[0], 77, 0); n != 0 {
		t.Errorf("%d buckets of a stranger were forgotten", n)
	}
}

func TestStats(t *testing.T) {
	l, rules := newWithRules(t, 64, bucket("x", 3))
	for k := range Key(20) {
		takeOne(l, rules[0], (k+1)*0x9e3779b97f4a7c15, 0)
	}
	if s := l.Stats(0); s != (Stats{Capacity: 96, Live: 20, Claims: 20}) {
		t.Errorf("%+v", s)
	}
	if s := l.Stats(second); s.Live != 0 || s.Claims != 20 {
		t.Errorf("%+v, when all are full again", s)
	}
}

// A table holds as many buckets as it was asked to, but for few.
func TestCapacity(t *testing.T) {
	const capacity = 100_000
	l, rules := newWithRules(t, capacity, bucket("x", 1))
	for k := range uint64(capacity) {
		takeOne(l, rules[0], rules[0].Key().Number(k), 0)
	}
	s := l.Stats(0)
	if s.Live < capacity-10 || s.Overflowed > 10 {
		t.Errorf("%+v", s)
	}
	if perBucket := len(l.table.rows) * 128 / capacity; perBucket > 24 {
		t.Errorf("%d bytes for a bucket", perBucket)
	}
}
