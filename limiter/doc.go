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
//
// # One limit on many gateways
//
// A rule with Shared set is one limit for a fleet of nodes, without a central store. Each node has a bucket of its
// own for each key, decides by it alone, and tells its peers afterwards what it has let pass: Drain hands out
// Deltas, something else carries them, Merge debits them on the other side. So every bucket comes to lack what all
// nodes have taken together. By itself that would be too late: while a delta is on its way, peers give the same
// tokens out again; a flash of requests on eight nodes would get eight bursts. Two things prevent it.
//
// Nothing is forgiven. A debit that comes late may put a bucket below zero, as if the tokens had been taken in time,
// and it has to fill up from there. (No more than twice the limit and a token for each node, so that a broken
// member cannot close a bucket for good.)
//
// And a node takes only what it may hold unacknowledged. Let V be what its bucket holds, and U what it has taken
// itself and not all live peers have acknowledged. Then all peers see S = V + U, or less; and the node admits a
// request of cost c only if
//
//	c <= V   and   U + c <= share * S
//
// where the shares of all nodes add up to one at most. Why this keeps the limit: let C be what the fleet's one
// bucket would hold if only that had been taken of it which everybody has acknowledged. What a node sees, S, is C
// less what it has merged since: never more than C. So each node's U is no more than its share of C, all of them
// together no more than C, and C less all of them is what the one bucket really holds: it is never below zero. An
// acknowledgement takes the same from C and from U, and a peer's debit that arrives takes it from S before its
// acknowledgement can take it from C; so it stays true as they come and go, in any order, provided that an
// acknowledgement does not overtake what its sender has taken before: who acknowledges, drains first. (This is the
// escrow method of O'Neil, 1986, as the demarcation protocol of Barbará and Garcia-Molina, 1994, uses it.)
//
// Shares. Of a bucket that nobody is known to use, each of N nodes has 1/N. Of one in use, those who use it have
// half of their part evenly, and half by demand: what clients ask, admitted or not, is told with the deltas. To add
// up, everybody must reckon with the same demands. They cannot, so each takes its own for the least that any peer may
// still believe: a share grows only after the others' have shrunk. A quarter is kept back for nodes that begin to
// use the bucket; else one node that has it all, and seven that come at once, would have it nearly twice.
//
// Pace. Drain is called at every interval. A request that meets half of its share while the bucket holds much asks for
// an earlier one (Pressing), so load that moves to another node waits for milliseconds and not for intervals. While the
// bucket is nearly empty it does not: then an interval's tokens gather, and go to the nodes by their shares, not to
// whoever is quickest.
//
// What is worth telling. A node tells at once of buckets of which it has used an eighth of its share, and of others
// within four intervals. It does not tell what came in anew meanwhile, if that is less than an eighth of its even part
// of the rate. It would be wrong to forget all use of a bucket that is full again: on each of many nodes it is,
// after every request, while together they take three times the rate.
//
// Small limits. A share of fewer than 2N tokens may be less than a token for ever. Then each node may have one request
// unacknowledged: the rate is right in the long run, and at most N-1 tokens too many pass at once. Of larger
// limits, some N tokens may stay unused where the use is even: a bucket's burst is smaller by these, and so is what a
// window gives out.
//
// Partition. A peer that falls silent is taken to be at work where we cannot see it: for five seconds, each bucket
// under pressure that it used is debited as much as its share gives it (less if its clients ask for less, more if it used
// clearly more), and what it tells of that time later is not debited again. Then, and for all other buckets at once, each
// token costs N/alive tokens, and of windows a part of alive/N is given out: so each side keeps to its part of the
// limit, and their sum to the limit. Of a node that is killed, its U is lost, which is bounded by its share. One that
// begins anew takes the debts of a peer over (Snapshot, Restore).
//
// A peer that is back soon was starved. Once it has told all, what was debited for it in excess of that is given
// back. Else those that had called it silent would go on seeing less in the bucket than others do, and it takes little:
// while all are at the limit, who sees ten tokens less than his peers gets a third of what they get, and who sees a
// hundred less gets nothing. A peer that has begun anew will never tell what it took before it was met: nothing is given
// back for that.
//
// Views may differ for other reasons: a node that was starved while its bucket filled up, and takes from it before it
// has heard what was taken meanwhile, counts both in full. No view says who is right, the one who counted something
// twice or those who were never told; if all went by who sees most at any time, a single node that forgot a debt would
// make the fleet forget it. But while all are at the limit, he has already: he takes all that comes in. So a node that
// got less than 0.7 of its due for a second, while the fleet let pass what the rate grants, asks the peer who gets most
// beyond his own due for his debts of that bucket (Doubt, Resolve). If that peer is at the limit, the node takes over what he
// sees, less what he cannot have heard of; no more than nodes at the limit see, and once for each second that it got too
// little. So all have their shares again some two seconds after the trouble. If that peer had forgotten a debt, more of
// that passes, and sooner, than by him alone, but never more than he forgot. As no bucket is lifted further than what nodes
// at the limit see, nobody can make a node admit more than its rate and burst by telling it wrong. Who sees more than that
// is not believed: then it ends when the load relents.
//
// Clocks. Deltas tell how long ago, never when: the nodes' clocks need not agree, except in rate. Windows are those of
// the wall's clock, so its error s costs up to 2*s*rate at their borders; deltas of other windows are dropped.
//
// Rules go by a hash of what they say. While peers have another rule under a name, their buckets are others: in the
// moments of a reload that has not reached all nodes, a limit is two.
//
// The tests simulate all this on a virtual clock, with the ways of others as controls that fail (merging by maximum,
// debits without the escrow, an N-th each); BENCHMARKS.md has the figures.
package limiter
