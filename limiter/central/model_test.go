package central

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

// epoch is not at the border of any window. It lies ahead, so that no key of a test ends by the server's clock.
var epoch = time.Date(2051, 3, 4, 5, 6, 7, 123_456_000, time.UTC)

// peers is a store and a limiter with the same rules and the same clock: what one says, the other must.
type peers struct {
	t       *testing.T
	store   *Store
	local   *limiter.Limiter
	now     time.Duration
	central []*Rule
	rules   []*limiter.Rule
}

func newPeers(t *testing.T, s *server) *peers {
	p := &peers{t: t, now: time.Hour}
	p.local = limiter.New(limiter.Options{Capacity: 1024, Epoch: epoch})
	p.store = open(t, s.option(), func(c *Config) {
		c.Prefix = "test:" + t.Name() + ":"
		c.now = func() string { return strconv.FormatInt(epoch.Add(p.now).UnixMicro(), 10) }
	})
	return p
}

func (p *peers) reload(specs ...limiter.Spec) {
	p.t.Helper()
	u, err := p.local.Prepare(specs)
	if err != nil {
		p.t.Fatal(err)
	}
	u.Commit(p.now)
	p.rules, p.central = u.Rules(), nil
	for _, s := range specs {
		r, err := NewRule(s)
		if err != nil {
			p.t.Fatal(err)
		}
		p.central = append(p.central, r)
	}
}

// take asks both, and compares all that they say.
func (p *peers) take(client byte, tier string, own limiter.Rate) ([]Verdict, []limiter.Verdict) {
	p.t.Helper()
	charges, verdicts := make([]Charge, len(p.central)), make([]Verdict, len(p.central))
	theirs, theirVerdicts := make([]limiter.Charge, len(p.central)), make([]limiter.Verdict, len(p.central))
	for i := range p.central {
		charges[i] = Charge{Rule: p.central[i], Bucket: Bucket{client, byte(i)}, Tier: tier, Own: own}
		theirs[i] = limiter.Charge{Rule: p.rules[i], Key: p.rules[i].Key().Number(uint64(client)), Tier: tier, Own: own}
	}
	got, err := p.store.Take(p.now, nil, charges, verdicts)
	if err != nil {
		p.t.Fatal(err)
	}
	if want := p.local.Take(p.now, theirs, theirVerdicts); got != want {
		p.t.Fatalf("at %v: admitted %v, want %v\n%+v\n%s", p.now, got, want, verdicts, describe(&theirVerdicts[0]))
	}
	for i := range verdicts {
		if verdicts[i].Known() {
			p.compare(fmt.Sprintf("rule %d", i), &verdicts[i], &theirVerdicts[i])
		}
	}
	return verdicts, theirVerdicts
}

type spoken interface {
	Limit() int64
	Remaining() int64
	Window() time.Duration
	Reset() time.Duration
	RetryAfter() time.Duration
	Turn() time.Duration
}

func describe(v spoken) string {
	return fmt.Sprintf("limit %d, remaining %d, window %v, reset %v, retry %v, turn %v", v.Limit(), v.Remaining(), v.Window(), v.Reset(), v.RetryAfter(), v.Turn())
}

// longest is the longest time that a limiter tells of, some nine years.
const longest = 1 << 58

// compare allows for what the two round differently: a limiter counts nanoseconds, Redis microseconds.
func (p *peers) compare(what string, got *Verdict, want *limiter.Verdict) {
	p.t.Helper()
	near := func(a, b time.Duration) bool { return (a - b).Abs() <= time.Microsecond }
	if got.Refused != want.Refused || got.Limit() != want.Limit() || got.Remaining() != want.Remaining() || !near(min(got.Window(), longest), want.Window()) ||
		!near(got.Reset(), want.Reset()) || !near(got.RetryAfter(), want.RetryAfter()) || !near(got.Turn(), want.Turn()) {
		p.t.Fatalf("%s at %v: refused %v, want %v\nhave %s\nwant %s\n%+v", what, p.now, got.Refused, want.Refused, describe(got), describe(want), *got)
	}
}

// giveBack gives back to both, and waits until Redis has it.
func (p *peers) giveBack(verdicts []Verdict, theirs []limiter.Verdict) {
	p.t.Helper()
	before, taken := p.store.Stats().Returned, uint64(0)
	for i := range verdicts {
		if verdicts[i].taken {
			taken++
		}
	}
	p.store.GiveBack(verdicts)
	p.local.GiveBack(p.now, theirs)
	eventually(p.t, "Redis has what was given back", func() error {
		if have := p.store.Stats(); have.Returned-before != taken {
			return fmt.Errorf("%+v", have)
		}
		return nil
	})
}

func algorithms() map[string]limiter.Spec {
	minute, odd := limiter.Rate{N: 6, Per: 2 * time.Second}, limiter.Rate{N: 7, Per: 3 * time.Second}
	return map[string]limiter.Spec{
		"token bucket":         {Algorithm: limiter.TokenBucket, Rate: minute, Burst: 5},
		"token bucket, odd":    {Algorithm: limiter.TokenBucket, Rate: odd, Burst: 9, Cost: 2},
		"token bucket, slow":   {Algorithm: limiter.TokenBucket, Rate: limiter.Rate{N: 1, Per: 24 * time.Hour}, Burst: 30000},
		"token bucket, fast":   {Algorithm: limiter.TokenBucket, Rate: limiter.Rate{N: 400_000, Per: time.Second}, Burst: 3},
		"leaky bucket":         {Algorithm: limiter.LeakyBucket, Rate: minute, Burst: 4, MaxWait: time.Hour},
		"leaky bucket, hasty":  {Algorithm: limiter.LeakyBucket, Rate: odd, Burst: 100, MaxWait: 1234567890},
		"leaky bucket, costly": {Algorithm: limiter.LeakyBucket, Rate: odd, Burst: 9, Cost: 3, MaxWait: time.Hour},
		"fixed window":         {Algorithm: limiter.FixedWindow, Rate: odd},
		"fixed window, costly": {Algorithm: limiter.FixedWindow, Rate: minute, Cost: 4},
		"sliding window":       {Algorithm: limiter.SlidingWindow, Rate: limiter.Rate{N: 11, Per: 1700 * time.Millisecond}},
		"sliding window, 366d": {Algorithm: limiter.SlidingWindow, Rate: limiter.Rate{N: 11, Per: 366 * 24 * time.Hour}},
	}
}

// What a store says of any sequence of requests and give-backs is what a limiter says: with a clock that only goes on, when
// it remembers refusals; and when it does not, with one that goes back a little at times, too.
func TestStoreIsALimiter(t *testing.T) {
	s := startRedis(t)
	recalled := uint64(0)
	for name, spec := range algorithms() {
		for _, back := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, back %v", name, back), func(t *testing.T) {
				p := newPeers(t, s)
				spec.Name = "r"
				spec.Tiers = map[string]limiter.Rate{"gold": {N: 5 * spec.Rate.N, Per: spec.Rate.Per}}
				p.reload(spec)
				p.wander(spec, back, rand.New(rand.NewPCG(1, 2)))
				if !back {
					recalled += p.store.Stats().Recalled
				}
			})
		}
	}
	if recalled < 200 {
		t.Errorf("only %d refusals were remembered: half of the law is not proven", recalled)
	}
}

// wander takes at random, from buckets of two clients, three rates each.
func (p *peers) wander(spec limiter.Spec, back bool, random *rand.Rand) {
	p.t.Helper()
	step := int64(spec.Rate.Per) / spec.Rate.N
	for range 500 {
		switch random.IntN(6) {
		case 0:
			p.now += time.Duration(random.Int64N(4*step)) / 1000 * 1000
		case 1:
			p.now += time.Duration(random.Int64N(step)) / 1000 * 1000
		case 2:
			if back {
				p.now = max(p.now-time.Duration(random.Int64N(min(step/2, int64(time.Minute))))/1000*1000, time.Hour)
			}
		}
		p.now = min(p.now, longest/1000*1000)
		tier, own := "", limiter.Rate{}
		switch random.IntN(4) {
		case 0:
			tier = "gold"
		case 1:
			own = limiter.Rate{N: spec.Rate.N + 4, Per: spec.Rate.Per}
		}
		v, theirs := p.take(byte(random.IntN(2)), tier, own)
		if random.IntN(8) == 0 {
			p.giveBack(v, theirs)
		}
		if back {
			p.store.memory.forget(Bucket{0, 0})
			p.store.memory.forget(Bucket{1, 0})
		}
	}
}

// Several rules admit a request together or not at all, and shadows have no say.
func TestAllOrNothing(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	p := newPeers(t, startRedis(t))
	second := func(n int64) limiter.Rate { return limiter.Rate{N: n, Per: time.Second} }
	p.reload(
		limiter.Spec{Name: "a", Algorithm: limiter.TokenBucket, Rate: second(10), Burst: 3},
		limiter.Spec{Name: "b", Algorithm: limiter.FixedWindow, Rate: second(7), Shadow: true},
		limiter.Spec{Name: "c", Algorithm: limiter.SlidingWindow, Rate: second(9)},
		limiter.Spec{Name: "d", Algorithm: limiter.LeakyBucket, Rate: second(8), Burst: 2, MaxWait: time.Second},
	)
	for range 1500 {
		p.now += time.Duration(random.IntN(200)) * time.Millisecond
		p.take(0, "", limiter.Rate{})
	}
}

// A rule that is changed takes over what was used, as a limiter does: whole tokens, rounded up at most by one.
func TestRulesChangeUnderBuckets(t *testing.T) {
	s := startRedis(t)
	names, all := []string{}, algorithms()
	for name := range all {
		names = append(names, name)
	}
	for _, from := range names {
		for _, to := range names {
			p := newPeers(t, s)
			p.store.config.Prefix += from + "-" + to
			before, after := all[from], all[to]
			before.Name, after.Name = "r", "r"
			p.reload(before)
			p.take(0, "", limiter.Rate{})
			p.now += 100 * time.Millisecond
			p.take(0, "", limiter.Rate{})
			p.reload(after)
			got, err := p.store.look(t.Context(), *p.store.client.Load(), p.central[0], p.central[0].base, Bucket{0, 0})
			if err != nil {
				t.Fatal(err)
			}
			want := after.BurstAt(after.Rate)
			if states := p.local.Inspect(p.rules[0], p.rules[0].Key().Number(0), p.now); len(states) == 1 {
				want = states[0].Remaining
			} else if after.Algorithm == limiter.FixedWindow || after.Algorithm == limiter.SlidingWindow {
				want = after.Rate.N
			} else if after.Algorithm == limiter.LeakyBucket {
				want = got.Limit()
			}
			if d := want - got.Remaining(); d < 0 || d > 1 {
				t.Errorf("from %s to %s: %d of %d left, want %d", from, to, got.Remaining(), got.Limit(), want)
			}
		}
	}
}

// A bucket that is ahead of a clock that was set back by far is empty, and no more than that.
func TestClockSetBack(t *testing.T) {
	s := startRedis(t)
	for name, spec := range algorithms() {
		p := newPeers(t, s)
		p.store.config.Prefix += name
		spec.Name = "r"
		p.reload(spec)
		p.now += 4 * time.Hour
		if v, err := takeOne(p.store, p.now, Charge{Rule: p.central[0]}); err != nil || v.Refused {
			t.Fatal(name, v, err)
		}
		p.now -= 4 * time.Hour
		p.store.memory.forget(Bucket{})
		v, err := takeOne(p.store, p.now, Charge{Rule: p.central[0]})
		if err != nil {
			t.Fatal(name, err)
		}
		if longest := v.Window() * 2; v.Refused && v.RetryAfter() > longest {
			t.Errorf("%s: has to wait %v", name, v.RetryAfter())
		}
	}
}

func TestSpecsThatRedisCannotCount(t *testing.T) {
	day := 24 * time.Hour
	for _, c := range []struct {
		field  string
		spec   limiter.Spec
		intent string
	}{
		{"Burst", limiter.Spec{Rate: limiter.Rate{N: 1, Per: 366 * day}, Burst: 101}, "a bucket of more than a century"},
		{"Cost", limiter.Spec{Algorithm: limiter.LeakyBucket, Rate: limiter.Rate{N: 1, Per: 366 * day}, Cost: 101}, "a turn of more than a century"},
		{"Rate", limiter.Spec{Algorithm: limiter.FixedWindow, Rate: limiter.Rate{N: 1, Per: time.Second + 1}}, "a window of parts of a microsecond"},
		{"", limiter.Spec{Rate: limiter.Rate{N: 1_000_000_000, Per: time.Second}, Burst: 1_000_000_000}, "the fastest there is"},
		{"", limiter.Spec{Rate: limiter.Rate{N: 999_999_937, Per: 366 * day}, Burst: 1_000_000_000}, "a prime in a year"},
	} {
		_, err := NewRule(c.spec)
		var bad *limiter.SpecError
		if c.field == "" && err != nil || c.field != "" && (!errors.As(err, &bad) || bad.Field != c.field) {
			t.Errorf("%s: want a fault of %q, have %v", c.intent, c.field, err)
		}
	}
}
