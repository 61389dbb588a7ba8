package upstream

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"
)

// slots is the size of the hash table: a prime, so that every step through it meets every slot. It is the same
// for every pool, for another size would move all keys.
const slots = 65537

// A seat holds at most overload = 5/4 of its part of the requests in progress, rounded up.
const (
	overloadNumerator   = 5
	overloadDenominator = 4
)

// probes bounds the walk through the table; after it all seats are looked at once.
const probes = 32

// boundedHash is consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, 2016) on a Maglev table
// (Eisenbud et al., 2016, section 3.4). A key keeps to the seat its slot names. When that seat is not ready or
// has its part of the load, the key walks on through the table in steps of its own, so that what one seat
// cannot take is spread over all others, and no key of another seat moves.
//
// The bound holds against the requests in progress when the choice is made: as many requests as choose at the
// same moment may exceed it together.
type boundedHash struct {
	row
	weights  uint64 // of all seats
	inFlight *atomic.Int64
	table    []uint16
}

func newBoundedHash(seats []*seat, inFlight *atomic.Int64) *boundedHash {
	if inFlight == nil {
		panic("BUG: hash without the count of the pool's requests")
	}
	b := &boundedHash{row: seats, inFlight: inFlight, table: newTable(seats)}
	for _, s := range seats {
		b.weights += uint64(s.weight) // #nosec G115 -- checked by newBalancer
	}
	return b
}

func (b *boundedHash) pick(now time.Duration, key, _ uint64, avoid int) int {
	d := dice(key)
	slot := d.below(slots)
	home := int(b.table[slot])
	all := uint64(max(b.inFlight.Load(), 0)) + 1 // #nosec G115 -- not negative
	// Counting the weights of all seats, ready or not, makes the bound the tighter one: enough for most picks.
	if s := b.row[home]; home != avoid && s.hasRoom(all, b.weights) && s.ready(now) && s.warmth(now) == warm {
		return home
	}
	return b.walk(&walk{now: now, key: key, slot: slot, step: 1 + d.below(slots-1), all: all, avoid: avoid})
}

// walk is a key's way through the table when its seat may not take it at once.
type walk struct {
	now             time.Duration
	key, slot, step uint64
	all             uint64 // requests in progress, this one included
	avoid           int
	warmest         uint64 // warmth of the seat that has the most
}

// walk finds a seat with room. There is one if any is ready: the parts of those that take the key add up to more
// than all requests.
func (b *boundedHash) walk(w *walk) int {
	weights := b.audience(w)
	if weights == 0 {
		return b.lastResort(w.now, w.avoid)
	}
	for range probes {
		i := int(b.table[w.slot])
		if s := b.row[i]; s.hasRoom(w.all, weights) && w.takes(i, s) {
			return i
		}
		if w.slot += w.step; w.slot >= slots {
			w.slot -= slots
		}
	}
	return b.nearest(w, weights)
}

// audience adds up the weights of the seats that take the key.
func (b *boundedHash) audience(w *walk) (weights uint64) {
	coldest := uint64(warm)
	for i, s := range b.row {
		if i != w.avoid && s.ready(w.now) {
			warmth := s.warmth(w.now)
			w.warmest, coldest = max(w.warmest, warmth), min(coldest, warmth)
			weights += uint64(s.weight) // #nosec G115 -- checked by newBalancer
		}
	}
	if coldest >= w.warmest {
		return weights
	}
	weights = 0
	for i, s := range b.row {
		if w.takes(i, s) {
			weights += uint64(s.weight) // #nosec G115 -- likewise
		}
	}
	return weights
}

// nearest is weighted rendezvous hashing (Schindelhauer and Schomaker, 2005) among the seats with room; if others
// have taken all of it meanwhile, among all that take the key.
func (b *boundedHash) nearest(w *walk, weights uint64) int {
	best, room, least := -1, false, 0.0
	for i, s := range b.row {
		if !w.takes(i, s) {
			continue
		}
		roomy := s.hasRoom(w.all, weights)
		distance := -math.Log((float64(mix(w.key, s.id)>>11)+0.5)/(1<<53)) / float64(s.weight)
		if best < 0 || roomy && !room || roomy == room && distance < least {
			best, room, least = i, roomy, distance
		}
	}
	if best < 0 {
		return b.lastResort(w.now, w.avoid)
	}
	return best
}

// takes says whether a seat takes the key now. In slow start it gets its keys back one by one and each for good,
// in an order of its own. The warmest seat takes every key, for else none might when all came back at once.
func (w *walk) takes(i int, s *seat) bool {
	if i == w.avoid || !s.ready(w.now) {
		return false
	}
	warmth := s.warmth(w.now)
	if warmth >= w.warmest {
		return true
	}
	rank, _ := bits.Mul64(mix(^w.key, s.id), w.warmest)
	return rank < warmth
}

// hasRoom says whether the seat may take one more of all requests when it shares them with seats of the given
// weights together: load+1 <= ceil(overload * all * weight / weights).
func (s *seat) hasRoom(all, weights uint64) bool {
	// #nosec G115 -- newBalancer refuses negative weights
	return s.load()*weights*overloadDenominator < all*uint64(s.weight)*overloadNumerator
}

func mix(key, id uint64) uint64 {
	d := dice(key ^ bits.RotateLeft64(id, 32))
	return d.next()
}

// newTable fills the slots: the seats take turns by weight, and at its turn each takes the first free slot in
// an order of its own. Neither the slots nor the turns depend on the order of the configuration.
func newTable(seats []*seat) []uint16 {
	type player struct {
		index          int
		weight, credit int64
		next, step     uint64
	}
	var players []player
	heaviest := int64(0)
	for i, s := range seats {
		if s.weight == 0 {
			continue
		}
		d := dice(s.id)
		players = append(players, player{index: i, weight: s.weight, next: d.below(slots), step: 1 + d.below(slots-1)})
		heaviest = max(heaviest, s.weight)
	}
	slices.SortFunc(players, func(a, b player) int { return cmp.Compare(seats[a.index].id, seats[b.index].id) })
	const free = 1<<16 - 1
	table := make([]uint16, slots)
	for i := range table {
		table[i] = free
	}
	for taken := 0; ; {
		for i := range players {
			p := &players[i]
			if p.credit += p.weight; p.credit < heaviest {
				continue
			}
			p.credit -= heaviest
			for table[p.next] != free {
				p.next = (p.next + p.step) % slots
			}
			table[p.next] = uint16(p.index) // #nosec G115 -- newBalancer bounds the number of seats
			if taken++; taken == slots {
				return table
			}
		}
	}
}
