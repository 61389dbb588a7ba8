package central

import (
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

// Verdict is Redis' answer to a charge. Its methods mean what those of limiter.Verdict do; times count from
// when Redis decided.
type Verdict struct {
	Refused bool // the rule did not admit the request; if it is a shadow, nobody shall notice
	taken   bool // and not given back since
	known   bool
	policy  *policy
	rule    *Rule
	bucket  Bucket
	now     int64 // microseconds of Unix time, by Redis' clock
	state   state
}

// state is a bucket as Redis holds it: of the two buckets, the time when it is full again; of the windows,
// the number of one, the count in it, and of the sliding ones that in the window before.
type state struct{ a, b, c int64 }

// Known says whether the bucket was looked at. It was not if another rule was known to refuse.
func (v *Verdict) Known() bool { return v.known }

// Limit is how many tokens the bucket holds at most.
func (v *Verdict) Limit() int64 { return v.policy.limit }

// Window is the time in which the rate grants the limit.
func (v *Verdict) Window() time.Duration {
	if v.policy.window != 0 {
		return microseconds(v.policy.window)
	}
	s, ok := v.policy.spanOf(v.policy.limit)
	if !ok {
		return microseconds(century)
	}
	return v.policy.duration(s)
}

// debt is the time until a bucket is full again.
func (v *Verdict) debt() span {
	d := span{v.state.a - v.now, v.state.b}
	if d.us < 0 {
		return span{}
	}
	return d
}

// Remaining is how many tokens are left.
func (v *Verdict) Remaining() int64 {
	p := v.policy
	if p.window != 0 {
		used := v.state.b
		if p.algorithm == limiter.SlidingWindow {
			w := v.slide()
			used += ceilDiv(w.previous, w.left, p.window)
		}
		return max(p.limit-used, 0)
	}
	debt := v.debt()
	switch {
	case debt == span{}:
		return p.limit
	case p.size.less(debt):
		return 0
	case p.algorithm == limiter.LeakyBucket: // who finds the line just as long as it may be still gets in
		return min(p.tokens(p.minus(p.size, debt))+1, p.limit)
	}
	return p.tokens(p.minus(p.size, debt))
}

// Reset is the time until the bucket holds its limit again, if nothing more is taken.
func (v *Verdict) Reset() time.Duration {
	p := v.policy
	switch p.algorithm {
	case limiter.FixedWindow:
		if v.state.b == 0 {
			return 0
		}
		return microseconds(v.end())
	case limiter.SlidingWindow:
		switch w := v.slide(); {
		case w.current > 0:
			return microseconds(w.late + w.left + p.window)
		case w.previous > 0:
			return microseconds(w.late + w.left)
		}
		return 0
	}
	return p.duration(v.debt())
}

// RetryAfter is the time after which a refused request would pass, if nothing is taken meanwhile.
func (v *Verdict) RetryAfter() time.Duration {
	p := v.policy
	switch {
	case !v.Refused:
		return 0
	case p.algorithm == limiter.FixedWindow:
		return microseconds(v.end())
	case p.algorithm == limiter.SlidingWindow:
		w := v.slide()
		return microseconds(w.late + max(w.wait(p), 0))
	}
	needed := v.debt()
	if p.algorithm == limiter.TokenBucket {
		needed = p.plus(needed, p.increase)
	}
	return p.duration(p.minus(needed, p.size))
}

// Turn is how long an admitted request has to wait in a leaky bucket's queue. It is zero for the other
// algorithms.
func (v *Verdict) Turn() time.Duration {
	if v.Refused || !v.known || v.policy.algorithm != limiter.LeakyBucket {
		return 0
	}
	return v.policy.duration(v.policy.minus(v.debt(), v.policy.increase))
}

// end is the time until the bucket's window ends, in microseconds.
func (v *Verdict) end() int64 { return (v.state.a+1)*v.policy.window - v.now }

// slide is what a sliding window holds.
type slide struct {
	previous, current int64
	left              int64 // microseconds of this window, of which previous still counts in proportion
	late              int64 // until it begins, if the clock has not come to it yet
}

func (v *Verdict) slide() slide {
	w := slide{previous: v.state.c, current: v.state.b, left: v.end()}
	if over := w.left - v.policy.window; over > 0 {
		w.late, w.left = over, v.policy.window
	}
	return w
}

// wait is how long it takes until a cost that was refused fits, if nothing else is taken meanwhile.
func (w *slide) wait(p *policy) int64 {
	if room := p.limit - w.current - p.cost; room >= 0 {
		return w.left - p.heldFor(room, w.previous)
	}
	return w.left + p.window - p.heldFor(p.limit-p.cost, w.current)
}

// heldFor is how much of a window may be left at most, that a count of the window before weighs no more than
// room.
func (p *policy) heldFor(room, count int64) int64 {
	if count <= room {
		return p.window
	}
	held, _ := divide(room, p.window, count)
	return held
}

// sound says whether a state can be one of the policy's at now: whatever is not would be a mistake of ours,
// or the answer of something that is not our script.
func (p *policy) sound(s state, now int64) bool {
	if p.window != 0 {
		number := now / p.window
		return s.a >= number && s.a <= number+p.ahead() && s.b >= 0 && s.b <= p.limit && s.c >= 0 && s.c <= p.limit &&
			(p.algorithm == limiter.SlidingWindow || s.c == 0)
	}
	most := p.size
	if p.algorithm == limiter.LeakyBucket { // the last of the line is behind it
		most = p.plus(most, p.increase)
	}
	most.us += int64(late / time.Microsecond)
	debt := span{s.a - now, s.b}
	return s.a >= now && s.b >= 0 && s.b < int64(p.den) && !most.less(debt) && s.c == 0
}

// returned is the state after a request is given back, if nobody else has come meanwhile.
func (p *policy) returned(s state) state {
	if p.window != 0 {
		s.b = max(s.b-p.cost, 0)
		return s
	}
	t := p.minus(span{s.a, s.b}, p.increase)
	return state{t.us, t.parts, 0}
}
