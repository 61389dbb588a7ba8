package central

import (
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	// inARow failures open the breaker, and so does half of the last 32 outcomes.
	inARow = 5
	// openFor is how long Redis is left alone; then one request finds out.
	openFor = 500 * time.Millisecond
)

// breaker keeps requests from waiting for a Redis that does not answer. It is safe for concurrent use, and takes
// no lock.
type breaker struct {
	outcomes atomic.Uint32 // the last ones, the newest in the lowest bit; 1: failed
	probe    atomic.Int64  // when somebody may try, in nanoseconds of the caller's clock plus one; zero: closed
}

// admit says whether Redis may be asked at now. Of those that come when it has been left alone for long enough, one may.
func (b *breaker) admit(now time.Duration) bool {
	probe := b.probe.Load()
	return probe == 0 || int64(now) >= probe && b.probe.CompareAndSwap(probe, int64(now+openFor)+1)
}

// reopens is the time until somebody may try; zero: now.
func (b *breaker) reopens(now time.Duration) time.Duration {
	return max(time.Duration(b.probe.Load())-now, 0)
}

func (b *breaker) open() bool { return b.probe.Load() != 0 }

// succeeded takes note of an answer, and says whether it has closed the breaker.
func (b *breaker) succeeded() (closed bool) {
	for outcomes := b.outcomes.Load(); outcomes != 0 && !b.outcomes.CompareAndSwap(outcomes, outcomes<<1); {
		outcomes = b.outcomes.Load()
	}
	probe := b.probe.Load()
	if probe == 0 || !b.probe.CompareAndSwap(probe, 0) {
		return false
	}
	b.outcomes.Store(0)
	return true
}

// failed takes note that there was none, and says whether that has opened the breaker.
func (b *breaker) failed(now time.Duration) (opened bool) {
	outcomes := b.outcomes.Load()
	for !b.outcomes.CompareAndSwap(outcomes, outcomes<<1|1) {
		outcomes = b.outcomes.Load()
	}
	outcomes = outcomes<<1 | 1
	if bits.TrailingZeros32(^outcomes) < inARow && bits.OnesCount32(outcomes) < 16 {
		return false
	}
	return b.probe.CompareAndSwap(0, int64(now+openFor)+1)
}
