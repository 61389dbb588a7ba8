package upstream

import (
	"context"
	"net"
	"sync"
	"time"
)

// presence decides which targets of a pool take part in the choice: all but those that active checks found
// unhealthy, and those that were ejected for failing several requests in a row. Ejection never takes the
// last ones; checks may, as they have asked. Requests only touch it when a target's state changes.
type presence struct {
	mu      sync.Mutex
	targets []*Target
	changed func(target string, present bool, why error)
}

// why a target is not present; guarded by presence.mu.
type absence struct {
	unhealthy bool
	ejected   bool
}

// judge is told what the checks of a target have found.
func (p *presence) judge(t *Target, healthy bool, why error, now time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.absence.unhealthy = !healthy
	p.settle(t, why, now)
}

// eject takes a target out that failed, unless too few would be left.
func (p *presence) eject(t *Target, why error, now time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ready := 0
	for _, other := range p.targets {
		if other.ready(now) {
			ready++
		}
	}
	if !mayEject(ready, len(p.targets)) {
		t.ejector.spare()
		return
	}
	t.absence.ejected = true
	p.settle(t, why, now)
}

// readmit lets the targets come back whose ejection is over.
func (p *presence) readmit(now time.Duration) {
	for _, t := range p.targets {
		if until := t.ejector.until(); until == 0 || now < until {
			continue
		}
		p.mu.Lock()
		if t.ejector.recovered(now) {
			t.absence.ejected = false
			p.settle(t, nil, now)
		}
		p.mu.Unlock()
	}
}

// settle makes a target's seat what its absence says. It is called with the lock held.
func (p *presence) settle(t *Target, why error, now time.Duration) {
	out := t.absence.unhealthy || t.absence.ejected
	if out == t.out.Load() {
		return
	}
	if out {
		t.leave()
	} else {
		t.comeBack(now)
	}
	if p.changed != nil {
		p.changed(t.address, !out, why)
	}
}

// Run checks the targets' health until ctx ends, if the pool has health checks, and lets ejected targets come
// back. Call it once.
func (p *Pool) Run(ctx context.Context) {
	var checks sync.WaitGroup
	defer checks.Wait()
	for _, t := range p.targets {
		if t.checker != nil {
			checks.Go(func() { t.checker.run(ctx) })
		}
	}
	ticker := time.NewTicker(readmission)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			p.presence.readmit(now.Sub(p.config.Epoch))
		}
	}
}

// readmission is how long after its time an ejected target comes back, at most.
const readmission = 100 * time.Millisecond

// check makes the target's checker.
func (t *Target) check(p *Pool, c HealthConfig) {
	if c.Host == "" {
		c.Host = t.Host()
	}
	t.checker = newChecker(c, t.dialCheck, p.config.Random, func(healthy bool, why error) {
		p.presence.judge(t, healthy, why, time.Since(p.config.Epoch))
	})
}

// dialCheck opens a connection for a check.
func (t *Target) dialCheck(ctx context.Context) (net.Conn, error) {
	c, err := t.dialContext(ctx)
	if err != nil {
		return nil, err
	}
	return c.Conn, nil
}

// Health tells what is known of the target's health: whether it takes part in the choice, and what the last
// check found. checked is false if there are no checks.
func (t *Target) Health() (present bool, last CheckState, checked bool) {
	if t.checker == nil {
		return !t.out.Load(), CheckState{}, false
	}
	return !t.out.Load(), t.checker.state(), true
}
