package upstream

import (
	"fmt"
	"math/bits"
	"sync/atomic"
	"time"
)

// turnTries bounds the turns passed over for one request; after them a seat is drawn by weight.
const turnTries = 16

// roundRobin gives turns by weight. A seat that is not ready loses its turn, which is passed over for all and
// not handed to the next in line: the order without that seat is again one by weight, and no neighbour
// inherits the whole share.
type roundRobin struct {
	row
	order order
	turn  atomic.Uint64
}

func newRoundRobin(seats []*seat) *roundRobin {
	return &roundRobin{row: seats, order: newOrder(seats)}
}

func (b *roundRobin) pick(now time.Duration, _, random uint64, avoid int) int {
	d := dice(random)
	if avoid < 0 {
		for range turnTries {
			i := b.order.at(b.turn.Add(1) - 1)
			if s := b.row[i]; s.ready(now) && d.grants(s.warmth(now)) {
				return i
			}
		}
	}
	if i := b.draw(now, avoid, -1, &d); i >= 0 {
		return i
	}
	return b.lastResort(now, avoid)
}

// order says whose turn it is. In any whole round each seat has exactly its weight of turns, divided by the
// weights' common divisor. Short rounds are a smooth schedule. Longer ones walk the weights, laid end to end,
// in steps near the golden section of their sum: a step without common divisor meets each place once, and
// places one after another are far apart.
type order struct {
	length   uint64
	schedule []uint16
	step     uint64
	ends     []uint64 // where each seat's weight ends
}

func newOrder(seats []*seat) order {
	weights, divisor := make([]int, len(seats)), 0
	for i, s := range seats {
		weights[i] = int(s.weight)
		divisor = gcd(divisor, weights[i])
	}
	o := order{ends: make([]uint64, len(seats))}
	for i, w := range weights {
		o.length += uint64(w / divisor) // #nosec G115 -- checked by newBalancer
		o.ends[i] = o.length
	}
	if schedule, err := smoothRound(weights); err == nil {
		o.schedule = schedule
		return o
	}
	o.step, _ = bits.Mul64(o.length, golden)
	for gcd(int(o.step), int(o.length)) != 1 { // #nosec G115 -- far below 2^63
		o.step++
	}
	return o
}

func (o *order) at(turn uint64) int {
	place := turn % o.length
	if o.schedule != nil {
		return int(o.schedule[place])
	}
	place = place * o.step % o.length
	low, high := 0, len(o.ends)-1
	for low < high {
		if middle := (low + high) / 2; place < o.ends[middle] {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low
}

// maxSchedule bounds the precomputed order of a weighted pool.
const maxSchedule = 1 << 12

// smoothRound spreads weights over one round so that a heavy target's turns are apart (the smooth
// weighted round-robin of nginx), divided by their common divisor.
func smoothRound(weights []int) ([]uint16, error) {
	total, divisor := 0, 0
	for _, w := range weights {
		if w < 0 {
			return nil, fmt.Errorf("weight %d is negative", w)
		}
		total += w
		divisor = gcd(divisor, w)
	}
	if total == 0 {
		return nil, nil
	}
	length := total / divisor
	if length > maxSchedule {
		return nil, fmt.Errorf("weights add up to %d shares, more than %d", length, maxSchedule)
	}
	round := make([]uint16, 0, length)
	current := make([]int, len(weights))
	for range length {
		best := -1
		for i, w := range weights {
			if w == 0 {
				continue
			}
			current[i] += w / divisor
			if best < 0 || current[i] > current[best] {
				best = i
			}
		}
		current[best] -= length
		round = append(round, uint16(best)) // #nosec G115 -- a pool has far fewer targets
	}
	return round, nil
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
