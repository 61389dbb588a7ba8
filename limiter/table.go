package limiter

import (
	"math/bits"
	"runtime"
	"sync/atomic"
)

// The table keeps every bucket in memory that is taken once and never grows. It has rows of eight slots;
// a key's bucket is in one of two rows, which its hash names. A slot is 16 bytes: a tag, which says whose
// it is, and a word, which is the bucket. Nothing in it is a pointer, so that the collector passes by.
//
// Who has found his slot needs nothing but its word: load, decide, compare-and-swap. The tag is read again
// in between; as whoever takes a slot over changes the word first, a swap that succeeds has met the bucket
// that the tag named. (It could also have met a later one with the same 64 bits; that costs one token.)
//
// A slot is taken over in these steps, each of them one atomic operation:
//
//  1. its word becomes owned. From here on the old key finds no bucket, and nobody else takes the slot;
//  2. its tag becomes the new key's, pending;
//  3. both rows are searched for the same key. A live one wins: we let go. Of two pending ones the one in
//     the earlier slot wins: it kills the later by making its tag empty. As everybody shows his tag before
//     he looks for others, of two at once at least one sees the other;
//  4. the word becomes the bucket, with the request in hand already in it;
//  5. the tag becomes live. If that fails we were killed, and begin anew.
//
// So at most one live slot has a key (the insertion of Purcell and Harris, "Non-blocking Hashtables with
// Open Addressing", 2005), and nobody waits for anybody: who loses a race for long uses an overflow
// bucket.
//
// Buckets of shared rules are in a table of their own, whose slots are twice as wide: escrow.go says what the
// other half holds. A slot and its other half are in one cache line.
type table struct {
	rows   []row
	wide   []wideRow  // of the table of shared buckets, which has no rows
	counts [16]counts // striped by hash
	plans  *plans
}

type row [rowSize]slot

type slot struct{ tag, word atomic.Uint64 }

const rowSize = 8

// A tag is state (2 bits), version (8), plan (14) and fingerprint (40). The version counts the claims of
// the slot, so that a late step of an old claim does not fit a new one.
const (
	stateShift   = 62
	stateEmpty   = uint64(0)
	statePending = uint64(1) << stateShift
	stateLive    = uint64(2) << stateShift
	stateMask    = uint64(3) << stateShift

	versionShift = 54
	versionMask  = uint64(0xff) << versionShift
	planShift    = 40
	planMask     = uint64(maxPlans-1) << planShift
	printMask    = uint64(1)<<planShift - 1
	nameMask     = planMask | printMask
	maxPlans     = 1 << 14
)

// counts is what happens to slots. It is not touched by requests that find their bucket.
type counts struct {
	claims, evictions, overflowed atomic.Uint64
	_                             [128 - 24]byte
}

// newTable makes a table for so many live buckets. A third of the slots more than that is left free, by
// which one in fifty thousand keys finds both its rows full when the last of them comes.
func newTable(capacity int, plans *plans) *table {
	t := &table{rows: make([]row, rowsFor(capacity)), plans: plans}
	largePages(t.rows)
	return t
}

func rowsFor(capacity int) int { return max(2, (capacity*3/2+rowSize-1)/rowSize) }

// slots is how many there are.
func (t *table) slots() int { return (len(t.rows) + len(t.wide)) * rowSize }

// slot is one of them.
func (t *table) slot(i int) *slot {
	if t.wide != nil {
		return &t.wide[i/rowSize][i%rowSize].slot
	}
	return &t.rows[i/rowSize][i%rowSize]
}

// place is where a key's bucket can be.
type place struct {
	rows [2]*row     // or
	wide [2]*wideRow // of a shared bucket
	at   [2]int      // which rows these are
	name uint64      // plan and fingerprint, as in a tag
	hash uint64
}

// slots is how many slots a place has, in two rows.
const slots = 2 * rowSize

func (at *place) slot(i int) *slot {
	if at.wide[0] != nil {
		return &at.wide[i/rowSize][i%rowSize].slot
	}
	return &at.rows[i/rowSize][i%rowSize]
}

// first is the row in which a key's bucket is looked for first.
func (t *table) first(k Key) *row {
	i, _ := bits.Mul64(uint64(k), uint64(len(t.rows)))
	return &t.rows[i]
}

func (t *table) place(p *plan, k Key) place {
	n := uint64(len(t.rows) + len(t.wide))
	first, _ := bits.Mul64(uint64(k), n)
	second, _ := bits.Mul64(uint64(k)*0x9e3779b97f4a7c15, n)
	if second == first {
		second = (first + 1) % n
	}
	at := place{at: [2]int{int(first), int(second)}, name: p.id | uint64(k)&printMask, hash: uint64(k)}
	if t.wide != nil {
		at.wide = [2]*wideRow{&t.wide[first], &t.wide[second]}
	} else {
		at.rows = [2]*row{&t.rows[first], &t.rows[second]}
	}
	return at
}

func (t *table) countsOf(at *place) *counts { return &t.counts[at.hash>>60] }

// find returns the live slot of a place with its tag, or nil.
func (at *place) find() (*slot, uint64) {
	for i := range slots {
		s := at.slot(i)
		if tag := s.tag.Load(); tag&^versionMask == stateLive|at.name {
			return s, tag
		}
	}
	return nil, 0
}

// candidate is a slot that may be taken over, as it was seen.
type candidate struct {
	slot      *slot
	index     int // of the slot in its place
	tag, word uint64
	evicts    bool // it holds a bucket that lacks a little
	busy      bool // there is no slot, but one that is just changing hands, or has become the key's
}

// candidate chooses the slot for a new bucket: a free one, or else one whose bucket lacks little enough to
// be forgotten. The first row is preferred until it is nearly full, as it is looked at first.
func (t *table) candidate(at *place, now int64) (best candidate) {
	var free [2]int
	var first [2]candidate
	busy := false
	for n := range slots {
		i := n / rowSize
		c, kind := t.classify(at.slot(n), now)
		c.index = n
		switch kind {
		case slotEmpty:
			if free[i] == 0 || first[i].tag&stateMask != stateEmpty {
				first[i] = c
			}
			free[i]++
		case slotSpent:
			if free[i] == 0 {
				first[i] = c
			}
			free[i]++
		case slotSlight:
			if best.slot == nil && !at.untold(n) {
				best = c
			}
		case slotBusy:
			busy = true
		case slotTaken: // by the key itself, since it was looked for
			busy = busy || c.tag&^versionMask == stateLive|at.name
		}
		if n == rowSize-1 && free[0] >= 3 {
			return first[0]
		}
	}
	switch {
	case free[0] == 0 && free[1] == 0:
		best.busy = busy
		return best
	case free[0] >= free[1]:
		return first[0]
	}
	return first[1]
}

type slotKind uint8

const (
	slotTaken slotKind = iota
	slotBusy           // changes hands
	slotEmpty
	slotSpent  // holds a bucket that is as good as new
	slotSlight // holds a bucket that lacks little
)

func (t *table) classify(s *slot, now int64) (candidate, slotKind) {
	tag := s.tag.Load()
	word := s.word.Load()
	c := candidate{slot: s, tag: tag, word: word}
	if word == owned || tag&stateMask == statePending || s.tag.Load() != tag {
		return c, slotBusy
	}
	if tag&stateMask == stateEmpty {
		return c, slotEmpty
	}
	p := t.plans.get(tag)
	if p == nil {
		return c, slotSpent
	}
	value, policy := p.read(word, now)
	switch {
	case policy.spent(value, now):
		return c, slotSpent
	case policy.slight(value, now):
		c.evicts = true
		return c, slotSlight
	}
	return c, slotTaken
}

// claim makes a candidate the place's live slot with a word in it. It fails if somebody else was faster
// with the slot or the key; then all is to be tried anew.
// charge is what a shared bucket begins with as used, and not told to anybody.
func (t *table) claim(at *place, c candidate, word, charge uint64, patient bool) (tag uint64, ok bool) {
	s := c.slot
	if !s.own(c.tag, c.word) {
		return 0, false
	}
	if c.evicts {
		t.countsOf(at).evictions.Add(1)
	}
	pending := statePending | (c.tag+1<<versionShift)&versionMask | at.name
	s.tag.Store(pending)
	if !at.alone(s, patient) {
		s.tag.CompareAndSwap(pending, pending&^stateMask)
		s.word.Store(0)
		return 0, false
	}
	if at.wide[0] != nil {
		at.wideSlot(c.index).begin(Key(at.hash), charge)
	}
	s.word.Store(word)
	live := pending&^stateMask | stateLive
	if !s.tag.CompareAndSwap(pending, live) {
		return 0, false
	}
	t.countsOf(at).claims.Add(1)
	return live, true
}

// own takes a slot into our hands if it still is as it was seen. Its word alone does not tell: another
// bucket's may be the same.
func (s *slot) own(tag, word uint64) bool {
	if !s.word.CompareAndSwap(word, owned) {
		return false
	}
	if s.tag.Load() != tag {
		s.word.Store(word)
		return false
	}
	return true
}

// alone makes sure that no other slot of the place has its key, or says that this one must yield. Who is
// not patient any more kills even those before him. A live one wins even while its word is owned: whoever
// owns it may have mistaken it for another, and give it back.
func (at *place) alone(mine *slot, patient bool) bool {
	before := true
	for i := range slots {
		s := at.slot(i)
		if s == mine {
			before = false
			continue
		}
		for tag := s.tag.Load(); tag&nameMask == at.name; tag = s.tag.Load() {
			if tag&stateMask == stateEmpty {
				break
			}
			if tag&stateMask == stateLive || before && patient {
				return false
			}
			if s.tag.CompareAndSwap(tag, tag&^stateMask) {
				break
			}
		}
	}
	return true
}

// pause lets those go on that a loser of many races waits for.
func pause(attempt int) {
	if attempt > 2 {
		runtime.Gosched()
	}
}
