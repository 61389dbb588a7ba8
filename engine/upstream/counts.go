package upstream

import "sync/atomic"

// Counts is what became of a target's requests since it came. It only grows.
type Counts struct {
	Requests uint64 // let in, tries counted each
	Failures uint64 // of them: answered 5xx, or not at all, or not to the end
	// How often its breaker came to each state.
	Opened, HalfOpened, Closed uint64
	Ejections                  uint64
	Moved                      uint64 // asked once more, by a connection of their own, because their lane held them up or ended
}

// PoolCounts is what became of the requests of a pool beside that. It only grows.
type PoolCounts struct {
	Retries uint64
	Refused uint64 // retries that the budget did not allow
	Busy    uint64 // requests that found no room, and waited
}

type targetCounts struct {
	requests, failures, ejections, moved atomic.Uint64
	breaker                              [3]atomic.Uint64 // by the state it came to
}

type poolCounts struct{ retries, refused, busy atomic.Uint64 }

// Counts tells what became of the target's requests.
func (t *Target) Counts() Counts {
	c := &t.counts
	return Counts{
		Requests: c.requests.Load(), Failures: c.failures.Load(), Ejections: c.ejections.Load(),
		Opened: c.breaker[BreakerOpen].Load(), HalfOpened: c.breaker[BreakerHalfOpen].Load(), Closed: c.breaker[BreakerClosed].Load(),
		Moved: c.moved.Load(),
	}
}

// Counts tells what became of the pool's requests.
func (p *Pool) Counts() PoolCounts {
	c := &p.counts
	return PoolCounts{c.retries.Load(), c.refused.Load(), c.busy.Load()}
}
