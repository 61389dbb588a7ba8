package auth

import (
	"context"
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

const (
	ways       = 8
	maxEntries = 1 << 24
)

// cache remembers tokens that were verified. A token may stand in either of two sets of eight places,
// chosen by a seeded hash; readers take no lock and write at most one bit. In full sets, whatever was not
// asked for since the last search makes room.
//
// The table is allocated once: 13 bytes for every place. An entry holds the token, at most 8 KiB, and its
// principal, which holds of the claims what was asked for: names of at most 256 bytes, and at most 512
// scopes, twice.
type cache struct {
	seed  maphash.Seed
	sets  []set
	ways  int
	write sync.Mutex
}

// set is some places in a row.
type set struct {
	// tags lets readers pass over entries without touching them. It is a hint: the whole token decides.
	tags    [ways]atomic.Uint32
	entries [ways]atomic.Pointer[entry]
	used    atomic.Uint32 // a bit for each place: read since the hand passed
	hand    uint32        // guarded by cache.write
}

// entry is one verified token; immutable.
type entry struct {
	token string
	proof proof // not a pointer: a read less of memory that is not at hand
}

// newCache makes a cache for at most size tokens; nil, which remembers nothing, for none.
func newCache(size int) *cache {
	if size <= 0 {
		return nil
	}
	c := &cache{seed: maphash.MakeSeed(), ways: min(size, ways)}
	c.sets = make([]set, size/c.ways)
	return c
}

func (c *cache) hash(token []byte) uint64 {
	if c == nil {
		return 0
	}
	return maphash.Bytes(c.seed, token)
}

// places is where a token with that hash may stand, and its tag. The sets may be one and the same.
func (c *cache) places(hash uint64) (first, second *set, tag uint32) {
	n := uint64(len(c.sets))
	high, _ := bits.Mul64(hash, n)
	// The second must not follow from the first, or the sets would fill in pairs.
	other, _ := bits.Mul64(bits.ReverseBytes64(hash)*0x9e3779b97f4a7c15, n)
	return &c.sets[high], &c.sets[other], uint32(hash) | 1 // 0: an empty place
}

// find returns the entry of exactly this token, or nil.
func (c *cache) find(hash uint64, token []byte) *entry {
	if c == nil {
		return nil
	}
	first, second, tag := c.places(hash)
	if e := first.find(c.ways, tag, token); e != nil {
		return e
	}
	return second.find(c.ways, tag, token)
}

func (s *set) find(ways int, tag uint32, token []byte) *entry {
	for i := range ways {
		if s.tags[i].Load() != tag {
			continue
		}
		if e := s.entries[i].Load(); e != nil && e.token == string(token) {
			if bit := uint32(1) << i; s.used.Load()&bit == 0 {
				s.used.Or(bit)
			}
			return e
		}
	}
	return nil
}

// put remembers e, in the place of what is worth least: an older proof of the same token, nothing, what
// can never be used again, or what was not used lately.
func (c *cache) put(hash uint64, e *entry, now time.Time) {
	if c == nil {
		return
	}
	first, second, tag := c.places(hash)
	c.write.Lock()
	defer c.write.Unlock()
	for _, s := range [...]*set{first, second} {
		if i := s.index(c.ways, e.token); i >= 0 {
			s.replace(i, tag, e)
			return
		}
	}
	s := first
	free, place := first.free(c.ways, e.proof.generation, now)
	if otherFree, otherPlace := second.free(c.ways, e.proof.generation, now); otherFree > free {
		s, free, place = second, otherFree, otherPlace
	}
	if free == 0 {
		place = first.victim(c.ways) // every set is the first of as many tokens
	}
	s.replace(place, tag, e)
}

// drop forgets e.
func (c *cache) drop(hash uint64, e *entry) {
	first, second, _ := c.places(hash)
	c.write.Lock()
	defer c.write.Unlock()
	for _, s := range [...]*set{first, second} {
		for i := range c.ways {
			if s.entries[i].Load() == e {
				s.replace(i, 0, nil)
			}
		}
	}
}

func (s *set) replace(i int, tag uint32, e *entry) {
	s.entries[i].Store(e)
	s.tags[i].Store(tag)
	s.used.And(^(uint32(1) << i))
}

// index is where the token stands, or -1.
func (s *set) index(ways int, token string) int {
	for i := range ways {
		if e := s.entries[i].Load(); e != nil && e.token == token {
			return i
		}
	}
	return -1
}

// free counts the places that hold nothing of use, and names the first.
func (s *set) free(ways int, generation uint64, now time.Time) (count, place int) {
	for i := range ways {
		e := s.entries[i].Load()
		if e == nil || e.proof.generation != generation || e.proof.over(now) {
			if count++; count == 1 {
				place = i
			}
		}
	}
	return count, place
}

// victim goes on from where it last stopped, to the first place that was not read since it last passed.
// Readers may set the bits as fast as it clears them: after two rounds any place will do.
func (s *set) victim(ways int) (place int) {
	for range 2 * ways {
		place = int(s.hand) % ways
		s.hand++
		if bit := uint32(1) << place; s.used.And(^bit)&bit == 0 {
			break
		}
	}
	return place
}

// flight is one verification of one signature, shared by all who wait for it.
type flight struct {
	done chan struct{}
	// Set before done is closed:
	proof *proof
	err   error
	left  bool // the one who led it went away: nothing is known
}

// proven verifies the signature of a, or waits for another call to verify the same.
func (i *Issuer) proven(ctx context.Context, a attempt) (*Principal, error) {
	for {
		i.mu.Lock()
		f, found := i.flights[string(a.token)]
		if !found {
			// A flight may have ended since the first look.
			if e := i.cache.find(a.hash, a.token); e != nil && e.proof.generation == i.generation() && i.current(e.proof.alg, a.now) {
				i.mu.Unlock()
				return e.proof.principal, nil
			}
			f = &flight{done: make(chan struct{}), left: true}
			text := string(a.token)
			i.flights[text] = f
			i.mu.Unlock()
			return i.lead(ctx, a, text, f)
		}
		i.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, unavailable(ctx)
		}
		switch {
		case f.left:
		case f.err != nil:
			return nil, f.err
		case f.proof.generation == i.generation():
			return f.proof.principal, nil
		}
	}
}

// lead verifies the signature for all who wait for f.
func (i *Issuer) lead(ctx context.Context, a attempt, text string, f *flight) (*Principal, error) {
	defer func() { // whatever happens, or the others would wait for ever
		i.mu.Lock()
		delete(i.flights, text)
		i.mu.Unlock()
		close(f.done)
	}()
	generation, err := i.verify(ctx, a)
	if err != nil {
		f.err, f.left = err, ctx.Err() != nil
		return nil, err
	}
	a.proof.generation = generation
	i.verified.Add(1)
	e := &entry{token: text, proof: *a.proof}
	i.cache.put(a.hash, e, a.now)
	f.proof, f.left = &e.proof, false
	return e.proof.principal, nil
}
