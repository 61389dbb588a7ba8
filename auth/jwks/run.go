package jwks

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	missEvery   = 30 * time.Second // between two fetches for unknown kids
	firstRetry  = time.Second
	emptyRetry  = 30 * time.Second // longest wait between fetches while there are no keys at all
	leastJitter = 0.8              // of a wait that is left when all of its jitter is taken off
)

var errLapsed = errors.New("the last good set is too old")

// Run keeps the keys current until ctx is done: it fetches them before Refresh is over, and after a failure
// at growing intervals from a second up to Refresh (up to half a minute, while requests are refused for
// want of keys). It also does the fetches that Missed asks for. Call it once.
func (s *Set) Run(ctx context.Context) {
	s.mu.Lock()
	if s.running {
		panic("BUG: a key set is run twice")
	}
	s.running = true
	s.mu.Unlock()
	defer s.leave()

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.wake:
		}
		s.step(ctx)
		timer.Reset(s.idle(time.Now()))
	}
}

// step does what is due.
func (s *Set) step(ctx context.Context) {
	s.lapse(ctx)
	s.mu.Lock()
	asked, due := s.asked, !time.Now().Before(s.due)
	s.mu.Unlock()
	if asked == nil && !due {
		return
	}
	_ = s.Fetch(ctx) // it is in the status, and reported
	if asked != nil {
		s.answer()
	}
}

// idle is the time until something is due.
func (s *Set) idle(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := s.due.Sub(now)
	if current := s.current.Load(); current.index.count > 0 {
		wait = min(wait, current.fetched.Add(s.limit).Sub(now))
	}
	return max(wait, 0)
}

// lapse drops a set that is too old. Keys does not return it any more in any case; the new generation tells
// those who remember tokens that were verified with it.
func (s *Set) lapse(ctx context.Context) {
	select {
	case s.turn <- struct{}{}: // a fetch under way may renew it
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return
	}
	s.mu.Lock()
	current := s.current.Load()
	if current.index.count == 0 || time.Since(current.fetched) < s.limit {
		s.mu.Unlock()
		return
	}
	s.publish(&index{}, time.Time{})
	generation := s.current.Load().generation
	s.mu.Unlock()
	s.report(Event{Err: fmt.Errorf("cannot use key set %q: %w", s.source, errLapsed), Changed: true, Generation: generation})
}

// plan sets the time of the next fetch. The caller holds the mutex.
func (s *Set) plan(now time.Time) {
	wait := s.config.Refresh
	if s.failures > 0 {
		longest := wait
		if s.current.Load().index.count == 0 {
			longest = min(longest, emptyRetry)
		}
		wait = min(firstRetry<<min(s.failures-1, 30), longest)
	}
	s.due = now.Add(time.Duration(float64(wait) * (1 - (1-leastJitter)*s.config.Random())))
}

// nudge makes Run look again. One nudge stands for many.
func (s *Set) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Missed tells the Set that a token names a kid that it does not hold. Run, if it is running, then fetches
// the keys again, though not within 30 s of the last time it did so for this reason; all who miss a kid
// meanwhile wait for the same fetch. It returns true when there are other keys than before, or the kid is
// there by now: look again.
func (s *Set) Missed(ctx context.Context, kid string) bool {
	s.mu.Lock()
	before := s.current.Load()
	if before.index.holds(kid) { // it came after the caller had looked
		s.mu.Unlock()
		return true
	}
	if s.asked == nil {
		now := time.Now()
		if !s.running || now.Before(s.askable) {
			s.mu.Unlock()
			return false
		}
		s.asked, s.askable = make(chan struct{}), now.Add(missEvery)
		s.nudge()
	}
	done := s.asked
	s.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
	}
	return s.Generation() != before.generation
}

// answer lets go those who wait in Missed.
func (s *Set) answer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked != nil {
		close(s.asked)
		s.asked = nil
	}
}

// leave ends what only Run can do.
func (s *Set) leave() {
	s.mu.Lock()
	s.running = false
	s.mu.Unlock()
	s.answer()
}
