package gossip

import (
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

// Ledger is the limiter's side: what this node let pass, and what it is told that others did; *limiter.Limiter
// is one. The slices that a Node hands over are only valid during the call.
type Ledger interface {
	// Drain appends to to, up to its capacity, what peers should know, the most pressing first, and regards
	// it as sent. Who gets as much as he has room for asks again. It is called once an interval at least.
	Drain(now time.Duration, to []limiter.Delta) []limiter.Delta
	// Merge debits what a peer let pass; age is how long ago he drained it. Each delta comes once.
	Merge(now time.Duration, from int, age time.Duration, deltas []limiter.Delta)
	// Acknowledge says that every peer that is alive has merged these deltas, or that they are given up. Each
	// that Drain gave comes once.
	Acknowledge(now time.Duration, deltas []limiter.Delta)
	// Fleet names all other members that are known, whenever one of them changed.
	Fleet(now time.Duration, members []limiter.Member)
	// Snapshot appends to to, up to its capacity, buckets in debt, with all that is taken from them as their
	// units, and where to go on; from 0 to 0 are all of them.
	Snapshot(now time.Duration, cursor uint64, to []limiter.Delta) (debts []limiter.Delta, next uint64)
	// Restore makes each bucket's debt at least what a peer's Snapshot said it was, age ago. It may come any number of
	// times.
	Restore(now, age time.Duration, debts []limiter.Delta)
	// Doubt names a peer, once, whose Snapshot should be asked for: it seems to see more in a bucket than this ledger.
	Doubt() (peer int, ok bool)
	// Resolve is Restore of that, for the buckets of which there is doubt: their debt may become less.
	Resolve(now, age time.Duration, debts []limiter.Delta)
	// Pressing becomes ready when a bucket has come to what it may hold without its peers' knowledge.
	Pressing() <-chan struct{}
}

// MaxRecord is the longest record in bytes.
const MaxRecord = 1024

// Records is a set of facts that every member is to have: they are added, forgotten at an end of their own,
// and never taken back. What they say is not this package's business. It is safe for concurrent use.
type Records interface {
	// All yields every record, in any order. What is yielded is valid during the call, which is short.
	All(yield func(record []byte) bool)
	// Apply adds a record that a member told, which may not be new. It may keep it, and may
	// be slow: several are applied at once.
	Apply(record []byte) error
}
