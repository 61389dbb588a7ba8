package revocation

import (
	"fmt"
	"hash/maphash"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

const (
	// DefaultMaxEntries is how many entries a List holds unless told otherwise: about 400 MB of them, if
	// their names are as long as a UUID.
	DefaultMaxEntries = 4 << 20

	shardBits = 5 // of each kind; a shard of a list of millions is rebuilt in milliseconds
	shards    = 1 << shardBits

	slack = 24 * time.Hour // what clocks may differ when an entry from elsewhere is judged
)

// Config says what a List may hold.
type Config struct {
	MaxEntries int // 0: DefaultMaxEntries
}

// List is the entries that are in force. It is safe for concurrent use; Revoked waits for nobody.
//
// Of two entries that differ in their times only, the wider one replaces the other: that which reaches
// back from later (a zero Before from the latest), and ends later. If each is wider in one respect,
// both stay, so a List answers exactly as a look at all entries that were ever added would.
//
// An entry takes about 70 bytes and its names (1M entries with names of 36 bytes: 100 MB at most, 85 MB
// measured), and for a moment, when one of 32 parts grows, twice that for the part. How the entries lie is
// seeded at random: nobody outside can choose names that collide.
type List struct {
	seed maphash.Seed
	most int

	held    atomic.Uint32 // bit k: there are entries of Kind k
	count   atomic.Int64
	version atomic.Uint64
	shards  [kinds][shards]shard

	mu      sync.Mutex // taken while a shard is locked, never the reverse
	counts  [kinds]int
	changed chan struct{} // nil: nobody has asked since the last change
}

// New makes an empty List.
func New(c Config) *List {
	if c.MaxEntries <= 0 {
		c.MaxEntries = DefaultMaxEntries
	}
	return &List{seed: maphash.MakeSeed(), most: c.MaxEntries}
}

// Revoked tells whether an entry that has not ended revokes the principal's credential. It allocates
// nothing and takes no lock. While the list is empty it is a single load.
func (l *List) Revoked(p *auth.Principal, now time.Time) bool {
	held := l.held.Load()
	return held != 0 && l.revoked(held, p, now)
}

// revoked begins all searches before it goes on with any: the first slot of each is likely to come from
// memory far away, and so they come at the same time.
func (l *List) revoked(held uint32, p *auth.Principal, now time.Time) bool {
	credential := Token
	if p.Method == "keys" {
		credential = Key
	}
	a, b, c := l.begin(held, credential, p.Credential), l.begin(held, Client, p.Client), l.begin(held, Subject, p.Subject)
	return a.slot != 0 && a.table.revoked(a, p.Credential, p, now) ||
		b.slot != 0 && b.table.revoked(b, p.Client, p, now) ||
		c.slot != 0 && c.table.revoked(c, p.Subject, p, now)
}

// search is where a record of an id is looked for. slot is the first one's value: 0 if there is no such record.
type search struct {
	table *table
	hash  uint64
	slot  uint64
}

func (l *List) begin(held uint32, kind Kind, id string) search {
	if held&(1<<kind) == 0 || id == "" {
		return search{}
	}
	hash := maphash.String(l.seed, id)
	t := l.shard(kind, hash).table.Load()
	if t == nil {
		return search{}
	}
	return search{t, hash, t.slots[hash&uint64(len(t.slots)-1)].Load()}
}

// shard chooses by bits of the hash that neither tell records apart nor, below 2^27 of them, find their slots.
func (l *List) shard(kind Kind, hash uint64) *shard {
	return &l.shards[kind-Token][hash>>(32-shardBits)%shards]
}

// Add puts an entry in force; added is false if the List revokes all of it already, or it has ended. It
// fails with ErrInvalid, or with ErrFull if there is no room, or there are 64 entries already for the same
// kind and id of which none is wider than another. Others learn of it by Version and Changed.
//
// A List that a Store feeds is added to through the Store, which would take for kept what it finds here.
func (l *List) Add(e Entry, now time.Time) (added bool, err error) {
	f, err := e.fact()
	switch {
	case err != nil:
		return false, err
	case f.expires > now.Add(MaxLife+slack).UnixNano():
		return false, fmt.Errorf("%w: it ends in more than %d days", ErrInvalid, int(MaxLife.Hours()/24))
	case f.expires <= now.UnixNano():
		return false, nil
	}
	hash := maphash.String(l.seed, f.id)
	added, err = l.shard(f.kind, hash).add(l.seed, &f, func(n int) bool { return l.reserve(f.kind, n) })
	if added {
		l.version.Add(1)
		l.tell()
	}
	return added, err
}

// reserve counts n more entries of a kind. It returns false, and counts nothing, if there is no room.
func (l *List) reserve(kind Kind, n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n > 0 && int(l.count.Load())+n > l.most {
		return false
	}
	l.count.Add(int64(n))
	l.counts[kind-Token] += n
	var held uint32
	for i, count := range l.counts {
		if count > 0 {
			held |= 1 << (Kind(i) + Token)
		}
	}
	l.held.Store(held)
	return true
}

func (l *List) tell() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// covers tells whether the List revokes all that an entry does, for as long.
func (l *List) covers(e Entry) bool {
	f, err := e.fact()
	if err != nil {
		return false
	}
	hash := maphash.String(l.seed, f.id)
	t := l.shard(f.kind, hash).table.Load()
	if t == nil {
		return false
	}
	_, covered, _ := t.find(hash, &f)
	return covered
}

// Version changes with each addition. What was found not to be revoked at one version still is not at the
// same version.
func (l *List) Version() uint64 { return l.version.Load() }

// Changed returns a channel that is closed at the next addition after the call. Take it before looking:
//
//	for { changed := list.Changed(); look(); <-changed }
func (l *List) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.changed
}

// Len is the number of entries that are not forgotten, ended ones included.
func (l *List) Len() int { return int(l.count.Load()) }

// Entries yields the entries that have not ended, in no order. Those that are added or replaced meanwhile
// may be missing or appear as they were; nobody waits for the caller.
func (l *List) Entries(now time.Time) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for kind := range l.shards {
			for i := range l.shards[kind] {
				if t := l.shards[kind][i].table.Load(); t != nil && !t.yield(now.UnixNano(), yield) {
					return
				}
			}
		}
	}
}

func (t *table) yield(now int64, yield func(Entry) bool) (more bool) {
	more = true
	t.records(func(_ int, r record) bool {
		more = r.expires() <= now || yield(r.fact().entry())
		return more
	})
	return more
}

// Expire forgets what has ended. It reads all entries of a part of the List in which one has; call it every
// minute or so.
func (l *List) Expire(now time.Time) {
	for kind := range l.shards {
		for i := range l.shards[kind] {
			l.shards[kind][i].expire(l.seed, now.UnixNano(), func(gone int) { l.reserve(Token+Kind(kind), -gone) })
		}
	}
}
