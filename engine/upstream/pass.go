package upstream

import (
	"errors"
	"time"
)

var (
	// ErrNoTarget says that no target of the pool may take a request.
	ErrNoTarget = errors.New("upstream: no target may take a request")
	// ErrOpen says that the breakers of all targets that could take a request are open.
	ErrOpen = errors.New("upstream: all circuits are open")
)

// Choice is what the choice of a target depends on.
type Choice struct {
	Now    time.Duration // since the pool's epoch, by a monotonic clock
	Key    uint64        // Hash decides by it; uniform
	Random uint64        // the other policies do; uniform
	Avoid  *Target       // tried before, and to be taken only if there is no other; nil: none
}

// Pass lets one request to a target. It belongs to one exchange, and Leave ends it. The zero Pass lets
// nobody anywhere.
type Pass struct {
	target   *Target
	ticket   Ticket
	began    time.Duration
	lost     error // why nothing, or not all, came back
	reported bool
	retry    bool
}

// Target is where the pass leads to; nil for the zero Pass.
func (p *Pass) Target() *Target { return p.target }

// Admit chooses a target and takes the request in. If there is none, wait is how long it takes until a
// breaker lets somebody through (ErrOpen), or zero (ErrNoTarget).
func (p *Pool) Admit(c Choice) (pass Pass, wait time.Duration, err error) {
	avoid := -1
	if c.Avoid != nil {
		avoid = c.Avoid.index
	}
	for range len(p.targets) + 1 {
		i := p.balancer.pick(c.Now, c.Key, c.Random, avoid)
		if i < 0 {
			break
		}
		t := p.targets[i]
		ticket, _, ok := t.breaker.Admit(c.Now)
		if !ok {
			continue // its last probe was given to somebody else just now
		}
		t.inFlight.Add(1)
		p.inFlight.Add(1)
		return Pass{target: t, ticket: ticket, began: c.Now}, 0, nil
	}
	return Pass{}, p.reopens(c.Now), p.refusal(c.Now)
}

// reopens is when the first breaker lets somebody through, or the first ejected target is back.
func (p *Pool) reopens(now time.Duration) (soonest time.Duration) {
	for _, t := range p.targets {
		if t.weight == 0 {
			continue
		}
		_, left := t.breaker.State(now)
		if until := t.ejector.until(); until > now {
			left = max(left, until-now)
		}
		if left > 0 && (soonest == 0 || left < soonest) {
			soonest = left
		}
	}
	return soonest
}

func (p *Pool) refusal(now time.Duration) error {
	for _, t := range p.targets {
		if t.weight > 0 && !t.out.Load() && !t.breaker.Ready(now) {
			return ErrOpen
		}
	}
	return ErrNoTarget
}

// Report tells the target's breaker how the request fared, ahead of its end.
func (p *Pass) Report(o Outcome, now time.Duration) {
	if p.target != nil && !p.reported {
		p.reported = true
		p.target.breaker.Report(p.ticket, o, now)
	}
}

// Lost takes note that the target broke off, timed out or could not be reached, which counts towards its
// ejection. A status, whatever it is, does not.
func (p *Pass) Lost(why error) { p.lost = why }

// learn draws from the end of a request what it says of its target.
func (p *presence) learn(pass *Pass, o Outcome, now time.Duration) {
	t := pass.target
	switch {
	case pass.lost != nil:
		if eject, _ := t.ejector.failedSince(pass.began, now); eject {
			p.eject(t, pass.lost, now)
		}
	case o != Abandoned:
		t.ejector.succeeded()
	}
}

// Leave ends a pass, and reports its outcome if that has not been done. Further calls do nothing.
func (p *Pool) Leave(pass *Pass, o Outcome, now time.Duration) {
	if pass.target == nil {
		return
	}
	pass.Report(o, now)
	p.presence.learn(pass, o, now)
	pass.target.inFlight.Add(-1)
	p.inFlight.Add(-1)
	if pass.retry {
		p.retries.Add(-1)
	}
	*pass = Pass{}
}

// minRetries is how many retries a pool allows at once, however few requests there are.
const minRetries = 3

// Retry says whether the pool has the means for one more retry. If so, the caller makes one, and its pass is
// ended by Retried.
func (p *Pool) Retry() bool {
	most := max(minRetries, int64(p.config.Budget*float64(p.inFlight.Load())))
	if p.retries.Add(1) > most {
		p.retries.Add(-1)
		return false
	}
	return true
}

// Retried makes a pass one of a retry that Retry allowed, which ends with it. Without a pass it ends now.
func (p *Pool) Retried(pass *Pass) {
	if pass.target == nil {
		p.retries.Add(-1)
		return
	}
	pass.retry = true
}
