package upstream

import (
	"fmt"
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Policy names a way to choose among the targets of a pool.
type Policy string

// The policies, by their names in the configuration.
const (
	TwoChoices Policy = "p2c"         // of two at random, the less busy one
	RoundRobin Policy = "round_robin" // in turn
	LeastConn  Policy = "least_conn"  // the least busy one
	Hash       Policy = "hash"        // by a key, unless that target has more than its part of the load
)

// balancer chooses among the seats it was built with. It is safe for concurrent use, takes no lock and
// allocates nothing.
type balancer interface {
	// pick gives the index of a seat that is ready at now (monotonic), or -1 when none is. The seat to avoid
	// (-1: none) is taken only if no other one is ready; such a pick is a second choice and costs nobody a
	// turn, for otherwise a target that fails would be the first choice of every request. Hash decides by
	// key, the other policies by random; both are expected to be uniform.
	pick(now time.Duration, key, random uint64, avoid int) int
}

// maxWeight keeps products of weights, warmth and requests in progress within 64 bits.
const maxWeight = 1 << 20

// drawTries bounds the cheap attempts at a ready seat; after them all seats are looked at once. Both give the
// same distribution, so that the number decides nothing but speed.
const drawTries = 8

// newBalancer builds the choice among seats; an empty policy means TwoChoices. Hash needs inFlight, the
// requests in progress at all the seats together: whoever counts a seat's requests counts them there too.
func newBalancer(p Policy, seats []*seat, inFlight *atomic.Int64) (balancer, error) {
	if len(seats) > math.MaxUint16 {
		return nil, fmt.Errorf("%d targets are more than %d", len(seats), math.MaxUint16)
	}
	total := int64(0)
	for _, s := range seats {
		if s.weight < 0 || s.weight > maxWeight {
			return nil, fmt.Errorf("weight %d is not between 0 and %d", s.weight, maxWeight)
		}
		total += s.weight
	}
	if total == 0 {
		return nobody{}, nil
	}
	switch p {
	case TwoChoices, "":
		return &twoChoices{row: seats, urn: newUrn(seats)}, nil
	case RoundRobin:
		return newRoundRobin(seats), nil
	case LeastConn:
		return &leastConn{row: seats, turns: newRoundRobin(seats)}, nil
	case Hash:
		return newBoundedHash(seats, inFlight), nil
	}
	return nil, fmt.Errorf("balance %q is none of p2c, round_robin, least_conn, hash", string(p))
}

// nobody is the choice when no seat has a weight.
type nobody struct{}

func (nobody) pick(time.Duration, uint64, uint64, int) int { return -1 }

// row is the seats of a pool.
type row []*seat

// draw takes one of the ready seats at random, by the share that counts now, neither a nor b; -1 if there is
// none. One pass: each seat replaces the one held so far with the probability of its part of the sum.
func (r row) draw(now time.Duration, a, b int, d *dice) int {
	held, sum := -1, uint64(0)
	for i, s := range r {
		if i == a || i == b || !s.ready(now) {
			continue
		}
		share := s.share(now)
		sum += share
		if d.below(sum) < share {
			held = i
		}
	}
	return held
}

// lastResort is the seat to avoid, when no other one is ready.
func (r row) lastResort(now time.Duration, avoid int) int {
	if avoid >= 0 && avoid < len(r) && r[avoid].ready(now) {
		return avoid
	}
	return -1
}

// twoChoices draws two seats by weight; the first one drawn gets the request, unless the second would still
// be no busier with it. So shares are as the weights say while loads are even, idleness included (comparing
// load+1 by weight outright would starve light seats then), and uneven loads are evened out.
type twoChoices struct {
	row
	urn urn
}

func (b *twoChoices) pick(now time.Duration, _, random uint64, avoid int) int {
	d := dice(random)
	first := b.candidate(now, avoid, -1, &d)
	if first < 0 {
		return b.lastResort(now, avoid)
	}
	second := b.candidate(now, avoid, first, &d)
	if second < 0 {
		return first
	}
	one, two := b.row[first], b.row[second]
	if one.load()*two.share(now) >= (two.load()+1)*one.share(now) {
		return second
	}
	return first
}

// candidate draws a ready seat by the share that counts now, neither of the two given.
func (b *twoChoices) candidate(now time.Duration, avoid, other int, d *dice) int {
	if len(b.row) > 2 || other < 0 {
		for range drawTries {
			i := b.urn.draw(d.next())
			if i == avoid || i == other {
				continue
			}
			if s := b.row[i]; s.ready(now) && d.grants(s.warmth(now)) {
				return i
			}
		}
	}
	return b.draw(now, avoid, other, d)
}

// leastConn looks at all seats. Whose turn it is gets the request, unless others would still be no busier
// with it: then the one of them that would be the least busy, ties by weight.
type leastConn struct {
	row
	turns *roundRobin
}

func (b *leastConn) pick(now time.Duration, key, random uint64, avoid int) int {
	best := b.turns.pick(now, key, random, avoid)
	if best < 0 || best == avoid {
		return best
	}
	d := dice(^random)
	load, share := b.row[best].load(), b.row[best].share(now) // of the best; with the request, once it is another
	ties := uint64(0)                                         // shares of the others found so far that are as good as the best
	for i, s := range b.row {
		with, its := s.load()+1, s.share(now)
		mine, bests := with*share, load*its
		if mine > bests || i == best || i == avoid || !s.ready(now) {
			continue
		}
		if mine < bests {
			ties = 0
		}
		ties += its
		if d.below(ties) < its {
			best, load, share = i, with, its
		}
	}
	return best
}

// urn draws indices by weight in constant time: Walker's alias method in whole numbers. Each of n columns
// holds sum units, of its own index up to keep and of another one above.
type urn struct {
	sum     uint64
	columns []column
}

type column struct {
	keep  uint64
	other uint16
}

func newUrn(seats []*seat) urn {
	u := urn{columns: make([]column, len(seats))}
	var less, more []int
	for _, s := range seats {
		u.sum += uint64(s.weight) // #nosec G115 -- checked by newBalancer
	}
	for i, s := range seats {
		u.columns[i] = column{keep: uint64(s.weight) * uint64(len(seats)), other: uint16(i)} // #nosec G115 -- likewise
		if u.columns[i].keep < u.sum {
			less = append(less, i)
		} else {
			more = append(more, i)
		}
	}
	for len(less) > 0 {
		small, big := less[len(less)-1], more[len(more)-1]
		less = less[:len(less)-1]
		u.columns[small].other = uint16(big) // #nosec G115 -- at most as many as seats
		u.columns[big].keep -= u.sum - u.columns[small].keep
		if u.columns[big].keep < u.sum {
			more = more[:len(more)-1]
			less = append(less, big)
		}
	}
	return u
}

func (u *urn) draw(random uint64) int {
	i, rest := bits.Mul64(random, uint64(len(u.columns)))
	c := u.columns[i]
	if unit, _ := bits.Mul64(rest, u.sum); unit < c.keep {
		return int(i) // #nosec G115 -- below the number of columns
	}
	return int(c.other)
}

// golden is the golden section of 2^64.
const golden = 0x9e3779b97f4a7c15

// dice is a stream of random numbers from one seed (SplitMix64).
type dice uint64

func (d *dice) next() uint64 {
	*d += golden
	z := uint64(*d)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below is a number from 0 to n-1.
func (d *dice) below(n uint64) uint64 {
	high, _ := bits.Mul64(d.next(), n)
	return high
}

// grants says yes as often as a seat's warmth asks for.
func (d *dice) grants(warmth uint64) bool { return warmth >= warm || d.below(warm) < warmth }
