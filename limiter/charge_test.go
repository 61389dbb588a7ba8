package limiter

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func bucket(name string, tokens int64) Spec {
	return Spec{Name: name, Algorithm: TokenBucket, Rate: Rate{1, second}, Burst: tokens}
}

// charge is a charge on every rule with one key.
func charge(rules []*Rule, k Key) []Charge {
	var c []Charge
	for _, r := range rules {
		c = append(c, Charge{Rule: r, Key: k ^ r.Key(), Group: k})
	}
	return c
}

func words(l *Limiter, charges []Charge) (w []uint64) {
	for _, c := range charges {
		w = append(w, wordOf(l, c.Rule, c.Key))
	}
	return w
}

// A refusal leaves every bucket as it was, bit for bit, whichever rule it comes from.
func TestRefusalStoresNothing(t *testing.T) {
	for name, spec := range algorithms(3) {
		for refuser := range 3 {
			specs := []Spec{bucket("x", 10), bucket("y", 10)}
			specs = append(specs[:refuser], append([]Spec{spec}, specs[refuser:]...)...)
			l, rules := newWithRules(t, 64, specs...)
			charges, verdicts := charge(rules, 5), make([]Verdict, 3)
			now := 90 * time.Minute
			for range 3 {
				if !l.Take(now, charges, verdicts) {
					t.Fatalf("%s: refused too early", name)
				}
			}
			before, claims := words(l, charges), l.Stats(now).Claims
			for range 10 {
				if l.Take(now, charges, verdicts) {
					t.Fatalf("%s: admitted", name)
				}
			}
			for i, v := range verdicts {
				if v.Refused != (i == refuser) {
					t.Errorf("%s at %d: verdict %d says refused: %v", name, refuser, i, v.Refused)
				}
			}
			l.GiveBack(now, verdicts) // nothing was taken
			if after := words(l, charges); fmt.Sprint(after) != fmt.Sprint(before) || l.Stats(now).Claims != claims {
				t.Errorf("%s at %d: words %x became %x", name, refuser, before, after)
			}
			if got := verdicts[(refuser+1)%3].Remaining(); got != 7 {
				t.Errorf("%s at %d: %d remain with a rule that was not asked, not 7", name, refuser, got)
			}
		}
	}
}

// To give back what a refused request did not take gives nothing to anybody, not to an overflow bucket either.
func TestNothingToGiveBack(t *testing.T) {
	l, rules := newWithRules(t, 64, bucket("x", 10), bucket("y", 1))
	charges, verdicts := charge(rules, 5), make([]Verdict, 2)
	l.Take(0, charges, verdicts)
	overflow := &rules[0].base.overflow[Key(5)%overflows]
	overflow.Store(1 << 40)
	l.Take(0, charges, verdicts)
	if l.GiveBack(0, verdicts); overflow.Load() != 1<<40 {
		t.Errorf("a refused request gave back to an overflow bucket")
	}
	if verdicts[0].Overflowed() {
		t.Errorf("a request that no bucket was charged with is said to be in an overflow bucket")
	}
	l.GiveBack(0, make([]Verdict, 3)) // of requests that were never made
}

// When a rule refuses after others have been charged, those get theirs back, and do not appear to have
// refused.
func TestLateRefusal(t *testing.T) {
	for name, spec := range algorithms(3) {
		l, rules := newWithRules(t, 64, spec, bucket("x", 10))
		// The first two charges are on one bucket, so that only the second finds out that it is empty.
		charges := []Charge{{Rule: rules[1], Key: 9}, {Rule: rules[0], Key: 7}, {Rule: rules[0], Key: 7}}
		verdicts := make([]Verdict, 3)
		now := time.Hour
		if !l.Take(now, charges, verdicts) {
			t.Fatalf("%s: refused", name)
		}
		if l.Take(now, charges, verdicts) {
			t.Fatalf("%s: four of three tokens", name)
		}
		if verdicts[0].Refused || verdicts[1].Refused || !verdicts[2].Refused {
			t.Errorf("%s: refused are %v, %v, %v", name, verdicts[0].Refused, verdicts[1].Refused, verdicts[2].Refused)
		}
		for i, v := range verdicts {
			if retry := v.RetryAfter(); retry < 0 || retry > time.Hour || v.Refused == (retry == 0) {
				t.Errorf("%s: verdict %d is to be tried again after %v", name, i, retry)
			}
		}
		if n := drain(l, rules[1], 9, now); n != 9 {
			t.Errorf("%s: %d tokens were left to the rule that agreed, not 9", name, n)
		}
		if n := drain(l, rules[0], 7, now); n != 1 {
			t.Errorf("%s: %d tokens were left to the rule that refused, not 1", name, n)
		}
	}
}

// Whatever races, a request that one rule refuses costs the others nothing.
func TestAllOrNothingStorm(t *testing.T) {
	const goroutines = 32
	procs(t, 8)
	for round := range scaled(200) {
		small, large := int64(round%50+1), int64(2000)
		l, rules := newWithRules(t, 64, bucket("large", large), bucket("small", small),
			Spec{Name: "window", Algorithm: SlidingWindow, Rate: Rate{large, time.Hour}},
			Spec{Name: "fixed", Algorithm: FixedWindow, Rate: Rate{small + 5, time.Hour}})
		var admitted atomic.Int64
		together(goroutines, func(int) {
			charges, verdicts := charge(rules, 5), make([]Verdict, len(rules))
			for range 5 {
				if l.Take(time.Hour, charges, verdicts) {
					admitted.Add(1)
				}
			}
		})
		if n := admitted.Load(); n > small {
			t.Fatalf("%d were admitted, of %d", n, small)
		}
		// Takes that met each other may have refused one another, but no token is lost by it.
		n := admitted.Load()
		for i, c := range charge(rules, 5) {
			limit := []int64{large, small, large, small + 5}[i]
			if got := int64(drain(l, c.Rule, c.Key, time.Hour)); got != limit-n {
				t.Fatalf("rule %s had %d left, not %d", c.Rule.Name(), got, limit-n)
			}
		}
	}
}

// A shadow has no say; it counts what really passes, and nothing that another rule has refused.
func TestShadow(t *testing.T) {
	shadow := bucket("shadow", 2)
	shadow.Shadow = true
	for _, order := range [][]Spec{{shadow, bucket("real", 4)}, {bucket("real", 4), shadow}} {
		l, rules := newWithRules(t, 64, order...)
		charges, verdicts := charge(rules, 5), make([]Verdict, 2)
		which := 0
		if !rules[0].Shadow() {
			which = 1
		}
		for i := range 6 {
			if got := l.Take(0, charges, verdicts); got != (i < 4) {
				t.Errorf("request %d: admitted is %v", i, got)
			}
			if v := verdicts[which]; i < 4 && v.Refused != (i >= 2) {
				t.Errorf("request %d: the shadow refused: %v", i, v.Refused)
			}
		}
	}
	l, rules := newWithRules(t, 64, shadow, bucket("real", 1))
	charges, verdicts := charge(rules, 5), make([]Verdict, 2)
	for range 3 {
		l.Take(0, charges, verdicts)
	}
	if n := drain(l, rules[0], charges[0].Key, 0); n != 1 {
		t.Errorf("the shadow had %d of 2 tokens left after one request passed", n)
	}
	one := []Verdict{{}}
	if !l.Take(0, charges[:1], one) || !one[0].Refused {
		t.Errorf("a shadow alone: %+v", one[0])
	}
	if !l.Take(0, nil, nil) {
		t.Errorf("a request without rules is refused")
	}
}

// A request that is taken back has not been; but that those who come late find a bucket which was touched
// after their time.
func TestGiveBackUndoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := algorithms(rapid.Int64Range(2, 30).Draw(t, "tokens"))[rapid.SampledFrom([]string{
			"token bucket", "fixed window", "sliding window", "leaky bucket"}).Draw(t, "algorithm")]
		s.Cost = rapid.Int64Range(1, 2).Draw(t, "cost")
		tr := newTrial(t, s, drawStart(t)%int64(24*time.Hour))
		tr.prompt = true
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			tr.step()
			v := takeOne(tr.limiter, tr.rule, trialKey, time.Duration(tr.clock))
			tr.limiter.GiveBack(time.Duration(tr.clock), []Verdict{v})
		}
	})
}

// In the queue only the last one can step out of the line; the turn of another passes unused.
func TestGiveBackOfTurns(t *testing.T) {
	l, rules := newWithRules(t, 64, algorithms(5)["leaky bucket"])
	first, second := takeOne(l, rules[0], 1, 0), takeOne(l, rules[0], 1, 0)
	l.GiveBack(0, []Verdict{first})
	if v := takeOne(l, rules[0], 1, 0); v.Turn() != 200*time.Millisecond {
		t.Errorf("turn %v after one from the middle was given back", v.Turn())
	} else {
		l.GiveBack(0, []Verdict{v})
	}
	l.GiveBack(0, []Verdict{second})
	if v := takeOne(l, rules[0], 1, 0); v.Turn() != 100*time.Millisecond {
		t.Errorf("turn %v after the last one was given back", v.Turn())
	}
	both := []Verdict{takeOne(l, rules[0], 1, 0)}
	l.GiveBack(0, both)
	l.GiveBack(0, both)
	if v := takeOne(l, rules[0], 1, 0); v.Turn() != 200*time.Millisecond {
		t.Errorf("turn %v after one was given back twice", v.Turn())
	}
}

// What has come in anew since a request was admitted is not given back a second time.
func TestGiveBackTooLate(t *testing.T) {
	for _, row := range []struct {
		intent string
		after  time.Duration
		want   int
	}{
		{"at once, all ten are there again", 0, 10},
		{"half of them have come in anew, and overflow but for those given back", 5 * time.Second, 10},
		{"all have come in anew, and there are no more than ten", 10 * time.Second, 10},
	} {
		l, rules := newWithRules(t, 64, bucket("x", 10))
		var first []Verdict
		for range 10 {
			first = append(first, takeOne(l, rules[0], 1, 0))
		}
		l.GiveBack(row.after, first)
		if n := drain(l, rules[0], 1, row.after); n != row.want {
			t.Errorf("%s: %d were admitted, not %d", row.intent, n, row.want)
		}
	}
	l, rules := newWithRules(t, 64, bucket("x", 10))
	first := takeOne(l, rules[0], 1, 0)
	drain(l, rules[0], 1, 0)
	if n := drain(l, rules[0], 1, 10*time.Second); n != 10 {
		t.Fatalf("%d were admitted from a bucket that is full again", n)
	}
	l.GiveBack(10*time.Second, []Verdict{first})
	if n := drain(l, rules[0], 1, 10*time.Second); n != 0 {
		t.Errorf("%d were admitted with a token that had come in anew already", n)
	}
}
