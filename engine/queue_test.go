package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

// expectNoLines fails if anything is left of a line.
func (e *Engine) expectNoLines(t testing.TB) {
	t.Helper()
	for i := range e.turns.shards {
		s := &e.turns.shards[i]
		s.mu.Lock()
		if len(s.open) != 0 || s.held != 0 {
			t.Errorf("shard %d has %d lines and %d turns", i, len(s.open), s.held)
		}
		s.mu.Unlock()
	}
}

// queueBench is a limiter with leaky rules, and the lines of their buckets, without anything around them.
type queueBench struct {
	*Engine
	meters []*meter
}

// newQueueBench makes it with one rule for each rate, all of them with room for everybody.
func newQueueBench(t testing.TB, rates ...limiter.Rate) *queueBench {
	t.Helper()
	b := &queueBench{Engine: &Engine{started: time.Now()}}
	b.limiter = limiter.New(limiter.Options{Capacity: 1024, Epoch: b.started})
	b.prepare(t, rates...)
	return b
}

// prepare puts other rates in force.
func (b *queueBench) prepare(t testing.TB, rates ...limiter.Rate) {
	t.Helper()
	var specs []limiter.Spec
	for i, r := range rates {
		specs = append(specs, limiter.Spec{
			Name: fmt.Sprint("rule ", i), Algorithm: limiter.LeakyBucket, Rate: r, Burst: 1 << 20, MaxWait: time.Hour,
		})
	}
	u, err := b.limiter.Prepare(specs)
	if err != nil {
		t.Fatal(err)
	}
	u.Commit(time.Since(b.started))
	for i, r := range u.Rules() {
		if i == len(b.meters) {
			b.meters = append(b.meters, &meter{counts: &meterCounts{}})
		}
		b.meters[i] = &meter{rule: r, counts: b.meters[i].counts}
	}
}

// caller is one request of a queueBench.
type caller struct {
	id   lineID
	turn turn
	waiter
}

// take asks the i-th rule for a turn.
func (b *queueBench) take(t testing.TB, i int) *caller {
	t.Helper()
	now := time.Since(b.started)
	charges := []limiter.Charge{{Rule: b.meters[i].rule, Key: b.meters[i].rule.Key()}}
	verdicts := make([]limiter.Verdict, 1)
	if !b.limiter.Take(now, charges, verdicts) {
		t.Fatal("refused")
	}
	return &caller{id: lineOf(b.meters[i], &charges[0], &verdicts[0]), turn: turn{now + verdicts[0].Turn(), verdicts[0]}}
}

// enter puts a caller in line.
func (b *queueBench) enter(c *caller) *caller {
	b.join(c.id, &turn{c.turn.at, c.turn.verdict}, &c.waiter)
	return c
}

// line makes n callers who wait, after one who did not have to.
func (b *queueBench) line(t testing.TB, n int) (all []*caller) {
	t.Helper()
	if first := b.take(t, 0); first.turn.verdict.Turn() != 0 {
		t.Fatal("the first one has to wait")
	}
	for range n {
		all = append(all, b.enter(b.take(t, 0)))
	}
	return all
}

// expectGone waits for callers, who must go in their order at the given times.
func (b *queueBench) expectGone(t testing.TB, callers []*caller, at ...time.Duration) {
	t.Helper()
	for i, c := range callers {
		<-c.ready
		if got := time.Since(b.started); got != at[i] {
			t.Errorf("number %d went at %v, want %v", i, got, at[i])
		}
		if c.waiter.turn.at != at[i] {
			t.Errorf("number %d has the turn at %v, want %v", i, c.waiter.turn.at, at[i])
		}
	}
}

// away makes a caller leave who waits.
func (c *caller) away(t testing.TB) {
	t.Helper()
	if v, ok := c.leave(); !ok || v.Limit() == 0 {
		t.Errorf("who left was not in line: %v", ok)
	}
}

// waits says whether a caller is in line.
func (c *caller) waits() bool {
	c.lines.mu.Lock()
	defer c.lines.mu.Unlock()
	return c.line != nil
}

var tenPerSecond = limiter.Rate{N: 10, Per: time.Second}

func ticks(from, to int) (at []time.Duration) {
	for i := from; i <= to; i++ {
		at = append(at, time.Duration(i)*100*time.Millisecond)
	}
	return at
}

// Whoever leaves, those behind move up by one, those in front stay, and a newcomer has the turn after them.
func TestLineMovesUp(t *testing.T) {
	for _, c := range []struct {
		intent string
		leave  []int
	}{
		{"nobody", nil}, {"the head", []int{0}}, {"one in the middle", []int{2}}, {"the last", []int{4}},
		{"the first three", []int{0, 1, 2}}, {"every other, from the end", []int{4, 2, 0}}, {"all", []int{3, 1, 4, 0, 2}},
	} {
		t.Run(c.intent, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newQueueBench(t, tenPerSecond)
				all := b.line(t, 5)
				var stay []*caller
				for i, w := range all {
					if !slices.Contains(c.leave, i) {
						stay = append(stay, w)
					}
				}
				for _, i := range c.leave {
					all[i].away(t)
				}
				stay = append(stay, b.enter(b.take(t, 0)))
				b.expectGone(t, stay, ticks(1, len(stay))...)
				b.expectNoLines(t)
			})
		})
	}
}

// Those who come and leave at random leave the others in their order, and none of them goes earlier than the
// rate allows or later than he would have had to if all who left had never come.
func TestLineAtRandom(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			b := newQueueBench(t, tenPerSecond)
			waiting, last, spare := b.line(t, 1), time.Duration(0), []*caller(nil)
			for range 400 {
				switch n := random.IntN(10); {
				case n < 4:
					c := b.take(t, 0)
					if c.turn.verdict.Turn() > 0 {
						spare = append(spare, c) // on his way
					} else {
						last = c.turn.at
					}
				case n < 6 && len(waiting) > 0:
					i := random.IntN(len(waiting))
					waiting[i].away(t)
					waiting = slices.Delete(waiting, i, i+1)
				case n < 9:
					for _, c := range spare {
						waiting = append(waiting, b.enter(c))
					}
					spare = nil
				default:
					for _, c := range spare {
						waiting = append(waiting, b.enter(c))
					}
					spare = nil
					synctest.Wait()
					time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
					synctest.Wait()
				}
				for len(waiting) > 0 && !waiting[0].waits() {
					at := waiting[0].waiter.turn.at
					if at < last+100*time.Millisecond {
						t.Fatalf("seed %d: one went at %v, the next at %v", seed, last, at)
					}
					last, waiting = at, waiting[1:]
				}
				for i, c := range waiting {
					if !c.waits() {
						t.Fatalf("seed %d: number %d of the line overtook", seed, i)
					}
				}
			}
			for _, c := range spare {
				waiting = append(waiting, b.enter(c))
			}
			now := time.Since(b.started)
			for i, c := range waiting {
				<-c.ready
				if at := c.waiter.turn.at; at < last+100*time.Millisecond || at > max(now, last)+time.Duration(i+1)*100*time.Millisecond {
					t.Fatalf("seed %d: number %d of those who stay went at %v; the one before at %v, and it is %v", seed, i, at, last, now)
				}
			}
			time.Sleep(2 * spareTime)
			synctest.Wait()
			b.expectNoLines(t)
		})
	}
}

// A turn that cannot be given back, since somebody has a later one and is not in line yet, is his when he
// comes; all in front of him too.
func TestLineKeepsTurnsForNewcomers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(t, tenPerSecond)
		all := b.line(t, 20)
		late := b.take(t, 0)
		for _, c := range all {
			c.away(t)
		}
		time.Sleep(150 * time.Millisecond) // and a turn passes unused
		b.expectGone(t, []*caller{b.enter(late), b.enter(b.take(t, 0))}, ticks(2, 3)...)
		b.expectNoLines(t)
	})
}

// If he does not come, the turns are forgotten: in a while, or when they have passed.
func TestLineForgetsTurns(t *testing.T) {
	for _, c := range []struct {
		places int
		within time.Duration
	}{{2, 200 * time.Millisecond}, {1000, spareTime}} {
		synctest.Test(t, func(t *testing.T) {
			b := newQueueBench(t, tenPerSecond)
			all := b.line(t, c.places)
			b.take(t, 0)
			for _, w := range all {
				w.away(t)
			}
			if b.turns.lock(all[0].id).held != c.places {
				t.Error("the turns were not kept")
			}
			all[0].lines.mu.Unlock()
			time.Sleep(c.within)
			synctest.Wait()
			b.expectNoLines(t)
		})
	}
}

// Who leaves when his turn has just come has had it, and waits for the next one as long as anybody.
func TestLineLeftTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(t, tenPerSecond)
		c := b.line(t, 1)[0]
		time.Sleep(100 * time.Millisecond)
		if _, ok := c.leave(); ok || c.waiter.turn.at != 100*time.Millisecond {
			t.Errorf("left: %v; its turn is %v", ok, c.waiter.turn.at)
		}
		next := b.take(t, 0)
		c.id, c.turn = next.id, next.turn
		b.expectGone(t, []*caller{b.enter(c)}, ticks(2, 2)...)
		b.expectNoLines(t)
	})
}

// Who is given an earlier turn than others comes before them, even if they were quicker to get in line.
func TestLineByTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(t, tenPerSecond)
		b.line(t, 0)
		var all []*caller
		for range 5 {
			all = append(all, b.take(t, 0))
		}
		for _, i := range []int{2, 0, 4, 1, 3} {
			b.enter(all[i])
		}
		b.expectGone(t, all, ticks(1, 5)...)
		b.expectNoLines(t)
	})
}

// A reload leaves the turns that were given; one that changes nothing does not split the line either.
func TestLineOutlivesReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(t, tenPerSecond)
		all := b.line(t, 3)
		b.prepare(t, tenPerSecond)
		all = append(all, b.enter(b.take(t, 0)))
		all[0].away(t)
		b.prepare(t, limiter.Rate{N: 1, Per: time.Second})
		b.expectGone(t, all[1:], ticks(1, 3)...)
		b.expectNoLines(t)
	})
}

// A turn that one who waits elsewhere gives up moves those up who wait behind it.
func TestLineTakesOffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(t, tenPerSecond)
		all := b.line(t, 2)
		elsewhere := b.take(t, 0)
		all = append(all, b.enter(b.take(t, 0)), b.enter(b.take(t, 0)))
		b.offer(elsewhere.id, &elsewhere.turn)
		all = append(all, b.enter(b.take(t, 0)))
		b.expectGone(t, all, ticks(1, 5)...)
		b.expectNoLines(t)
	})
}

// Leaving costs the same in a long line: a hundred thousand leave, in any order, in a blink.
func TestLineLeavesInBulk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(t, limiter.Rate{N: 100, Per: time.Second})
		all := b.line(t, 100000)
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, c := range all {
			c.away(t)
		}
		b.expectNoLines(t)
		b.expectGone(t, []*caller{b.enter(b.take(t, 0))}, 10*time.Millisecond)
	})
}

// Many goroutines wait and leave together, on the real clock. Run with the race detector.
func TestLineTogether(t *testing.T) {
	b := newQueueBench(t, limiter.Rate{N: 2000, Per: time.Second}, limiter.Rate{N: 5000, Per: time.Second})
	var all sync.WaitGroup
	var went atomic.Int64
	for i := range 200 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 3))
			for range 5 {
				c := b.take(t, i%2)
				if c.turn.verdict.Turn() == 0 {
					continue
				}
				b.enter(c)
				patience := time.NewTimer(time.Duration(random.IntN(40)) * time.Millisecond)
				select {
				case <-c.ready:
				case <-patience.C:
					if _, ok := c.leave(); ok {
						continue
					}
				}
				if time.Since(b.started) < c.waiter.turn.at {
					t.Error("one went before its turn")
				}
				went.Add(1)
			}
		})
	}
	all.Wait()
	if went.Load() == 0 {
		t.Error("nobody went")
	}
	time.Sleep(spareTime / 10)
	for deadline := time.Now().Add(2 * spareTime); ; time.Sleep(10 * time.Millisecond) {
		n := 0
		for i := range b.turns.shards {
			s := &b.turns.shards[i]
			s.mu.Lock()
			n += s.held
			s.mu.Unlock()
		}
		if n == 0 || time.Now().After(deadline) {
			break
		}
	}
	b.expectNoLines(t)
}
