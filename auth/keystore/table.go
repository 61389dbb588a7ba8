package keystore

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/sluice-gateway/sluice/auth"
)

const (
	window = 16 // how far from its place an entry may be
	spare  = 4  // slots for each entry: of a million entries, some forty find their window full
)

// maxSteps bounds the search for an entry to give up.
const maxSteps = 256

// table is a bounded map of digests to entries: find takes no lock, and whoever writes has the store's.
// When it is full, an entry goes that has not been used for a while.
type table struct {
	slots []atomic.Pointer[entry]
	mask  uint64
	limit int
	count int
	hand  uint64 // of the clock that picks what goes
}

// newTable makes a table for at most limit entries, all of its memory at once.
func newTable(limit int) *table {
	size := uint64(window)
	for size < spare*uint64(limit) {
		size *= 2
	}
	return &table{slots: make([]atomic.Pointer[entry], size), mask: size - 1, limit: limit}
}

// place needs no hash function: a digest is one, and clients cannot choose theirs.
func place(d auth.Digest) uint64 { return binary.LittleEndian.Uint64(d[:]) }

// find gives the entry of a digest, or nil. It looks over the whole window, as removals leave holes.
func (t *table) find(d auth.Digest) *entry {
	at := place(d)
	for i := range uint64(window) {
		e := t.slots[(at+i)&t.mask].Load()
		if e != nil && e.digest.Equal(d) {
			if !e.used.Load() { // written once, so that readers share the line
				e.used.Store(true)
			}
			return e
		}
	}
	return nil
}

// put adds an entry, in the place of an older one of its digest.
func (t *table) put(e *entry) {
	t.remove(e.digest)
	if t.count >= t.limit {
		t.evict()
	}
	at := place(e.digest)
	for i := range uint64(window) {
		if slot := &t.slots[(at+i)&t.mask]; slot.Load() == nil {
			slot.Store(e)
			t.count++
			return
		}
	}
	t.oldest(at).Store(e)
}

// oldest gives the slot of a full window whose entry was read first.
func (t *table) oldest(at uint64) *atomic.Pointer[entry] {
	oldest := &t.slots[at&t.mask]
	for i := range uint64(window) {
		if slot := &t.slots[(at+i)&t.mask]; slot.Load().read < oldest.Load().read {
			oldest = slot
		}
	}
	return oldest
}

// evict takes away the next entry that was not used since the hand was there, or after many steps any.
func (t *table) evict() {
	for steps := 0; ; steps++ {
		slot := &t.slots[t.hand&t.mask]
		t.hand++
		e := slot.Load()
		if e == nil {
			continue
		}
		if steps >= maxSteps || !e.used.Load() {
			slot.Store(nil)
			t.count--
			return
		}
		e.used.Store(false)
	}
}

func (t *table) remove(d auth.Digest) {
	at := place(d)
	for i := range uint64(window) {
		slot := &t.slots[(at+i)&t.mask]
		if e := slot.Load(); e != nil && e.digest == d {
			slot.Store(nil)
			t.count--
			return
		}
	}
}

// index is a map of digests to entries that does not change. It forgets none.
type index struct {
	slots []*entry
	mask  uint64
	count int
}

func newIndex(records []auth.KeyRecord) *index {
	size := 1
	for size < 2*len(records)+1 {
		size *= 2
	}
	x := &index{slots: make([]*entry, size), mask: uint64(size - 1), count: len(records)}
	for i := range records {
		at := place(records[i].Digest)
		for x.slots[at&x.mask] != nil {
			at++
		}
		x.slots[at&x.mask] = newEntry(&records[i])
	}
	return x
}

// find gives the entry of a digest, or nil. At least half of the slots are empty, so that one ends the search.
func (x *index) find(d auth.Digest) *entry {
	for at := place(d); ; at++ {
		e := x.slots[at&x.mask]
		if e == nil || e.digest.Equal(d) {
			return e
		}
	}
}
