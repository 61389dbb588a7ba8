package limiter

import "time"

// Limit is how many tokens the bucket holds at most: its burst, or a window's tokens.
func (v *Verdict) Limit() int64 { return v.policy.limit }

// Window is the time in which the rate grants the limit.
func (v *Verdict) Window() time.Duration {
	if p := v.policy; p.window != 0 {
		return time.Duration(p.window)
	}
	r := v.policy.rate
	return time.Duration(mulDivUp(uint64(v.policy.limit), uint64(r.Per), uint64(r.N), maxNow))
}

// Remaining is how many tokens are left.
func (v *Verdict) Remaining() int64 {
	left, _ := v.policy.state(v.value, v.now)
	return left
}

// Reset is the time until the bucket holds its limit again, if nothing more is taken.
func (v *Verdict) Reset() time.Duration {
	_, full := v.policy.state(v.value, v.now)
	return time.Duration(full)
}

// RetryAfter is the time after which a refused request would pass, if nothing is taken meanwhile.
func (v *Verdict) RetryAfter() time.Duration {
	if !v.Refused {
		return 0
	}
	wait := v.policy.wait(v.value, v.now, v.cost)
	if v.held {
		wait = max(wait, v.policy.patience)
	}
	return time.Duration(wait)
}

// Turn is how long an admitted request has to wait in a leaky bucket's queue. It is zero for the other
// algorithms.
func (v *Verdict) Turn() time.Duration {
	if v.Refused {
		return 0
	}
	return time.Duration(v.policy.turn(v.value, v.now, v.cost))
}

// Overflowed says whether the request was counted in a bucket that it shares with others, because the
// table had no room.
func (v *Verdict) Overflowed() bool { return v.taken && v.slot == nil }

// GiveBack undoes at now what Take took, of a request that is not carried out after all. What would have
// come in anew meanwhile is not given back a second time. A turn in a leaky bucket's queue can only be given
// back while it is the last one; else it passes unused.
func (l *Limiter) GiveBack(now time.Duration, verdicts []Verdict) {
	for i := range verdicts {
		v := &verdicts[i]
		if !v.taken {
			continue
		}
		if v.slot == nil {
			v.giveBack(&v.plan.overflow[v.group], clamp(now))
		} else {
			v.giveBack(&v.slot.word, clamp(now))
		}
		v.taken = false
	}
}
