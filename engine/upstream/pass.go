package upstream

import (
	"cmp"
	"errors"
	"time"
)

var (
	// ErrNoTarget says that no target of the pool may take a request.
	ErrNoTarget = errors.New("upstream: no target may take a request")
	// ErrOpen says that the breakers of all targets that could take a request are open.
	ErrOpen = errors.New("upstream: all circuits are open")
	// ErrBusy says that all targets that could take a request have as many as they may have at once.
	ErrBusy = errors.New("upstream: all targets are busy")

	errAnswers = errors.New("upstream: it answers with failures")
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
	why      error // what was wrong with it
	reported bool  // that it ended
	answered bool  // reported that it began
	retry    bool
}

// Target is where the pass leads to; nil for the zero Pass.
func (p *Pass) Target() *Target { return p.target }

// Admit chooses a target and takes the request in. If there is none, wait is how long it takes until a
// breaker lets somebody through (ErrOpen), or zero (ErrNoTarget, ErrBusy). After ErrBusy one may Join the line of
// those who wait for room. While somebody is in it nobody is taken in who is not.
func (p *Pool) Admit(c Choice) (pass Pass, wait time.Duration, err error) {
	if p.line.waiting.Load() > 0 {
		p.counts.busy.Add(1)
		return Pass{}, 0, ErrBusy
	}
	pass, wait, err = p.admit(c)
	if err == ErrBusy {
		p.counts.busy.Add(1)
	}
	return pass, wait, err
}

func (p *Pool) admit(c Choice) (pass Pass, wait time.Duration, err error) {
	l := p.lineup.Load()
	avoid := l.index(c.Avoid)
	for range len(l.targets) + 1 {
		i := l.balancer.pick(c.Now, c.Key, c.Random, avoid)
		if i < 0 {
			break
		}
		if pass, ok := p.enter(l.targets[i], c.Now); ok {
			return pass, 0, nil
		}
		// Its last probe or its last place was given to somebody else just now.
	}
	return Pass{}, l.reopens(c.Now), l.refusal(c.Now)
}

// enter takes a request in at a target.
func (p *Pool) enter(t *Target, now time.Duration) (pass Pass, ok bool) {
	if !t.enter() {
		return Pass{}, false
	}
	ticket, _, ok := t.breaker.Admit(now)
	if !ok {
		t.inFlight.Add(-1)
		p.line.wake()
		return Pass{}, false
	}
	t.counts.requests.Add(1)
	p.count(1)
	return Pass{target: t, ticket: ticket, began: now}, true
}

// insteadTries is how many targets are looked at for one that is not on trial.
const insteadTries = 3

// Instead takes in a retry of a request that a target, to be avoided, answered with a failure. It does so only
// if the pool has the means for a retry, and another target that is under no suspicion; else the answer is as
// good as any.
func (p *Pool) Instead(c Choice) (pass Pass, ok bool) {
	l := p.lineup.Load()
	avoid, random := l.index(c.Avoid), dice(c.Random)
	for range insteadTries {
		i := l.balancer.pick(c.Now, c.Key, random.next(), avoid)
		if i < 0 || i == avoid {
			return Pass{}, false
		}
		t := l.targets[i]
		if state, _ := t.breaker.State(c.Now); state != BreakerClosed {
			continue
		}
		if !p.Retry() {
			return Pass{}, false
		}
		pass, ok = p.enter(t, c.Now)
		p.Retried(&pass)
		return pass, ok
	}
	return Pass{}, false
}

// reopens is when the first breaker lets somebody through, or the first ejected target is back.
func (l *lineup) reopens(now time.Duration) (soonest time.Duration) {
	for _, t := range l.targets {
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

func (l *lineup) refusal(now time.Duration) error {
	refusal := ErrNoTarget
	for _, t := range l.targets {
		switch {
		case t.weight == 0 || t.out.Load():
		case t.breaker.Ready(now):
			if t.most > 0 {
				return ErrBusy
			}
		default:
			refusal = ErrOpen
		}
	}
	return refusal
}

// Report tells the target's breaker how the request fared, ahead of its end.
func (p *Pass) Report(o Outcome, now time.Duration) {
	if p.target != nil && !p.reported {
		p.reported = true
		p.target.breaker.Report(p.ticket, o, now)
	}
}

// Answered tells that the target began a good answer, whose end may be days away. A breaker that waits for it to
// succeed hears so at once; any other one waits for the end. That the answer breaks off later is reported still.
func (p *Pass) Answered(now time.Duration) {
	if p.target != nil && !p.reported && p.ticket.probes() {
		p.target.breaker.Report(p.ticket, Succeeded, now)
		p.answered = true
	}
}

// Lost takes note why nothing, or not all, came back from the target: what is told if it is ejected for it.
func (p *Pass) Lost(why error) { p.why = why }

// learn draws from the end of a request what it says of its target.
func (p *presence) learn(pass *Pass, o Outcome, now time.Duration) {
	t := pass.target
	switch o {
	case Failed:
		if eject, _ := t.ejector.failedSince(pass.began, now); eject {
			p.eject(t, cmp.Or(pass.why, errAnswers), now)
		}
	case Succeeded:
		t.ejector.succeededSince(pass.began)
	}
}

// Leave ends a pass, and reports its outcome if that has not been done. Further calls do nothing.
func (p *Pool) Leave(pass *Pass, o Outcome, now time.Duration) {
	if pass.target == nil {
		return
	}
	if !pass.answered || o == Failed {
		pass.Report(o, now)
	}
	if o == Failed {
		pass.target.counts.failures.Add(1)
	}
	p.presence.learn(pass, o, now)
	pass.target.inFlight.Add(-1)
	p.line.wake()
	p.count(-1)
	if pass.retry {
		p.retries.Add(-1)
	}
	*pass = Pass{}
}

// count adds to the requests in progress. Only Hash asks for their sum each time; for the others all processors would
// fight for it in vain.
func (p *Pool) count(n int64) {
	if p.config.Balance == Hash {
		p.inFlight.Add(n)
	}
}

// InFlight is how many requests the targets are working on for us.
func (p *Pool) InFlight() (n int) {
	for _, t := range p.Targets() {
		n += t.InFlight()
	}
	return n
}

// minRetries is how many retries a pool allows at once, however few requests there are.
const minRetries = 3

// Retry says whether the pool has the means for one more retry. If so, the caller makes one, and its pass is
// ended by Retried.
func (p *Pool) Retry() bool {
	most := max(minRetries, int64(p.config.Budget*float64(p.InFlight())))
	if p.retries.Add(1) > most {
		p.retries.Add(-1)
		p.counts.refused.Add(1)
		return false
	}
	p.counts.retries.Add(1)
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
