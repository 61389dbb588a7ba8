package limiter

import (
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A trial is one bucket of the limiter beside its model.
type trial struct {
	t       *rapid.T
	limiter *Limiter
	rule    *Rule
	spec    Spec
	model   model
	slop    *big.Rat // how many tokens the bucket may be off, for rates that are not exact; and
	grain   *big.Rat // nanoseconds that the rate's clock may be off: nil if it is exact
	clock   int64
	prompt  bool // nobody comes late
}

const trialKey = Key(0x1234_5678_9abc_def0)

func newTrial(t *rapid.T, s Spec, start int64) *trial {
	s.Name, s.Cost = "r", max(s.Cost, 1)
	l, rules := newWithRules(t, 64, s)
	tr := &trial{t: t, limiter: l, rule: rules[0], spec: s, model: newModel(s, s.Rate), slop: new(big.Rat), clock: start}
	tr.measure()
	return tr
}

// measure takes note of how exact the rule's arithmetic may be.
func (tr *trial) measure() {
	tr.grain = nil
	p := tr.rule.base.policy.Load()
	if p.window != 0 {
		return
	}
	exact := tr.spec.Rate.exact()
	if p.scale.div == 1 && exact {
		return
	}
	if exact && tr.spec.Burst+tr.spec.Cost < 1000 && tr.spec.Rate.Per <= 24*time.Hour {
		tr.t.Fatalf("the rate %v is rounded without need", tr.spec.Rate)
	}
	tr.grain = big.NewRat(int64(p.scale.div), int64(p.scale.mul))
	tr.slop = add(tr.slop, big.NewRat(2, p.scale.token))
}

// exact says whether a clock of at most four whole grains in a nanosecond can measure the rate.
func (r Rate) exact() bool {
	return perToken(r).Num().IsInt64() && perToken(r).Denom().Cmp(big.NewInt(4)) <= 0
}

// near says whether a figure is right: equal to the exact one rounded up, or off by a little.
// Nothing is foretold of the time after maxNow.
func (tr *trial) near(now int64, got time.Duration, want *big.Rat) bool {
	exact := ceil(want)
	if tr.rule.base.policy.Load().window == 0 {
		exact = ceil(smaller(want, rat(maxNow-now)))
	}
	if tr.grain == nil && tr.slop.Sign() == 0 {
		return int64(got) == exact
	}
	off := ceil(mul(tr.slop, perToken(tr.spec.Rate))) + 1
	if tr.grain != nil {
		off += ceil(tr.grain)
	}
	return abs(int64(got)-exact) <= off
}

func abs(n int64) int64 { return max(n, -n) }

// take asks the limiter and the model, and compares all that they say.
func (tr *trial) take(now int64) Verdict {
	t, cost := tr.t, tr.spec.Cost
	before := wordOf(tr.limiter, tr.rule, trialKey)
	was := tr.copy()
	v := takeOne(tr.limiter, tr.rule, trialKey, time.Duration(now))
	want := tr.model.take(now, cost)
	if v.Refused == want.ok {
		if want.margin == nil || !atMost(new(big.Rat).Abs(want.margin), tr.slop) || tr.slop.Sign() == 0 {
			t.Fatalf("%+v at %d: refused is %v, by the model %v (margin %v, slop %v)", tr.spec, now, v.Refused, !want.ok, want.margin, tr.slop)
		}
		// Too close to call. The model follows.
		tr.model = was
		tr.follow(now, !v.Refused)
		return v
	}
	if got := v.RetryAfter(); v.Refused && !tr.near(now, got, want.retry) {
		t.Fatalf("%+v at %d: retry after %d, by the model %v", tr.spec, now, got, want.retry.FloatString(3))
	}
	if v.Refused && wordOf(tr.limiter, tr.rule, trialKey) != before {
		t.Fatalf("a refusal changed the bucket")
	}
	low, high := floor(sub(want.remaining, tr.slop)), floor(add(want.remaining, tr.slop))
	if got := v.Remaining(); got < low || got > high {
		t.Fatalf("%+v at %d: %d remain, by the model %v", tr.spec, now, got, want.remaining.FloatString(3))
	}
	if got := v.Reset(); !tr.near(now, got, want.reset) {
		t.Fatalf("%+v at %d: reset in %d, by the model %v", tr.spec, now, got, want.reset.FloatString(3))
	}
	turn := want.turn
	if turn == nil {
		turn = new(big.Rat)
	}
	if got := v.Turn(); !tr.near(now, got, turn) {
		t.Fatalf("%+v at %d: turn in %d, by the model %v", tr.spec, now, got, turn.FloatString(3))
	}
	return v
}

// copy is the model as it is.
func (tr *trial) copy() model {
	switch m := tr.model.(type) {
	case *tokenModel:
		c := *m
		return &c
	case *leakyModel:
		c := *m
		return &c
	}
	return tr.model // of windows, which are exact
}

// follow makes the model do what the limiter did.
func (tr *trial) follow(now int64, admitted bool) {
	if !admitted {
		return
	}
	switch m := tr.model.(type) {
	case *tokenModel:
		m.tokens, m.last = sub(m.level(now), rat(tr.spec.Cost)), now
	case *leakyModel:
		m.free = add(larger(m.free, rat(now)), mul(rat(tr.spec.Cost), m.each))
	}
}

// obey comes again when it was told to, and at times two nanoseconds before.
func (tr *trial) obey(v Verdict, now int64, early bool) {
	wait := int64(v.RetryAfter())
	if wait <= 0 {
		tr.t.Fatalf("%+v at %d: refused, but may come again after %d", tr.spec, now, wait)
	}
	if now+wait >= maxNow {
		return
	}
	if early && wait > 2 && tr.grain == nil && tr.slop.Sign() == 0 {
		if v := tr.take(now + wait - 2); !v.Refused {
			tr.t.Fatalf("%+v: told to wait too long", tr.spec)
		}
	}
	if v := tr.take(now + wait); v.Refused {
		tr.t.Fatalf("%+v at %d: waited %d, and was refused", tr.spec, now, wait)
	}
	tr.clock = max(tr.clock, now+wait)
}

// jump moves the clock; avoid keeps sliding windows from meeting their own number again.
func (tr *trial) jump(by int64) {
	p := tr.rule.base.policy.Load()
	now := min(tr.clock+by, maxNow-1)
	if p.window != 0 {
		d := p.number(now) - p.number(tr.clock)
		if d > 4 && (d&p.wrap <= 4 || d&p.wrap >= p.wrap-p.ahead-4) {
			now = tr.clock
		}
	}
	tr.clock = now
}

var rates = []Rate{
	{1, second}, {10, second}, {100, time.Minute}, {999, second}, {10_000_000, second}, {1_000_000_000, second},
	{999_999_937, second}, {3, 7 * second}, {1, 24 * time.Hour}, {1, time.Millisecond}, {1_000_000, time.Millisecond},
	{4, time.Millisecond}, {7, MaxPeriod}, {1, MaxPeriod}, {1_000_000_000, MaxPeriod}, {16_777_215, time.Hour},
	{1000, time.Hour}, {5, 150 * 24 * time.Hour},
}

func drawRate(t *rapid.T, name string, most int64) Rate {
	r := rapid.OneOf(rapid.SampledFrom(rates), rapid.Custom(func(t *rapid.T) Rate {
		per := time.Duration(rapid.Int64Range(int64(MinPeriod), int64(MaxPeriod)).Draw(t, "per"))
		return Rate{rapid.Int64Range(1, min(MaxTokens, int64(per))).Draw(t, "n"), per}
	})).Draw(t, name)
	r.N = min(r.N, most)
	return r
}

// drawSpec draws a rule that Check lets pass.
func drawSpec(t *rapid.T) Spec {
	s := Spec{Algorithm: Algorithm(rapid.IntRange(0, 3).Draw(t, "algorithm"))}
	most := int64(MaxTokens)
	if s.Algorithm == SlidingWindow {
		most = MaxSliding
	}
	s.Rate = drawRate(t, "rate", most)
	size := rapid.OneOf(rapid.Int64Range(1, 20), rapid.SampledFrom([]int64{1000, 1 << 20, MaxTokens}))
	switch s.Algorithm {
	case TokenBucket, LeakyBucket:
		s.Burst = size.Draw(t, "burst")
		s.MaxWait = rapid.SampledFrom([]time.Duration{0, 1, time.Millisecond, 999 * time.Millisecond, second, time.Hour}).Draw(t, "max wait")
	}
	holds := newPolicy(&s, s.Rate, 0).limit
	if s.Algorithm == LeakyBucket {
		holds = MaxTokens
	}
	s.Cost = min(rapid.OneOf(rapid.Int64Range(1, 5), rapid.SampledFrom([]int64{holds, holds/2 + 1, holds/10 + 1})).Draw(t, "cost"), holds)
	if err := s.Check(); err != nil {
		t.Fatalf("%+v: %v", s, err)
	}
	return s
}

func drawStart(t *rapid.T) int64 {
	return rapid.OneOf(rapid.SampledFrom([]int64{0, 1, 999, int64(time.Hour), maxNow - int64(400*24*time.Hour), maxNow - 1000}),
		rapid.Int64Range(0, maxNow-1)).Draw(t, "start")
}

// step draws what happens next and lets it happen.
func (tr *trial) step() {
	t := tr.t
	each := max(1, int64(tr.spec.Rate.Per)/tr.spec.Rate.N)
	what := rapid.IntRange(0, 9).Draw(t, "what")
	if tr.prompt && what == 7 {
		what = 0
	}
	switch what {
	case 0, 1, 2: // nothing: the clock is frozen
	case 3:
		tr.jump(rapid.Int64Range(0, min(3*each, int64(MaxPeriod))).Draw(t, "a few tokens"))
	case 4:
		tr.jump(rapid.Int64Range(0, 2*int64(tr.spec.Rate.Per)).Draw(t, "periods"))
	case 5:
		tr.jump(rapid.Int64Range(0, int64(3*365*24*time.Hour)).Draw(t, "years"))
	case 6:
		tr.jump(rapid.Int64Range(0, 1000).Draw(t, "nanoseconds"))
	case 7: // a request that was overtaken
		tr.take(max(0, tr.clock-rapid.OneOf(rapid.Int64Range(0, int64(time.Millisecond)), rapid.Int64Range(0, int64(time.Second))).Draw(t, "late")))
		return
	default:
		for i := 0; i < 20; i++ {
			if v := tr.take(tr.clock); v.Refused {
				tr.obey(v, tr.clock, rapid.Bool().Draw(t, "early"))
				return
			}
		}
	}
	tr.take(tr.clock)
}

// Those who come late, by however many windows, do not begin a window anew for the others.
func TestLateRequestsResetNothing(t *testing.T) {
	for _, algorithm := range []Algorithm{FixedWindow, SlidingWindow} {
		for _, late := range []time.Duration{time.Millisecond, 35 * time.Millisecond, 2 * second} {
			l, rules := newWithRules(t, 64, Spec{Algorithm: algorithm, Rate: Rate{10, 10 * time.Millisecond}})
			now, n := time.Hour, 0
			for i := range 100 {
				if v := takeOne(l, rules[0], 1, now-time.Duration(i%2)*late); !v.Refused {
					n++
				}
			}
			if n > 20 || n < 10 { // the first may still have been in a window before
				t.Errorf("algorithm %d, %v late: %d were admitted", algorithm, late, n)
			}
		}
	}
}

// Whatever comes, and when: the limiter says what the model says.
func TestEachAlgorithmIsItsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := newTrial(t, drawSpec(t), drawStart(t))
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			tr.step()
		}
	})
}
