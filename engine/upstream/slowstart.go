package upstream

import (
	"sync/atomic"
	"time"
)

// warmUp is how long a target that came back takes to reach its full share of the requests. It starts with
// a tenth: caches are cold and pools empty, and whatever made it leave may not be over.
const warmUp = 10 * time.Second

// Warmth is counted in thousandths of the full share.
const (
	warm = 1000
	cold = 100
)

// seat is what the choice among targets needs to know of one. It is safe for concurrent use once a balancer
// has it; weight, id, breaker and most do not change from then on.
type seat struct {
	weight   int64        // share of the requests, relative to the other seats; 0 takes none
	id       uint64       // hash of the address: its place in the hash table, the same in every process
	breaker  *Breaker     // nil: always ready
	most     int64        // requests in progress at once; 0: no limit
	inFlight atomic.Int64 // requests in progress
	out      atomic.Bool  // takes no request now: unhealthy or ejected
	since    atomic.Int64 // when it came back, monotonic nanoseconds; 0 long ago
}

// leave takes the seat out of the choice.
func (s *seat) leave() { s.out.Store(true) }

// comeBack lets the seat take requests again, few at first.
func (s *seat) comeBack(now time.Duration) {
	s.restart(now)
	s.out.Store(false)
}

// restart begins the slow start anew, for a seat that was never out: its breaker closed.
func (s *seat) restart(now time.Duration) { s.since.Store(max(int64(now), 1)) }

// ready says whether the seat may take a request now.
func (s *seat) ready(now time.Duration) bool {
	return s.well(now) && (s.most == 0 || s.inFlight.Load() < s.most)
}

// well says whether the seat may take a request now or when another one ends.
func (s *seat) well(now time.Duration) bool {
	return s.weight > 0 && !s.out.Load() && s.breaker.Ready(now)
}

// enter counts a request in, if there is room.
func (s *seat) enter() bool {
	if s.most == 0 {
		s.inFlight.Add(1)
		return true
	}
	for {
		n := s.inFlight.Load()
		if n >= s.most {
			return false
		}
		if s.inFlight.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// warmth is how much of its weight counts now, in thousandths: it rises in a straight line from cold, when
// the seat came back, to warm. It is never 0.
func (s *seat) warmth(now time.Duration) uint64 {
	since := s.since.Load()
	if since == 0 {
		return warm
	}
	return warmthAfter(now - time.Duration(since))
}

func warmthAfter(d time.Duration) uint64 {
	switch {
	case d >= warmUp:
		return warm
	case d <= 0: // another goroutine's clock is a little ahead
		return cold
	}
	return cold + uint64((warm-cold)*d/warmUp) // #nosec G115 -- between 0 and warmUp
}

// share is the weight that counts now, in thousandths.
func (s *seat) share(now time.Duration) uint64 {
	return uint64(s.weight) * s.warmth(now) // #nosec G115 -- newBalancer refuses negative weights
}

// load is the number of requests in progress.
func (s *seat) load() uint64 {
	return uint64(max(s.inFlight.Load(), 0)) // #nosec G115 -- not negative
}
