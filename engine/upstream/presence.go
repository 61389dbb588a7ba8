package upstream

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// presence decides which targets of a pool take part in the choice: all but those that active checks found
// unhealthy, and those that were ejected for failing several requests in a row. Ejection never takes the
// last ones; checks may, as they have asked. Requests only touch it when a target's state changes.
type presence struct {
	mu      sync.Mutex
	lineup  *atomic.Pointer[lineup]
	line    *line // hears of targets that are back
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
	if t.retired.Load() {
		return // its address is gone: nobody chooses it
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	well, targets := 0, p.lineup.Load().targets
	for _, other := range targets {
		if other.well(now) {
			well++
		}
	}
	if !mayEject(well, len(targets)) {
		t.ejector.spare()
		return
	}
	t.absence.ejected = true
	t.counts.ejections.Add(1)
	p.settle(t, why, now)
}

// readmit lets the targets come back whose ejection is over.
func (p *presence) readmit(now time.Duration) {
	for _, t := range p.lineup.Load().targets {
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
	p.line.wakeAll()
	if p.changed != nil {
		p.changed(t.address, !out, why)
	}
}

// Run checks the targets' health until ctx ends, if the pool has health checks, looks names up again, lets
// ejected targets come back, and wakes who waits for a target whose breaker's time is over. Call it once, and after
// Resolve.
func (p *Pool) Run(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	p.check(ctx, p.Targets(), &work)
	for _, s := range p.servers {
		if s.host != "" {
			work.Go(func() { p.follow(ctx, s, &work) })
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
			p.wakeForRoom(now.Sub(p.config.Epoch))
			for _, t := range p.Targets() {
				t.conns.age(uint32(idleConnection / readmission))
			}
		}
	}
}

// wakeForRoom wakes the first who waits if there is room. Who takes it wakes the next one.
func (p *Pool) wakeForRoom(now time.Duration) {
	if p.line.waiting.Load() > 0 && slices.ContainsFunc(p.Targets(), func(t *Target) bool { return t.ready(now) }) {
		p.line.wake()
	}
}

// readmission is how long after its time an ejected target comes back, at most. So is it for one whose breaker was
// open, if requests wait for it.
const readmission = 100 * time.Millisecond

// check lets the targets be checked until ctx ends, or they leave.
func (p *Pool) check(ctx context.Context, targets []*Target, checks *sync.WaitGroup) {
	for _, t := range targets {
		if t.checker == nil {
			continue
		}
		present, stop := context.WithCancel(ctx)
		t.stopChecks = stop
		checks.Go(func() {
			defer stop()
			t.checker.run(present)
		})
	}
}

// makeChecker makes the target's checker.
func (t *Target) makeChecker(p *Pool, c HealthConfig) {
	if c.Host == "" {
		c.Host = t.Host()
	}
	t.checker = newChecker(c, t.dialCheck, p.config.Random, func(healthy bool, why error) {
		p.presence.judge(t, healthy, why, time.Since(p.config.Epoch))
	})
}

// dialCheck opens a connection for a check.
func (t *Target) dialCheck(ctx context.Context) (net.Conn, error) {
	c, err := t.dial(ctx)
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
