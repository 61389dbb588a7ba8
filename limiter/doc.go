// Package limiter decides how many requests may pass: exactly as many as a rule says, under any
// concurrency, in memory that is taken once.
//
// A Spec says how a rule counts, a Key whom it counts, and Limiter.Take asks all the rules of a request
// at once. The package reads no clock and no configuration, starts no goroutine, and takes no lock on the
// way of a request; a decision is a few atomic operations on one cache line, or two, and a refusal only
// reads.
//
// # The algorithms
//
// Token bucket. A bucket holds up to burst tokens, and gets new ones at the rate; a request takes its cost
// or is refused. From any moment on, at most burst + rate*time tokens are taken. It is kept as GCRA (the
// generic cell rate algorithm, ITU-T I.371), whose state is one number: the time at which the bucket will
// be full again.
//
// Leaky bucket. Requests leave one at a time, evenly, at the rate; those that come faster wait for their
// turn, in the order they came. Up to burst of them wait, and none longer than max wait; who finds the line
// longer is refused. The state is the time of the next free turn. The limiter only gives out turns: it is
// the caller who waits.
//
// Fixed window. In each window of the rate's period at most the rate's tokens are taken. Windows begin at
// whole seconds, minutes, hours and days of the wall's clock, in UTC. Around the border of two windows
// twice the tokens can be taken in a moment.
//
// Sliding window. Of the window before, what has not slid out of sight counts in proportion: of 80
// requests in the minute before, 60 still count after 15 seconds. It removes the double burst of the fixed
// window, at the price of taking the earlier window's requests for evenly spread.
//
// A refused request takes nothing: who keeps calling while he is refused is admitted as early as one who
// waits. A request that several rules must admit takes from all or from none.
//
// # The table
//
// All buckets are in one table, which is taken at the start, never grows and holds no pointers. It has rows
// of eight slots; the key's hash names two of the rows, and the bucket is in either. A slot is 16 bytes: a
// tag, which says whose it is (a rule and a hash, not the key itself), and a word, which is the bucket.
//
// A decision on a bucket that is there loads its word, reckons, and puts the new one in its place by a
// compare-and-swap, again if somebody else was faster. A word also says under which version of its rule it
// was written, so that a rule can change under its buckets. How a new bucket gets its slot without a lock,
// and never two slots, is told at the type table.
//
// # When there is no room
//
// A bucket with nothing taken from it carries no information, so its place is free without a sweep. When
// a new key finds no free place, it gets that of a bucket which lacks less than a twentieth of its limit,
// and begins with a debt as large. If there is none either, the request is counted in an overflow bucket,
// which the rule keeps for the group (say, the network) that the client belongs to. So nobody is rid of
// his debts by making others, and a flood of new keys is limited as a whole.
//
// # Reload
//
// Rules are replaced by Prepare, which can fail, and Commit, which cannot. Buckets outlive both.
package limiter
