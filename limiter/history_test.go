package limiter

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// asked is an operation on one bucket: to take a rule's cost at now, or to give back what was taken.
type asked struct {
	now  int64
	back bool
}

// told is what came of it.
type told struct {
	refused   bool
	remaining int64
	wait      int64 // nanoseconds: until a retry, or one's turn
}

// sequence is an algorithm for one bucket, where one operation comes after the other: in whole
// nanoseconds, and written without regard to how the limiter does it.
type sequence struct {
	spec  Spec
	begin [3]int64
	step  step
}

const each = int64(50 * time.Nanosecond) // a token

const minute = time.Millisecond // of those who live fast

// sequences are for rules that a few nanoseconds make a difference to. All hold twelve tokens.
func sequences(cost int64) map[string]sequence {
	full := [3]int64{12 * each}
	quick, window := Rate{20_000, time.Millisecond}, Rate{12, minute}
	return map[string]sequence{
		"token bucket": {Spec{Algorithm: TokenBucket, Rate: quick, Burst: 12, Cost: cost}, full, tokenSequence(12, cost)},
		"leaky bucket": {Spec{Algorithm: LeakyBucket, Rate: quick, Burst: 12, Cost: cost, MaxWait: second}, [3]int64{},
			leakySequence(12, cost)},
		"fixed window":   {Spec{Algorithm: FixedWindow, Rate: window, Cost: cost}, [3]int64{}, fixedSequence(12, cost)},
		"sliding window": {Spec{Algorithm: SlidingWindow, Rate: window, Cost: cost}, [3]int64{}, slidingSequence(12, cost)},
	}
}

type step = func(state [3]int64, in asked) ([3]int64, told)

// tokenSequence keeps the credit in nanoseconds, and of when it is.
func tokenSequence(tokens, cost int64) step {
	return func(s [3]int64, in asked) ([3]int64, told) {
		if in.back {
			return [3]int64{s[0] + cost*each, s[1]}, told{}
		}
		credit := min(s[0]+in.now-s[1], tokens*each)
		if credit < cost*each {
			return s, told{true, max(credit, 0) / each, cost*each - credit}
		}
		credit -= cost * each
		return [3]int64{credit, in.now}, told{false, credit / each, 0}
	}
}

// leakySequence keeps the next free turn.
func leakySequence(tokens, cost int64) step {
	return func(s [3]int64, in asked) ([3]int64, told) {
		turn := max(s[0], in.now)
		wait := turn - in.now
		left := func(free int64) int64 {
			if free-in.now > tokens*each {
				return 0
			}
			return min(tokens, (tokens*each-max(free-in.now, 0))/each+1)
		}
		if wait > tokens*each {
			return s, told{true, left(s[0]), wait - tokens*each}
		}
		return [3]int64{turn + cost*each}, told{false, left(turn + cost*each), wait}
	}
}

// fixedSequence keeps a window's number and what is used of it.
func fixedSequence(tokens, cost int64) step {
	return func(s [3]int64, in asked) ([3]int64, told) {
		at := epoch.UnixNano() + in.now
		if w := at / int64(minute); w > s[0] {
			s = [3]int64{w}
		}
		if s[1]+cost > tokens {
			return s, told{true, tokens - s[1], (s[0]+1)*int64(minute) - at}
		}
		s[1] += cost
		return s, told{false, tokens - s[1], 0}
	}
}

// slidingSequence keeps a window's number, what was used of the one before, and of this.
func slidingSequence(tokens, cost int64) step {
	return func(s [3]int64, in asked) ([3]int64, told) {
		at, found := epoch.UnixNano()+in.now, s
		switch w := at / int64(minute); {
		case w == s[0]+1:
			s = [3]int64{w, s[2]}
		case w > s[0]:
			s = [3]int64{w}
		}
		left := min((s[0]+1)*int64(minute)-at, int64(minute))
		carried := (s[1]*left + int64(minute) - 1) / int64(minute)
		if carried+s[2]+cost > tokens {
			return found, told{true, max(tokens-carried-s[2], 0), -1}
		}
		s[2] += cost
		return s, told{false, max(tokens-carried-s[2], 0), 0}
	}
}

// judge makes a model of porcupine of it.
func (q sequence) judge() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return q.begin },
		Step: func(state, input, output any) (bool, any) {
			next, want := q.step(state.([3]int64), input.(asked))
			got := output.(told)
			if want.wait < 0 { // not foretold
				want.wait = got.wait
			}
			return got == want, next
		},
		DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
	}
}

// record lets goroutines take from one new bucket, with clocks that do not quite agree, and says what they
// saw. The bucket may also change its place.
func (q sequence) record(t *testing.T, clients, operations int, start int64) []porcupine.Operation {
	l, rules := newWithRules(t, 10, q.spec)
	var order, clock atomic.Int64
	clock.Store(start)
	histories := make([][]porcupine.Operation, clients)
	together(clients, func(i int) {
		for n := range operations {
			now := clock.Add(int64(n%3)*each) - int64((i*7+n)%5)*each/2
			if q.spec.Rate.N < 20_000 { // windows
				now = clock.Add(int64(i*n)*1000) - int64((i*7+n)%5)*20_000
			}
			in := asked{now: now}
			op := porcupine.Operation{ClientId: i, Input: in, Call: order.Add(1)}
			v := takeOne(l, rules[0], 99, time.Duration(now))
			op.Return = order.Add(1)
			op.Output = told{v.Refused, v.Remaining(), int64(v.RetryAfter() + v.Turn())}
			histories[i] = append(histories[i], op)
			if q.spec.Algorithm == TokenBucket && !v.Refused && (i+n)%4 == 0 {
				op = porcupine.Operation{ClientId: i, Input: asked{now, true}, Output: told{}, Call: order.Add(1)}
				l.GiveBack(time.Duration(now), []Verdict{v})
				op.Return = order.Add(1)
				histories[i] = append(histories[i], op)
			}
		}
	})
	checkTable(t, l)
	var all []porcupine.Operation
	for _, h := range histories {
		all = append(all, h...)
	}
	return all
}

// Whatever many do to one bucket at once, they could have done one after the other.
func TestBucketIsLinearizable(t *testing.T) {
	for _, threads := range []int{2, 8} {
		procs(t, threads)
		for _, cost := range []int64{1, 2, 5} {
			for name, q := range sequences(cost) {
				for round := range scaled(150) {
					history := q.record(t, 8, 12, int64(time.Hour)+int64(round)*123_457)
					if result := porcupine.CheckOperationsTimeout(q.judge(), history, 20*time.Second); result != porcupine.Ok {
						for _, op := range history {
							t.Log(op.ClientId, op.Call, op.Return, q.judge().DescribeOperation(op.Input, op.Output))
						}
						t.Fatalf("%s of cost %d, %d threads, round %d: %v", name, cost, threads, round, result)
					}
				}
			}
		}
	}
}

// The judge is awake: it finds a token that was taken twice, and a request that was refused for nothing.
func TestJudgeSeesFaults(t *testing.T) {
	for name, q := range sequences(1) {
		history := q.record(t, 4, 8, int64(time.Hour))
		for i := range history {
			out := history[i].Output.(told)
			if in := history[i].Input.(asked); in.back {
				continue
			}
			forged := append([]porcupine.Operation{}, history...)
			out.refused = !out.refused
			forged[i].Output = out
			if porcupine.CheckOperations(q.judge(), forged) {
				t.Errorf("%s: a wrong answer passed for right", name)
			}
		}
	}
}
