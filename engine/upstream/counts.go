package upstream

import "sync/atomic"

// Counts is what became of a target's requests since it came. It only grows.
type Counts struct {
	Requests  uint64 // let in, tries counted each
	Failures  uint64 // of them: answered 5xx, or not at all, or not to the end
	Opened    uint64 // how often its breaker opened
	Ejections uint64
}

// PoolCounts is what became of the requests of a pool beside that. It only grows.
type PoolCounts struct {
	Retries uint64
	Refused uint64 // retries that the budget did not allow
	Busy    uint64 // requests that found no room, and waited
}

type targetCounts struct{ requests, failures, opened, ejections atomic.Uint64 }

type poolCounts struct{ retries, refused, busy atomic.Uint64 }

// Counts tells what became of the target's requests.
func (t *Target) Counts() Counts {
	c := &t.counts
	return Counts{c.requests.Load(), c.failures.Load(), c.opened.Load(), c.ejections.Load()}
}

// Counts tells what became of the pool's requests.
func (p *Pool) Counts() PoolCounts {
	c := &p.counts
	return PoolCounts{c.retries.Load(), c.refused.Load(), c.busy.Load()}
}
