package limiter

import (
	"math/big"
	"testing"
	"time"
)

// specOf makes a spec that Check lets pass of any numbers, or none.
func specOf(algorithm uint8, n, per, burst, cost, wait int64) (Spec, bool) {
	s := Spec{Name: "r", Algorithm: Algorithm(algorithm % 4), Rate: Rate{n, time.Duration(per)}, Cost: max(cost, 1)}
	if s.Algorithm == TokenBucket || s.Algorithm == LeakyBucket {
		s.Burst, s.MaxWait = burst, time.Duration(wait)
	}
	return s, s.Check() == nil
}

// A clock shows what the rate has granted, rounded down; and `when` is the first moment that it shows a
// reading.
func FuzzScale(f *testing.F) {
	for _, now := range []int64{0, 1, 1e9, maxNow - 1, maxNow} {
		f.Add(int64(1), int64(24*time.Hour), int64(MaxTokens), now, int64(1)<<40)
		f.Add(int64(10_000_000), int64(second), int64(1000), now, now)
		f.Add(int64(999_999_937), int64(second), int64(1), now, now/3)
		f.Add(int64(MaxTokens), int64(MaxPeriod), int64(2*MaxTokens), now, int64(1)<<60)
		f.Add(int64(999), int64(second), int64(999), now, int64(123_456_789))
		f.Add(int64(1), int64(MaxPeriod), int64(1), now, int64(1)<<60+1<<59)
	}
	f.Fuzz(func(t *testing.T, n, per, size, now, reading int64) {
		spec, ok := specOf(uint8(TokenBucket), n, per, 1, 1, 0)
		if !ok || size < 1 || size > 2*MaxTokens || now < 0 || now > maxNow || reading < 0 || reading > 1<<61 {
			return
		}
		s := newScale(n, spec.Rate.Per, size)
		if s.token < 1 || s.token > maxDebt/size || s.mul > maxPace*s.div {
			t.Fatalf("scale %+v", s)
		}
		exact := func(now int64) int64 { // what the rate has granted
			x := new(big.Int).Mul(big.NewInt(now), big.NewInt(n))
			x.Mul(x, big.NewInt(s.token))
			return x.Div(x, big.NewInt(per)).Int64()
		}
		if got := s.at(now); got != exact(now) || got > 1<<60 {
			t.Fatalf("%+v shows %d at %d, not %d", s, got, now, exact(now))
		}
		moment := s.when(reading)
		if moment < 0 || moment > maxNow {
			t.Fatalf("%+v shows %d at %d", s, reading, moment)
		}
		if moment < maxNow && exact(moment) < reading || moment > 0 && exact(moment-1) >= reading {
			t.Fatalf("%+v does not begin to show %d at %d", s, reading, moment)
		}
		for _, most := range []int64{0, 1, reading} {
			if got := s.span(time.Duration(now), most); got != min(exact(now), most) {
				t.Fatalf("%+v gains %d in %d, not %d", s, got, now, exact(now))
			}
		}
	})
}

// No word stops a policy, and what it makes of one of another policy is one of its own.
func FuzzPolicy(f *testing.F) {
	for a := range uint8(4) {
		for b := range uint8(4) {
			f.Add(a, int64(10), int64(second), int64(5), int64(1), b, int64(1000), int64(time.Minute), int64(7), int64(2), uint64(1)<<40|3, int64(time.Hour))
			f.Add(a, int64(1), int64(MaxPeriod), int64(MaxTokens), int64(1), b, int64(1_000_000), int64(MinPeriod), int64(1), int64(1), uint64(valueMask), int64(maxNow))
			f.Add(a, int64(MaxSliding), int64(second), int64(1), int64(MaxSliding), b, int64(3), int64(second), int64(1), int64(3), uint64(1)<<60, int64(0))
		}
	}
	f.Fuzz(func(t *testing.T, a uint8, n1, per1, burst1, cost1 int64, b uint8, n2, per2, burst2, cost2 int64, value uint64, now int64) {
		one, ok1 := specOf(a, n1, per1, burst1, cost1, int64(second))
		two, ok2 := specOf(b, n2, per2, burst2, cost2, int64(time.Minute))
		if !ok1 || !ok2 || now < 0 || now > maxNow {
			return
		}
		p := newPolicy(&one, one.Rate, epoch.UnixNano())
		q := newPolicy(&two, two.Rate, epoch.UnixNano())
		value &= valueMask
		p.examine(t, value, now)
		adopted := q.adopt(p, value, now)
		q.examine(t, adopted, now)
		tokens, parts := q.debt(adopted, now)
		most := uint64(q.limit)
		switch q.algorithm {
		case LeakyBucket:
			most = uint64(q.size/q.scale.token + q.cost + 1)
		case SlidingWindow: // of both windows
			most *= 2
		}
		if tokens/parts > most {
			t.Fatalf("a debt of %d/%d was adopted, in a bucket of %d", tokens, parts, q.limit)
		}
		if next, ok := q.take(adopted, now, q.cost); ok && next > valueMask {
			t.Fatalf("value %x", next)
		}
		if owes, _ := p.debt(value, now); (owes == 0) != (tokens == 0) {
			t.Fatalf("a debt of %d became one of %d", owes, tokens)
		}
		q.giveBack(value, p.unused(value, now, p.cost))
		q.giveBack(adopted, q.unused(adopted, now, p.cost))
	})
}

// examine asks a policy all that can be asked of a value.
func (p *policy) examine(t *testing.T, value uint64, now int64) {
	if value > valueMask {
		t.Fatalf("value %x", value)
	}
	left, full := p.state(value, now)
	if left < 0 || left > p.limit || full < 0 {
		t.Fatalf("%d of %d left, full in %d", left, p.limit, full)
	}
	next, ok := p.take(value, now, p.cost)
	if wait := p.wait(value, now, p.cost); !ok && (wait < 0 || wait == 0 && now < maxNow) {
		t.Fatalf("refused, and to wait %d", wait)
	}
	if ok {
		if turn := p.turn(next, now, p.cost); turn < 0 {
			t.Fatalf("turn %d", turn)
		}
		if back, ok := p.giveBack(next, p.unused(next, now, p.cost)); !ok || back > valueMask {
			t.Fatalf("%x was given back as %x: %v", next, back, ok)
		}
	}
	if p.spent(value, now) && !p.slight(value, now) {
		t.Fatalf("nothing is not little")
	}
	p.worn(now)
}
