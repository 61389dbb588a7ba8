package revocation

import (
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

const (
	minSlots  = 16
	chunkBits = 16
	chunkSize = 1 << chunkBits // bytes of records that are allocated at a time, once a table is not small
	maxChunks = 1 << (32 - chunkBits)

	// maxVariants is how many entries of one kind and id there may be, which differ in issuer or in that
	// one reaches further back and another is in force for longer. Every one costs each check of that id.
	maxVariants = 64

	removed = 1 << 32 // a slot whose record was removed; no record is at place 0
)

// table is a hash table of records of one kind, with open addressing. One goroutine at a time changes it;
// any number read it meanwhile without a lock.
//
// A slot is a word: the upper half of the id's hash, and the record's place. A record is written before
// the slot that names it, and neither moved nor changed afterwards; a slot that is taken is not emptied
// again. So a reader finds every record that was there when it began. Neither slots nor records hold
// pointers: the garbage collector has nothing to follow, whatever their number.
type table struct {
	slots  []atomic.Uint64          // a power of two, at most half of them taken
	chunks atomic.Pointer[[][]byte] // the records; replaced by a longer one before a slot names what is new in it

	taken   int   // slots that are not empty
	live    int   // slots with a record
	fill    int   // bytes of the last chunk in use
	written int   // bytes of records in all chunks
	wasted  int   // of these, of records that no slot names any more
	soonest int64 // no record ends before
}

func newTable(records int) *table {
	t := &table{fill: 1, soonest: everything} // a place is never 0
	t.slots = make([]atomic.Uint64, max(minSlots, 1<<bits.Len(uint(3*records))))
	t.chunks.Store(&[][]byte{make([]byte, 256)})
	return t
}

// revoked tells whether a record of the id revokes p's credential.
func (t *table) revoked(s search, id string, p *auth.Principal, now time.Time) bool {
	mask := uint64(len(t.slots) - 1)
	i, slot := s.hash&mask, s.slot
	for slot != 0 {
		if slot>>32 == s.hash>>32 && slot != removed && t.at(slot).revokes(id, p, now) {
			return true
		}
		i = (i + 1) & mask
		slot = t.slots[i].Load()
	}
	return false
}

// at returns a slot's record. The chunks must be loaded after the slot.
func (t *table) at(slot uint64) record {
	place := uint32(slot)
	return record((*t.chunks.Load())[place>>chunkBits][place%chunkSize:])
}

// find returns the slots of the records that a fact would replace, whether one covers it, and how many
// records there are of its id.
func (t *table) find(hash uint64, f *fact) (within []uint64, covered bool, variants int) {
	mask := uint64(len(t.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		slot := t.slots[i].Load()
		if slot == 0 {
			return within, false, variants
		}
		if slot>>32 != hash>>32 || slot == removed {
			continue
		}
		r := t.at(slot)
		if string(r.id()) == f.id {
			variants++
		}
		if !r.names(f.id, f.issuer) {
			continue
		}
		if r.covers(f) {
			return nil, true, variants
		}
		if r.within(f) {
			within = append(within, i)
		}
	}
}

// free returns the first empty slot for a hash.
func (t *table) free(hash uint64) uint64 {
	mask := uint64(len(t.slots) - 1)
	i := hash & mask
	for t.slots[i].Load() != 0 {
		i = (i + 1) & mask
	}
	return i
}

// hold writes a record into the chunks and returns the slot that names it: 0 if there is no room.
func (t *table) hold(hash uint64, size int, write func(b []byte)) (slot uint64) {
	chunks := *t.chunks.Load()
	last := len(chunks) - 1
	if t.fill+size > len(chunks[last]) {
		longer := append([][]byte(nil), chunks...)
		switch {
		case t.fill+size <= chunkSize:
			longer[last] = make([]byte, min(chunkSize, max(2*len(chunks[last]), t.fill+size)))
			copy(longer[last], chunks[last][:t.fill])
		case len(chunks) == maxChunks:
			return 0
		default:
			longer = append(longer, make([]byte, chunkSize))
			last, t.fill = last+1, 0
		}
		t.chunks.Store(&longer)
		chunks = longer
	}
	write(chunks[last][t.fill : t.fill+size : t.fill+size])
	slot = hash>>32<<32 | uint64(last)<<chunkBits | uint64(t.fill)
	t.fill += size
	t.written += size
	return slot
}

// crowded tells whether the table should be rebuilt before another record comes, in a new slot or not.
func (t *table) crowded(slot bool) bool {
	return slot && 2*(t.taken+1) > len(t.slots) || t.wasted > t.written/2+chunkSize/16
}

// replace puts a slot in the place of others. A reader meets them in order, so the last is the one to
// become the new: who finds one of the others removed has it still ahead.
func (t *table) replace(old []uint64, slot uint64) {
	last := len(old) - 1
	for _, i := range old {
		t.wasted += t.at(t.slots[i].Load()).size()
	}
	t.slots[old[last]].Store(slot)
	for _, i := range old[:last] {
		t.slots[i].Store(removed)
	}
	t.live -= last
}

// records calls f with every record and its slot until it returns false.
func (t *table) records(f func(i int, r record) bool) {
	for i := range t.slots {
		slot := t.slots[i].Load()
		if slot != 0 && slot != removed && !f(i, t.at(slot)) {
			return
		}
	}
}

// shard is a table that can be replaced by a larger or smaller one.
type shard struct {
	changing sync.Mutex
	table    atomic.Pointer[table] // nil: no records
	_        [64 - 16]byte         // a shard that is written to does not take its neighbours out of caches
}

// add puts a fact in force unless it is already. fits is asked for room for one more record, and told with -n
// that n are gone.
func (s *shard) add(seed maphash.Seed, f *fact, fits func(n int) bool) (added bool, err error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	hash := maphash.String(seed, f.id)
	t := s.table.Load()
	if t == nil {
		t = newTable(0)
	}
	within, covered, variants := t.find(hash, f)
	if covered {
		return false, nil
	}
	if len(within) == 0 && (variants >= maxVariants || !fits(1)) {
		return false, ErrFull
	}
	if t.crowded(len(within) == 0) {
		t = t.rebuilt(seed)
		within, _, _ = t.find(hash, f)
	}
	slot := t.hold(hash, f.size(), func(b []byte) { f.append(b[:0]) })
	if slot == 0 {
		if len(within) == 0 {
			fits(-1)
		}
		return false, ErrFull
	}
	t.soonest = min(t.soonest, f.expires)
	if len(within) == 0 {
		t.live++
		t.taken++
		t.slots[t.free(hash)].Store(slot)
	} else {
		t.replace(within, slot)
		fits(1 - len(within))
	}
	s.table.Store(t)
	return true, nil
}

// expire removes what has ended, and tells how many that were before anybody else adds.
func (s *shard) expire(seed maphash.Seed, now int64, tell func(gone int)) {
	s.changing.Lock()
	defer s.changing.Unlock()
	t := s.table.Load()
	if t == nil || now < t.soonest {
		return
	}
	gone := 0
	t.soonest = everything
	t.records(func(i int, r record) bool {
		if ends := r.expires(); ends > now {
			t.soonest = min(t.soonest, ends)
			return true
		}
		t.slots[i].Store(removed)
		t.wasted += r.size()
		t.live--
		gone++
		return true
	})
	switch {
	case t.live == 0:
		s.table.Store(nil)
	case t.taken > 2*t.live:
		s.table.Store(t.rebuilt(seed))
	}
	tell(gone)
}

// rebuilt copies the records into a table that suits their number, with room to grow.
func (t *table) rebuilt(seed maphash.Seed) *table {
	fresh := newTable(t.live + 1)
	fresh.live, fresh.taken, fresh.soonest = t.live, t.live, t.soonest
	t.records(func(_ int, r record) bool {
		hash := maphash.Bytes(seed, r.id())
		slot := fresh.hold(hash, r.size(), func(b []byte) { copy(b, r) })
		if slot == 0 {
			panic("BUG: the records of a table do not fit into another")
		}
		fresh.slots[fresh.free(hash)].Store(slot)
		return true
	})
	return fresh
}
