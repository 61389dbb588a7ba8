package limiter

import (
	"errors"
	"fmt"
	"math/big"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// reload gives the trial's rule another spec, in the limiter and by the law: what was used stays used, as
// far as the new limit goes, and drains at the new rate.
func (tr *trial) reload(s Spec) {
	s.Name, s.Cost = "r", max(s.Cost, 1)
	now, from := tr.clock, tr.spec
	token := tr.rule.base.policy.Load().scale.token
	debt, old := tr.model.debt(now), tr.model
	tr.rule, tr.spec = reload(tr.t, tr.limiter, time.Duration(now), s)[0], s
	p := tr.rule.base.policy.Load()
	if s.Algorithm == from.Algorithm && s.Rate == from.Rate && s.Burst == from.Burst && s.Cost == from.Cost && s.MaxWait == from.MaxWait {
		return
	}
	if from.Algorithm == TokenBucket || from.Algorithm == LeakyBucket {
		tr.slop = add(tr.slop, big.NewRat(1, token))
	}
	if from.Algorithm == SlidingWindow {
		debt = rat(ceil(debt)) // it leaves only whole tokens behind
	}
	tr.model = newModel(s, s.Rate)
	if at := tr.limiter.table.place(tr.rule.base, trialKey); !at.taken() {
		tr.slop = new(big.Rat)
		tr.measure()
		return
	}
	switch m := tr.model.(type) {
	case *tokenModel:
		m.tokens, m.last = sub(m.burst, smaller(debt, m.burst)), now
		tr.slop = add(tr.slop, big.NewRat(1, p.scale.token))
	case *leakyModel:
		m.free = add(rat(now), smaller(mul(debt, m.each), add(m.longest, mul(rat(s.Cost), m.each))))
		tr.slop = add(tr.slop, big.NewRat(1, p.scale.token))
	case *fixedModel:
		tr.adoptWindow(&m.windowModel, old, debt)
	case *slidingModel:
		tr.adoptWindow(&m.windowModel, old, debt)
	}
	tr.measure()
	if p.window != 0 {
		tr.slop = new(big.Rat)
	}
}

// adoptWindow fills a window model from another one: windows that are as long go on, else all is counted
// in the window of now.
func (tr *trial) adoptWindow(m *windowModel, old model, debt *big.Rat) {
	sliding, ok := old.(*slidingModel)
	if _, into := tr.model.(*slidingModel); ok && into && sliding.per == m.per {
		m.latest = sliding.latest
		for w, n := range sliding.used {
			m.used[w] = min(n, m.limit)
		}
		return
	}
	window, _ := m.at(tr.clock)
	if o, ok := old.(interface{ at(int64) (int64, int64) }); ok && samePer(old, m.per) {
		window, _ = o.at(tr.clock)
	}
	low, high := ceil(sub(debt, tr.slop)), ceil(add(debt, tr.slop))
	used := max(ceil(debt), 0)
	if low != high { // too close to call: the limiter says
		at := tr.limiter.table.place(tr.rule.base, trialKey)
		if s, _ := at.find(); s != nil {
			p := tr.rule.base.policy.Load()
			used = int64(s.word.Load() & (1<<p.count - 1))
		}
		if used < min(low, m.limit) || used > max(high, 0) {
			tr.t.Fatalf("%d tokens of debt were adopted for %v", used, debt)
		}
	}
	if used > 0 {
		m.count(window, min(used, m.limit))
	}
}

func (at *place) taken() bool {
	s, _ := at.find()
	return s != nil
}

func samePer(old model, per int64) bool {
	switch m := old.(type) {
	case *fixedModel:
		return m.per == per
	case *slidingModel:
		return m.per == per
	}
	return false
}

// Rules change under their buckets: the limiter still says what the model says.
func TestReloadIsItsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := newTrial(t, drawSpec(t), drawStart(t))
		for range rapid.IntRange(1, 12).Draw(t, "reloads") {
			for range rapid.IntRange(0, 8).Draw(t, "steps") {
				tr.step()
			}
			s := tr.spec
			n := s.Rate.N
			switch rapid.IntRange(0, 5).Draw(t, "reload") {
			case 0:
				n *= 10
			case 1:
				n = max(1, n/10)
			case 2:
				s.Burst *= rapid.Int64Range(1, 4).Draw(t, "times")
			case 3:
				s.Burst = (s.Burst + 1) / 2
			case 4:
				s.Cost = 1
			default:
				s = drawSpec(t)
				n = s.Rate.N
			}
			s.Rate.N = n
			if s.Check() != nil {
				s = drawSpec(t)
			}
			tr.reload(s)
		}
	})
}

// Windows that have been counted for long keep their counts when their limit, and so the bits of their
// numbers, change.
func TestReloadOfOldWindows(t *testing.T) {
	for _, limits := range [][2]int64{{100, MaxSliding}, {MaxSliding, 100}, {3, 4}} {
		for _, age := range []time.Duration{time.Second, 1000 * time.Hour, 50_000 * time.Hour} {
			for _, into := range []Algorithm{FixedWindow, SlidingWindow} {
				from, to := limits[0], limits[1]
				l, rules := newWithRules(t, 64, Spec{Name: "r", Algorithm: SlidingWindow, Rate: Rate{from, second}, Cost: from})
				if v := takeOne(l, rules[0], 1, age); v.Refused {
					t.Fatal("refused")
				}
				rules = reload(t, l, age, Spec{Name: "r", Algorithm: into, Rate: Rate{to, second}})
				v := takeOne(l, rules[0], 1, age)
				if want := max(to-from-1, 0); v.Remaining() != want || v.Refused != (to < from) {
					t.Errorf("%d to %d after %v: %d remain, not %d; refused %v", from, to, age, v.Remaining(), want, v.Refused)
				}
				if word := wordOf(l, rules[0], 1); word>>valueBits >= epochs {
					t.Errorf("%d to %d after %v: a word of no epoch, %x", from, to, age, word)
				}
			}
		}
	}
}

// Nobody begins a window anew because the rule is read again, not even who is late.
func TestReloadByLateRequest(t *testing.T) {
	for _, algorithm := range []Algorithm{FixedWindow, SlidingWindow} {
		l, rules := newWithRules(t, 64, Spec{Name: "r", Algorithm: algorithm, Rate: Rate{10, second}})
		begin := time.Duration(second - epoch.Sub(epoch.Truncate(second))) // of a window
		drain(l, rules[0], 1, begin)
		rules = reload(t, l, begin-1, Spec{Name: "r", Algorithm: algorithm, Rate: Rate{11, second}})
		if n := drain(l, rules[0], 1, begin); n != 1 {
			t.Errorf("algorithm %d: %d more", algorithm, n)
		}
	}
}

// Requests that still hold a rule that asked more are decided by the new one.
func TestRequestsOfOlderRules(t *testing.T) {
	costly := map[string]Spec{
		"token bucket":   {Name: "r", Algorithm: TokenBucket, Rate: Rate{1000, second}, Burst: MaxTokens, Cost: MaxTokens},
		"leaky bucket":   {Name: "r", Algorithm: LeakyBucket, Rate: Rate{1000, second}, Cost: MaxTokens, MaxWait: second},
		"fixed window":   {Name: "r", Algorithm: FixedWindow, Rate: Rate{MaxTokens, second}, Cost: MaxTokens},
		"sliding window": {Name: "r", Algorithm: SlidingWindow, Rate: Rate{MaxSliding, second}, Cost: MaxSliding},
	}
	for from, old := range costly {
		for to, spec := range algorithms(3) {
			l, rules := newWithRules(t, 64, old)
			held := takeOne(l, rules[0], 1, 0)
			reload(t, l, 0, spec)
			n := 0
			for range 10 {
				v := takeOne(l, rules[0], 2, 0)
				if !v.Refused {
					n++
				} else if wait := v.RetryAfter(); wait <= 0 || wait > 2*time.Minute {
					t.Errorf("%s to %s: retry after %v", from, to, wait)
				}
			}
			if n != 3 {
				t.Errorf("%s to %s: %d were admitted, not 3", from, to, n)
			}
			l.GiveBack(0, []Verdict{held})
			if n := drain(l, rules[0], 1, 0); n > 3 {
				t.Errorf("%s to %s: %d were admitted after one was given back, not 3", from, to, n)
			}
		}
	}
}

// Prepare changes nothing, whether it fails or not, and however often.
func TestPrepareChangesNothing(t *testing.T) {
	l, rules := newWithRules(t, 64, bucket("x", 5), bucket("y", 5))
	takeOne(l, rules[0], 1, 0)
	before := fmt.Sprint(l.Inspect(rules[0], 1, 0), l.Stats(0), l.plans.last, len(l.plans.free))
	good := []Spec{bucket("x", 50), bucket("z", 5), {Name: "y", Algorithm: SlidingWindow, Rate: Rate{1, second}}}
	bad := [][]Spec{
		{bucket("x", 50), {Name: "y"}},
		{bucket("x", 50), bucket("x", 51)},
		{{Name: "x", Algorithm: 9, Rate: Rate{1, second}}},
	}
	for range 5 {
		if _, err := l.Prepare(good); err != nil {
			t.Fatal(err)
		}
		for _, specs := range bad {
			if _, err := l.Prepare(specs); !errors.Is(err, ErrSpec) {
				t.Fatalf("error %v", err)
			}
		}
	}
	if after := fmt.Sprint(l.Inspect(rules[0], 1, 0), l.Stats(0), l.plans.last, len(l.plans.free)); after != before {
		t.Errorf("%s\nbecame %s", before, after)
	}
	if n := drain(l, rules[0], 1, 0); n != 4 {
		t.Errorf("%d tokens left, not 4", n)
	}
	one, _ := l.Prepare(good)
	two, _ := l.Prepare(good)
	one.Commit(0)
	defer func() {
		if recover() == nil {
			t.Error("an update that was prepared on older rules was committed")
		}
	}()
	two.Commit(0)
}

// Requests go on while rules change, and never get more than the largest of the rules would give them.
func TestTakeDuringCommits(t *testing.T) {
	procs(t, 8)
	for round := range scaled(40) {
		l, first := newWithRules(t, 64, bucket("x", 100), bucket("y", 100))
		var current atomic.Pointer[[]*Rule]
		current.Store(&first)
		var admitted atomic.Int64
		together(9, func(i int) {
			if i == 0 {
				for n := range 30 {
					next := reload(t, l, time.Hour, []Spec{
						bucket("x", 100), {Name: "x", Algorithm: FixedWindow, Rate: Rate{100, 10 * time.Hour}},
						{Name: "x", Algorithm: TokenBucket, Rate: Rate{7, time.Minute}, Burst: 100},
						{Name: "x", Algorithm: SlidingWindow, Rate: Rate{100, 10 * time.Hour}},
						{Name: "x", Algorithm: FixedWindow, Rate: Rate{90, 10 * time.Hour}},
					}[n%5], bucket("y", 100))
					current.Store(&next)
				}
				return
			}
			verdicts := make([]Verdict, 2)
			for range 40 {
				if l.Take(time.Hour, charge(*current.Load(), 5), verdicts) {
					admitted.Add(1)
				}
			}
		})
		checkTable(t, l)
		if n := admitted.Load(); n > 100 || n < 90 {
			t.Fatalf("round %d: %d were admitted, of 100", round, n)
		}
	}
}

// Names come and go, and their ids are used again, with nothing left over of who had them before.
func TestIDsAreRecycled(t *testing.T) {
	l := newTestLimiter(256)
	for round := range scaled(60) {
		var specs []Spec
		for i := range 4000 {
			specs = append(specs, bucket(fmt.Sprint(round, "/", i), 5))
		}
		rules := reload(t, l, 0, specs...)
		for _, r := range rules[:10] {
			if n := drain(l, r, 1, 0); n != 5 {
				t.Fatalf("round %d: a new rule had a bucket with %d of 5 tokens", round, n)
			}
		}
		checkTable(t, l)
	}
	reload(t, l, 0)
	reload(t, l, 0)
	if s := l.Stats(0); s.Live != 0 || l.plans.room() != maxPlans-1 {
		t.Errorf("without rules there are %d buckets, and ids for %d plans", s.Live, l.plans.room())
	}
	specs := make([]Spec, maxPlans)
	for i := range specs {
		specs[i] = bucket(fmt.Sprint(i), 5)
	}
	if _, err := l.Prepare(specs); !errors.Is(err, ErrTooMany) {
		t.Errorf("%d rules: %v", len(specs), err)
	}
	reload(t, l, 0, specs[1:]...)
}

// A minute's window is the minute of the clock on the wall.
func TestWindowsAreTheWalls(t *testing.T) {
	for _, per := range []time.Duration{second, time.Minute, time.Hour, 24 * time.Hour} {
		for _, algorithm := range []Algorithm{FixedWindow, SlidingWindow} {
			l, rules := newWithRules(t, 64, Spec{Algorithm: algorithm, Rate: Rate{1, per}})
			for _, at := range []time.Duration{0, 1, 90 * time.Minute, 1000*time.Hour + 1} {
				next := epoch.Add(at).Truncate(per).Add(per)
				v := takeOne(l, rules[0], Key(at)+1, at)
				want := next.Sub(epoch.Add(at))
				if algorithm == SlidingWindow {
					want += per
				}
				if got := v.Reset(); got != want {
					t.Errorf("%v, %d: reset after %v, not %v", per, algorithm, got, want)
				}
			}
		}
	}
}
