package limiter

import (
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// procs gives a test more threads than there are cores, so that the kernel stops some of them at the worst
// of moments.
func procs(t *testing.T, n int) {
	before := runtime.GOMAXPROCS(n)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

// On one key that stands still in time, as many are admitted as the rule says: not one more, and not one
// less.
func TestFrozenClockAdmitsExactly(t *testing.T) {
	const tokens, goroutines = 1000, 64
	for name, spec := range algorithms(tokens) {
		t.Run(name, func(t *testing.T) {
			l, rules := newWithRules(t, 64, spec)
			now := 3*time.Hour + 1
			var admitted atomic.Int64
			turns := make([][]time.Duration, goroutines)
			together(goroutines, func(i int) {
				for range 3 * tokens / goroutines {
					if v := takeOne(l, rules[0], 7, now); !v.Refused {
						admitted.Add(1)
						turns[i] = append(turns[i], v.Turn())
					}
				}
			})
			if n := admitted.Load(); n != tokens {
				t.Errorf("%d were admitted, not %d", n, tokens)
			}
			checkTable(t, l)
			if spec.Algorithm != LeakyBucket {
				return
			}
			all := slices.Concat(turns...)
			slices.Sort(all)
			for i, turn := range all {
				if want := time.Duration(i) * second / 10; turn != want {
					t.Fatalf("turn %d comes after %v, not %v", i, turn, want)
				}
			}
		})
	}
}

// Of a clock that everybody reads a little late, no more pass than the burst and what the rate grants.
func TestMovingClockAdmitsNoMore(t *testing.T) {
	const goroutines = 64
	rounds := scaled(4000)
	spec := Spec{Algorithm: TokenBucket, Rate: Rate{100_000, second}, Burst: 50}
	l, rules := newWithRules(t, 64, spec)
	var clock, admitted atomic.Int64
	together(goroutines, func(int) {
		for range rounds {
			now := clock.Add(500) // ns: a twentieth of a token
			if v := takeOne(l, rules[0], 7, time.Duration(now)); !v.Refused {
				admitted.Add(1)
			}
		}
	})
	most := 50 + clock.Load()/10_000
	if n := admitted.Load(); n > most || n < most*9/10 {
		t.Errorf("%d were admitted, of %d at most", n, most)
	}
}

// Many who come at once, and find no bucket of theirs, make a single one.
func TestNewKeyRace(t *testing.T) {
	const goroutines, tokens = 64, 20
	for _, threads := range []int{2, 8, 32} {
		for name, spec := range algorithms(tokens) {
			procs(t, threads)
			// Two rows: every key meets every other.
			l, rules := newWithRules(t, 10, spec)
			for round := range scaled(600) {
				key, now := Key(round)*0x9e3779b97f4a7c15, time.Duration(round)*10*time.Minute
				var admitted atomic.Int64
				together(goroutines, func(int) {
					if v := takeOne(l, rules[0], key, now); !v.Refused {
						admitted.Add(1)
					}
				})
				if n := admitted.Load(); n != tokens {
					t.Fatalf("%s, %d threads, round %d: %d were admitted, not %d (%+v)", name, threads, round, n, tokens, l.Stats(now))
				}
			}
			checkTable(t, l)
			if s := l.Stats(0); s.Overflowed != 0 {
				t.Errorf("%s, %d threads: %+v", name, threads, s)
			}
		}
	}
}

// A race for the last free place of a table is one for a place, not for an overflow bucket.
func TestNewKeyRaceForLastPlace(t *testing.T) {
	const goroutines, tokens = 32, 10
	procs(t, 16)
	spec := algorithms(tokens)["token bucket"]
	for round := range scaled(1000) {
		l, rules := newWithRules(t, 10, spec)
		for key := Key(1); l.Stats(0).Live < 15; key++ {
			drain(l, rules[0], key*0x9e3779b97f4a7c15, 0)
		}
		before := l.Stats(0)
		var admitted atomic.Int64
		together(goroutines, func(int) {
			if v := takeOne(l, rules[0], 0xabcdef, 0); !v.Refused {
				admitted.Add(1)
			}
		})
		if n := admitted.Load(); n != tokens {
			t.Fatalf("round %d: %d were admitted, not %d (before %+v, now %+v)", round, n, tokens, before, l.Stats(0))
		}
		checkTable(t, l)
	}
}

// Buckets that come and go in a table too small for them are never two at a time, and none admits more
// than it ought to: what was admitted in an overflow bucket, and at an eviction, is counted apart.
func TestReclaimStorm(t *testing.T) {
	const goroutines, keys, burst = 16, 40, 4
	for _, threads := range []int{2, 16} {
		procs(t, threads)
		for _, capacity := range []int{10, 20, 40} {
			spec := Spec{Algorithm: TokenBucket, Rate: Rate{1000, second}, Burst: burst}
			l, rules := newWithRules(t, capacity, spec)
			var clock atomic.Int64
			var admitted [keys]atomic.Int64
			together(goroutines, func(i int) {
				seed := uint64(i)*0x9e3779b97f4a7c15 + 1
				for range scaled(20000) {
					seed = seed*6364136223846793005 + 1442695040888963407
					k := seed >> 33 % keys
					now := clock.Add(int64(seed >> 60 * 10_000))
					v := takeOne(l, rules[0], Key(k+1)*0x9e3779b97f4a7c15, time.Duration(now))
					if !v.Refused && !v.Overflowed() {
						admitted[k].Add(1)
					}
				}
			})
			checkTable(t, l)
			stats := l.Stats(0)
			if stats.Evictions != 0 { // of a burst of 4, nobody lacks less than a twentieth for long
				t.Logf("%d threads, %d buckets: %+v", threads, capacity, stats)
			}
			most := burst + clock.Load()/int64(time.Millisecond) + goroutines + int64(stats.Evictions)
			for k := range admitted {
				if n := admitted[k].Load(); n > most {
					t.Errorf("%d threads, %d buckets: key %d was admitted %d times, of %d at most", threads, capacity, k, n, most)
				}
			}
		}
	}
}

// Buckets whose words are often alike, as time stands still and what is taken is given back, are still
// not mistaken for each other.
func TestLookalikeStorm(t *testing.T) {
	const goroutines, keys = 16, 24
	procs(t, 8)
	for name, spec := range algorithms(3) {
		for range scaled(30) {
			l, rules := newWithRules(t, 10, spec)
			now := time.Hour
			together(goroutines, func(i int) {
				seed := uint64(i)*0x9e3779b97f4a7c15 + 1
				for range 400 {
					seed = seed*6364136223846793005 + 1442695040888963407
					k := Key(seed>>33%keys+1) * 0x9e3779b97f4a7c15
					switch seed >> 62 {
					case 0:
						l.Forget(rules[0], k, now)
					case 1:
						takeOne(l, rules[0], k, now)
					default:
						v := []Verdict{takeOne(l, rules[0], k, now)}
						l.GiveBack(now, v)
					}
				}
			})
			if checkTable(t, l); t.Failed() {
				t.Fatal(name)
			}
			for k := range Key(keys) {
				l.Forget(rules[0], (k+1)*0x9e3779b97f4a7c15, now)
			}
			if s := l.Stats(now); s.Live != 0 {
				t.Fatalf("%s: %d buckets lack something, after all were forgotten", name, s.Live)
			}
		}
	}
}
