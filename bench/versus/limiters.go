package versus

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/sethvargo/go-limiter/memorystore"
	"github.com/sluice-gateway/sluice/limiter"
	"github.com/throttled/throttled/v2"
	"github.com/throttled/throttled/v2/store/memstore"
	ulule "github.com/ulule/limiter/v3"
	"github.com/ulule/limiter/v3/drivers/store/memory"
	"golang.org/x/time/rate"
)

// policy is a limit in the words that all limiters share: so many tokens at once, and one more in each
// period.
type policy struct {
	burst int
	every time.Duration
}

// take asks a limiter for one token of a key, at the time that it is.
type take func(key string) bool

// limiterLibrary is a rate limiter. open makes one that is to hold so many keys; it is fit for concurrent
// use, and so are the functions it gives, of which each goroutine asks for its own.
type limiterLibrary struct {
	name string
	most int // keys that it is measured with
	open func(p policy, keys int) (forGoroutine func() take, err error)
}

func limiterLibraries() []limiterLibrary {
	return []limiterLibrary{
		{"sluice", 10_000_000, openSluice},
		{"x-time-rate", 1_000_000, openXTime},
		{"go-limiter", 1_000_000, openGoLimiter},
		{"throttled", 1_000_000, openThrottled},
		{"ulule", 1_000_000, openUlule},
	}
}

func openSluice(p policy, keys int) (func() take, error) {
	epoch := time.Now()
	l := limiter.New(limiter.Options{Capacity: max(keys, 1024), Epoch: epoch})
	update, err := l.Prepare([]limiter.Spec{{Name: "bench", Rate: limiter.Rate{N: 1, Per: p.every}, Burst: int64(p.burst), Cost: 1}})
	if err != nil {
		return nil, err
	}
	update.Commit(0)
	rule := update.Rules()[0]
	return func() take {
		charges, verdicts := []limiter.Charge{{Rule: rule}}, make([]limiter.Verdict, 1)
		return func(key string) bool {
			charges[0].Key = rule.Key().Trusted(key)
			return l.Take(time.Since(epoch), charges, verdicts)
		}
	}, nil
}

func openXTime(p policy, _ int) (func() take, error) {
	var limiters sync.Map
	take := func(key string) bool {
		l, ok := limiters.Load(key)
		if !ok {
			l, _ = limiters.LoadOrStore(key, rate.NewLimiter(rate.Every(p.every), p.burst))
		}
		return l.(*rate.Limiter).Allow()
	}
	return same(take), nil
}

func openGoLimiter(p policy, keys int) (func() take, error) {
	store, err := memorystore.New(&memorystore.Config{
		Tokens: uint64(p.burst), Interval: 24 * time.Hour, InitialAlloc: keys, SweepInterval: 24 * time.Hour, SweepMinTTL: 24 * time.Hour,
	})
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	return same(func(key string) bool {
		_, _, _, ok, _ := store.Take(ctx, key)
		return ok
	}), nil
}

func openThrottled(p policy, _ int) (func() take, error) {
	store, err := memstore.NewCtx(0)
	if err != nil {
		return nil, err
	}
	l, err := throttled.NewGCRARateLimiterCtx(store, throttled.RateQuota{
		MaxRate: throttled.PerDuration(1, p.every), MaxBurst: p.burst - 1,
	})
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	return same(func(key string) bool {
		limited, _, err := l.RateLimitCtx(ctx, key, 1)
		return err == nil && !limited
	}), nil
}

func openUlule(p policy, _ int) (func() take, error) {
	l := ulule.New(memory.NewStore(), ulule.Rate{Period: 24 * time.Hour, Limit: int64(p.burst)})
	ctx := context.Background()
	return same(func(key string) bool {
		c, err := l.Get(ctx, key)
		return err == nil && !c.Reached
	}), nil
}

func same(t take) func() take { return func() take { return t } }

// keyLength is that of every key: a short client name.
const keyLength = 16

// limiterKeys makes keys in two orders: as clients come for the first time, and as they come from then
// on. The text of either lies in one piece, so that reading it costs no library more than it must; what
// the one holds is not what the other points at, as a request's bytes are not those of an earlier one.
func limiterKeys(n int) (first, again []string) {
	shuffled := rand.New(rand.NewPCG(1, 2)).Perm(n)
	return cutKeys(n, func(i int) int { return i }), cutKeys(n, func(i int) int { return shuffled[i] })
}

func cutKeys(n int, number func(i int) int) []string {
	text := make([]byte, 0, n*keyLength)
	for i := range n {
		digits := strconv.Itoa(number(i))
		text = append(text, "client-000000000"[:keyLength-len(digits)]...)
		text = append(text, digits...)
	}
	all, keys := string(text), make([]string, n)
	for i := range keys {
		keys[i] = all[i*keyLength : (i+1)*keyLength]
	}
	return keys
}
