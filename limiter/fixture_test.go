package limiter

import (
	"sync"
	"time"
)

// epoch is not at the border of any window, not even of a millisecond's.
var epoch = time.Date(2026, 3, 4, 5, 6, 7, 123_456_789, time.UTC)

const second = time.Second

// fataler is what testing.TB and rapid.T share.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// scaled is how often something heavy is done: less with the race detector, which is some ten times slower.
func scaled(n int) int {
	if raceEnabled {
		return max(n/10, 1)
	}
	return n
}

func newTestLimiter(capacity int) *Limiter {
	return New(Options{Capacity: capacity, Secret: [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9}, Epoch: epoch})
}

func reload(t fataler, l *Limiter, now time.Duration, specs ...Spec) []*Rule {
	t.Helper()
	for i := range specs {
		if specs[i].Name == "" {
			specs[i].Name = string(rune('a' + i))
		}
	}
	u, err := l.Prepare(specs)
	if err != nil {
		t.Fatalf("cannot prepare: %v", err)
	}
	u.Commit(now)
	return u.Rules()
}

func newWithRules(t fataler, capacity int, specs ...Spec) (*Limiter, []*Rule) {
	t.Helper()
	l := newTestLimiter(capacity)
	return l, reload(t, l, 0, specs...)
}

// takeOne asks one rule.
func takeOne(l *Limiter, r *Rule, k Key, now time.Duration) Verdict {
	charges, verdicts := [1]Charge{{Rule: r, Key: k, Group: k}}, [1]Verdict{}
	l.Take(now, charges[:], verdicts[:])
	return verdicts[0]
}

// drain takes until a refusal, and says how often it could.
func drain(l *Limiter, r *Rule, k Key, now time.Duration) (n int) {
	for v := takeOne(l, r, k, now); !v.Refused; v = takeOne(l, r, k, now) {
		n++
	}
	return n
}

// word is the bucket of a key, or zero.
func wordOf(l *Limiter, r *Rule, k Key) uint64 {
	at := l.table.place(r.base, k)
	if s, _ := at.find(); s != nil {
		return s.word.Load()
	}
	return 0
}

// checkTable fails if the table at rest is not what it ought to be: nothing in anybody's hands, no tag
// pending, and no two live slots of one bucket.
func checkTable(t fataler, l *Limiter) {
	t.Helper()
	seen := map[uint64]uint64{}
	for i := range l.table.rows {
		for j := range l.table.rows[i] {
			s := &l.table.rows[i][j]
			tag, word := s.tag.Load(), s.word.Load()
			if word == owned {
				t.Fatalf("slot %d.%d (tag %x) is owned, and nobody is at work", i, j, tag)
			}
			switch tag & stateMask {
			case stateLive:
				// Two slots of a name may belong to two keys that share no more than the fingerprint. Among
				// few keys they do not.
				if len(l.table.rows) > 1024 {
					continue
				}
				b := tag & nameMask
				if other, found := seen[b]; found {
					t.Fatalf("two live slots of %x: %d.%d and %d.%d", b, other/8, other%8, i, j)
				}
				seen[b] = uint64(i*8 + j)
			case statePending:
				t.Fatalf("slot %d.%d is pending, and nobody is at work", i, j)
			}
		}
	}
}

// together runs n goroutines that begin at once.
func together(n int, f func(i int)) {
	var done sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		done.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	done.Wait()
}

// algorithms is one rule for each, that admits the tokens at once. Its rate is exact in the arithmetic.
func algorithms(tokens int64) map[string]Spec {
	return map[string]Spec{
		"token bucket":   {Name: "r", Algorithm: TokenBucket, Rate: Rate{10, second}, Burst: tokens},
		"fixed window":   {Name: "r", Algorithm: FixedWindow, Rate: Rate{tokens, time.Minute}},
		"sliding window": {Name: "r", Algorithm: SlidingWindow, Rate: Rate{tokens, time.Minute}},
		"leaky bucket":   {Name: "r", Algorithm: LeakyBucket, Rate: Rate{10, second}, Burst: tokens - 1, MaxWait: time.Hour},
	}
}
