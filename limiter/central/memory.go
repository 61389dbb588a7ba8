package central

import (
	"encoding/binary"
	"sync/atomic"
	"time"
)

const (
	// remembered is how many refusals are kept at once: 1 MiB of them.
	remembered = 1 << 14
	ways       = 4
	// longestMemory is how long a refusal is remembered at most: another gateway may give back what it took, or
	// reset the bucket, and is not heard of here.
	longestMemory = time.Second
)

// memory knows which buckets were found exhausted, so that Redis is not asked about them again and again. It is a
// fixed table of sets; a refusal goes where it finds an outdated one, or else takes the place of the one that is outdated
// first. Reading takes no lock: a slot's version is odd while it is written, and another afterwards.
type memory struct{ slots []refusal }

type refusal struct {
	version atomic.Uint64
	first   atomic.Uint64 // of the bucket's name, with the policy's id
	second  atomic.Uint64
	until   atomic.Int64 // by the caller's clock, in nanoseconds
	offset  atomic.Int64 // microseconds that Redis' clock is ahead of the caller's
	a, b, c atomic.Int64 // the state
}

func newMemory() *memory { return &memory{slots: make([]refusal, remembered)} }

// set is where a bucket's refusal may be, under any policy.
func (m *memory) set(b Bucket) []refusal {
	i := binary.LittleEndian.Uint64(b[:]) % (remembered / ways) * ways
	return m.slots[i : i+ways]
}

func names(p *policy, b Bucket) (first, second uint64) {
	return binary.LittleEndian.Uint64(b[:]) ^ p.id, binary.LittleEndian.Uint64(b[8:])
}

// recall fills in the verdict of a bucket that is known to be exhausted at now.
func (m *memory) recall(now time.Duration, v *Verdict) bool {
	first, second := names(v.policy, v.bucket)
	set := m.set(v.bucket)
	for i := range set {
		r := &set[i]
		version := r.version.Load()
		if version&1 != 0 || r.first.Load() != first || r.second.Load() != second || r.until.Load() <= int64(now) {
			continue
		}
		at, s := r.offset.Load()+int64(now/time.Microsecond), state{r.a.Load(), r.b.Load(), r.c.Load()}
		if r.version.Load() == version {
			v.now, v.state, v.Refused, v.known = at, s, true, true
			return true
		}
	}
	return false
}

// remember keeps a refusal by Redis of a question that was asked at now. It may be forgotten at any time.
func (m *memory) remember(now time.Duration, v *Verdict) {
	first, second := names(v.policy, v.bucket)
	set := m.set(v.bucket)
	best := &set[0]
	for i := range set {
		r := &set[i]
		if r.first.Load() == first && r.second.Load() == second {
			best = r
			break
		}
		if r.until.Load() < best.until.Load() {
			best = r
		}
	}
	version := best.version.Load()
	if version&1 != 0 || !best.version.CompareAndSwap(version, version+1) {
		return
	}
	best.first.Store(first)
	best.second.Store(second)
	best.until.Store(int64(now + min(v.RetryAfter(), longestMemory)))
	best.offset.Store(v.now - int64(now/time.Microsecond))
	best.a.Store(v.state.a)
	best.b.Store(v.state.b)
	best.c.Store(v.state.c)
	best.version.Store(version + 2)
}

// forget drops what is known of a bucket, under all policies.
func (m *memory) forget(b Bucket) {
	second := binary.LittleEndian.Uint64(b[8:])
	set := m.set(b)
	for i := range set {
		if r := &set[i]; r.second.Load() == second {
			r.until.Store(0)
		}
	}
}
