package introspection

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

const ways = 8

// table remembers what the authority said. A token's digest chooses two rows of eight places, so that rows
// are seldom full before the table is; in full rows, the entry that ends first makes room. Readers take no
// lock. The places are allocated once.
type table struct {
	rows  []row
	write sync.Mutex
}

// row is some places in a row.
type row struct {
	// tags let readers pass over entries without touching them. They are hints: the whole digest decides.
	tags    [ways]atomic.Uint32
	entries [ways]atomic.Pointer[entry]
}

// entry is an answer; immutable.
type entry struct {
	key       digest
	principal *auth.Principal
	err       error
	until     int64 // nanoseconds of Unix time
}

// newTable makes a table for size entries. It has an eighth more places, and up to eight: in a table without
// room to spare some rows would be full before the others.
func newTable(size int) *table { return &table{rows: make([]row, (size+size/8)/ways+1)} }

// places is the rows of a digest, which may be one and the same, and its tag. All bits of a digest are as
// good as random.
func (t *table) places(key *digest) (first, second *row, tag uint32) {
	n := uint64(len(t.rows))
	one, _ := bits.Mul64(binary.LittleEndian.Uint64(key[:]), n)
	two, _ := bits.Mul64(binary.LittleEndian.Uint64(key[8:]), n)
	return &t.rows[one], &t.rows[two], binary.LittleEndian.Uint32(key[16:]) | 1 // 0: an empty place
}

// find returns the entry of exactly this digest that still holds, or nil.
func (t *table) find(key *digest, now time.Time) *entry {
	if t == nil {
		return nil
	}
	first, second, tag := t.places(key)
	e := first.find(key, tag)
	if e == nil {
		e = second.find(key, tag)
	}
	if e == nil || now.UnixNano() >= e.until {
		return nil
	}
	return e
}

func (r *row) find(key *digest, tag uint32) *entry {
	for i := range r.tags {
		if r.tags[i].Load() == tag {
			if e := r.entries[i].Load(); e != nil && e.key == *key {
				return e
			}
		}
	}
	return nil
}

// put remembers e in the place of the digest's entry before it, an empty one, or that of the entry that ends
// first.
func (t *table) put(e *entry) {
	if t == nil {
		return
	}
	first, second, tag := t.places(&e.key)
	t.write.Lock()
	defer t.write.Unlock()
	r, best := first, first.offer(&e.key)
	if other := second.offer(&e.key); other.worth < best.worth {
		r, best = second, other
	}
	r.entries[best.place].Store(e)
	r.tags[best.place].Store(tag)
}

// offer is a place for an entry, and what is lost by taking it: below zero nothing, else an answer until
// that time.
type offer struct {
	place int
	worth int64
}

// offer is the row's best place for an entry of that digest. Of empty places those in the emptier row are
// better, so that rows fill evenly.
func (r *row) offer(key *digest) offer {
	var ends offer // of the entries, the first
	empty, place := 0, 0
	for i := range r.entries {
		e := r.entries[i].Load()
		switch {
		case e == nil:
			empty, place = empty+1, i
		case e.key == *key:
			return offer{i, -ways - 1}
		case ends.worth == 0 || e.until < ends.worth:
			ends = offer{i, max(e.until, 1)}
		}
	}
	if empty > 0 {
		return offer{place, -int64(empty)}
	}
	return ends
}
