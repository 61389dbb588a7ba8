package upstream

import (
	"sync/atomic"
	"time"
)

// BreakerConfig says when a breaker opens and how it closes again. A value below the least one allowed
// counts as that: MinRequests 1, Window 10 ms, OpenFor 1 ms, Probes 1.
type BreakerConfig struct {
	FailureRatio float64       // opens at this share of failures, 0 (any failure) to 1 ...
	MinRequests  int           // ... among at least this many outcomes ...
	Window       time.Duration // ... of the last so long, counted in tenths: 0.9 to 1.0 of it
	OpenFor      time.Duration // how long nothing is admitted after that
	Probes       int           // then at most so many requests at once, and so many successes to close
}

// BreakerState is what a breaker does with requests.
type BreakerState uint8

// The states. From CLOSED a breaker goes to OPEN, from OPEN to HALF-OPEN, from there to either.
const (
	BreakerClosed   BreakerState = iota // all are admitted
	BreakerOpen                         // none is
	BreakerHalfOpen                     // a few are, on trial
)

func (s BreakerState) String() string {
	return [...]string{"closed", "open", "half-open"}[s]
}

// Outcome is what became of a request that a breaker admitted.
type Outcome uint8

// The outcomes. What was not the target's doing is Abandoned: the client went away or sent nonsense,
// or no connection was free. It counts as nothing and only makes room for another probe.
const (
	Succeeded Outcome = iota
	Failed
	Abandoned
)

// Ticket is the leave to send one request. The zero Ticket is of no breaker; to report it does nothing.
type Ticket struct {
	episode *episode
	probe   int           // HALF-OPEN: the place taken, and
	expires time.Duration // until when
}

// probes says whether the ticket is that of a request on trial.
func (t *Ticket) probes() bool { return t.episode != nil && t.episode.state == BreakerHalfOpen }

const (
	// probeLife is how long a probe without a report keeps its place, if OpenFor is not longer.
	probeLife = 30 * time.Second
	// probeWait is what Admit says when all probes are taken, if OpenFor is not shorter.
	probeWait = time.Second
)

// Breaker is the circuit breaker of one target. It keeps requests from a target that fails, to give it
// room to recover, and lets a few through after a while to see whether it has.
//
// All times are readings of one monotonic clock since any fixed moment, not negative. A breaker has no
// clock and no timer of its own: OPEN ends with the first request after its time. Readings may come a
// little out of order, as they do when several goroutines take them.
//
// It is safe for concurrent use, and no method waits for another. Admit and Report allocate only when
// they change the state. A nil *Breaker is none: it admits everything and is always CLOSED.
type Breaker struct {
	config  BreakerConfig
	life    time.Duration // of a probe
	changed func(from, to BreakerState)
	current atomic.Pointer[episode]
}

// episode is the time between two changes of state, with all that is counted in it. A change replaces
// the whole by a new one in a single step, so that of several who see the same reason exactly one makes
// it. A ticket names the episode it is from, which serves as the generation number: who reports late
// finds another one in force, and could not replace it. It cannot be mistaken for its own, for no memory is used again while a
// ticket points to it. What is written to an episode that is over is never read.
type episode struct {
	state     BreakerState
	until     time.Duration  // OPEN
	probes    []atomic.Int64 // HALF-OPEN: when each place becomes free of itself; 0 is free
	successes atomic.Int64   // HALF-OPEN
	_         [64]byte       // the above is read by everybody, what is below written
	outcomes  breakerWindow  // CLOSED
}

// NewBreaker makes a closed breaker. If changed is not nil it is called exactly once for every change of
// state, by the goroutine whose Admit or Report made it, when others can see it already. It must not
// block. Calls for changes in quick succession can overtake each other.
func NewBreaker(c BreakerConfig, changed func(from, to BreakerState)) *Breaker {
	c.MinRequests = max(c.MinRequests, 1)
	c.Window = max(c.Window, breakerBuckets*time.Millisecond)
	c.OpenFor = max(c.OpenFor, time.Millisecond)
	c.Probes = max(c.Probes, 1)
	b := &Breaker{config: c, life: max(c.OpenFor, probeLife), changed: changed}
	b.current.Store(b.closed())
	return b
}

// Admit asks whether a request may go to the target. If so, exactly one Report must give the ticket back,
// whatever becomes of the request; a probe that is never reported keeps its place for 30 s, or for OpenFor
// if that is longer. If not, wait is how long it will take at least: OPEN, the time left; HALF-OPEN with
// all probes taken, at most a second. It is never 0 then.
func (b *Breaker) Admit(now time.Duration) (t Ticket, wait time.Duration, ok bool) {
	if b == nil {
		return Ticket{}, 0, true
	}
	for {
		e := b.current.Load()
		switch e.state {
		case BreakerClosed:
			return Ticket{episode: e}, 0, true
		case BreakerOpen:
			if now < e.until {
				return Ticket{}, e.until - now, false
			}
			b.change(e, &episode{state: BreakerHalfOpen, probes: make([]atomic.Int64, b.config.Probes)})
		case BreakerHalfOpen:
			if t, ok := e.takeProbe(now, now+b.life); ok {
				return t, 0, true
			}
			return Ticket{}, min(b.config.OpenFor, probeWait), false
		}
	}
}

// Report gives a ticket back. An outcome from before the last change of state changes nothing.
func (b *Breaker) Report(t Ticket, o Outcome, now time.Duration) {
	e := t.episode
	if b == nil || e == nil || b.current.Load() != e {
		return
	}
	if e.state == BreakerHalfOpen {
		b.reportProbe(t, o, now)
		return
	}
	if o == Abandoned {
		return
	}
	epoch := e.outcomes.epoch(now)
	if e.outcomes.count(epoch, o == Failed) && e.outcomes.reaches(epoch, &b.config) {
		b.open(e, now)
	}
}

// reportProbe judges by one probe. It is heard even if another has its place by now: a target that takes
// long to answer is to come back too.
func (b *Breaker) reportProbe(t Ticket, o Outcome, now time.Duration) {
	e := t.episode
	switch o {
	case Failed:
		b.open(e, now)
		return
	case Succeeded:
		if e.successes.Add(1) == int64(b.config.Probes) {
			b.change(e, b.closed())
			return
		}
	}
	e.probes[t.probe].CompareAndSwap(int64(t.expires), 0)
}

// State tells the state at now and, if OPEN, the time left. OPEN with no time left waits for a request to
// try the target with. State changes nothing.
func (b *Breaker) State(now time.Duration) (s BreakerState, left time.Duration) {
	if b == nil {
		return BreakerClosed, 0
	}
	e := b.current.Load()
	if e.state == BreakerOpen {
		left = max(e.until-now, 0)
	}
	return e.state, left
}

// Ready says whether Admit would admit a request. It takes and changes nothing.
func (b *Breaker) Ready(now time.Duration) bool {
	if b == nil {
		return true
	}
	e := b.current.Load()
	switch e.state {
	case BreakerOpen:
		return now >= e.until
	case BreakerHalfOpen:
		return e.freeProbe(now) >= 0
	}
	return true
}

// open ends an episode with OPEN.
func (b *Breaker) open(e *episode, now time.Duration) {
	b.change(e, &episode{state: BreakerOpen, until: now + b.config.OpenFor})
}

// closed is a new CLOSED episode, with nothing counted.
func (b *Breaker) closed() *episode {
	e := &episode{state: BreakerClosed}
	e.outcomes.width = uint64(b.config.Window / breakerBuckets) // #nosec G115 -- positive
	return e
}

// change puts next in the place of e, unless somebody else has ended e.
func (b *Breaker) change(e, next *episode) {
	if b.current.CompareAndSwap(e, next) && b.changed != nil {
		b.changed(e.state, next.state)
	}
}

// freeProbe is a place that no probe has at now, or -1.
func (e *episode) freeProbe(now time.Duration) int {
	for i := range e.probes {
		if until := e.probes[i].Load(); until == 0 || until <= int64(now) {
			return i
		}
	}
	return -1
}

// takeProbe takes a place until expires.
func (e *episode) takeProbe(now, expires time.Duration) (Ticket, bool) {
	for i := range e.probes {
		until := e.probes[i].Load()
		if (until == 0 || until <= int64(now)) && e.probes[i].CompareAndSwap(until, int64(expires)) {
			return Ticket{episode: e, probe: i, expires: expires}, true
		}
	}
	return Ticket{}, false
}
