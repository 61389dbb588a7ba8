package telemetry

import (
	"math"
	"sync"
	"sync/atomic"
)

// AccessLog writes a line of JSON for every exchange. Write never waits: lines go through a buffer of bounded size,
// and are dropped and counted when their output does not keep up. It is safe for concurrent use.
//
// A line may be a tenth of a second late, and lines that are nearer to each other in time may change places.
type AccessLog struct {
	options   AccessOptions
	lines     sync.Pool // of *accessLine
	ring      ring
	enabled   atomic.Bool
	threshold atomic.Uint64 // successes are logged if they draw less, or this is the largest there is

	written, dropped atomic.Uint64 // lines
	trouble          trouble

	next    atomic.Pointer[AccessOutput] // that is to be written to from now on; nil: no other
	current atomic.Pointer[AccessOutput] // that is written to; nil: none yet
	reopen  atomic.Bool
	ordered chan struct{} // one of these two was set
}

// AccessOptions is what an AccessLog is made of.
type AccessOptions struct {
	Random     func() uint64                         // uniform over all of uint64, safe for concurrent use
	Processors int                                   // how many goroutines are expected to write at once
	Report     func(t AccessTrouble, dropped uint64) // is told that lines are dropped, and that they are not any more; one call at a time
}

// NewAccessLog makes a log that is off. Nothing is written before Run.
func NewAccessLog(o AccessOptions) *AccessLog {
	l := &AccessLog{options: o, ordered: make(chan struct{}, 1)}
	l.ring.init(o.Processors)
	l.trouble.changed = make(chan struct{}, 1)
	l.lines.New = func() any { return &accessLine{} }
	return l
}

// Counts tells how many lines were written and dropped.
func (l *AccessLog) Counts() (written, dropped uint64) { return l.written.Load(), l.dropped.Load() }

// Write logs an exchange. Of those that succeeded it takes a sample.
func (l *AccessLog) Write(r *Record) {
	if !l.enabled.Load() || !r.Failed() && l.skips() {
		return
	}
	line := l.lines.Get().(*accessLine)
	if line.make(r); !l.ring.put(r.Stripe, line.text) {
		l.drop(1, nil)
	}
	l.lines.Put(line)
}

func (l *AccessLog) skips() bool {
	threshold := l.threshold.Load()
	return threshold < math.MaxUint64 && l.options.Random() >= threshold
}

// sampleThreshold is what a share of all random numbers is less than.
func sampleThreshold(share float64) uint64 {
	if share >= 1 {
		return math.MaxUint64
	}
	return uint64(max(share, 0) * (1 << 64))
}
