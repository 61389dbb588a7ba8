package telemetry

import (
	"bytes"
	"math/bits"
	"runtime"
	"sync"
)

const (
	chunkSize  = 64 << 10
	mostChunks = 64 // 4 MiB in all
	// warmChunks is how many free chunks are used before all others: as few as these stay in the processor's cache.
	warmChunks = 4
	// rounds is how often a line is offered to all shelves: each is busy for the time that it takes to copy a line,
	// unless the kernel has put aside who is at it. Then the line is spilled.
	rounds    = 16
	mostSpilt = 256 // lines
)

// ring keeps lines until they are written. There is a shelf for every processor; a line goes to the first that
// nobody is at just now, so that nobody waits for anybody.
type ring struct {
	shelves []shelf
	mask    uint32
	warm    chan []byte   // free chunks
	free    chan []byte   // the others, with room for all; nil stands for one that was never used
	full    chan []byte   // with room for all chunks
	wake    chan struct{} // a chunk was begun, or a line spilled
	spill   chan []byte   // lines for which no shelf was free
}

// shelf is where lines are put. Its chunk is nil when there is none.
type shelf struct {
	busy  sync.Mutex // only ever tried by those who put lines
	chunk []byte
	_     [64]byte
}

func (r *ring) init(processors int) {
	n := 1 << bits.Len(uint(min(max(processors, 1), mostStripes)-1))
	r.shelves, r.mask = make([]shelf, n), uint32(n-1) // #nosec G115 -- at most mostStripes
	r.free, r.full, r.wake = make(chan []byte, mostChunks), make(chan []byte, mostChunks), make(chan struct{}, 1)
	r.warm, r.spill = make(chan []byte, warmChunks), make(chan []byte, mostSpilt)
	for range mostChunks {
		r.free <- nil
	}
}

// put keeps a line. It fails if there is no room.
func (r *ring) put(stripe uint32, line []byte) bool {
	if len(line) > chunkSize {
		return false
	}
	for range rounds {
		for i := range uint32(len(r.shelves)) { // #nosec G115 -- at most mostStripes
			if s := &r.shelves[(stripe+i)&r.mask]; s.busy.TryLock() {
				kept, begun := r.keep(s, line)
				s.busy.Unlock()
				if begun {
					notify(r.wake)
				}
				return kept
			}
		}
		runtime.Gosched()
	}
	select {
	case r.spill <- bytes.Clone(line):
		notify(r.wake)
		return true
	default:
		return false
	}
}

// keep puts a line on a shelf that is the caller's.
func (r *ring) keep(s *shelf, line []byte) (kept, begun bool) {
	if len(s.chunk)+len(line) > chunkSize {
		r.full <- s.chunk
		s.chunk = nil
	}
	if s.chunk == nil {
		if s.chunk = r.blank(); s.chunk == nil {
			return false, false
		}
		begun = true
	}
	s.chunk = append(s.chunk, line...)
	return true, begun
}

// blank is a chunk to write to; nil: all are in use.
func (r *ring) blank() []byte {
	select {
	case chunk := <-r.warm:
		return chunk
	default:
	}
	select {
	case chunk := <-r.free:
		if chunk == nil {
			chunk = make([]byte, 0, chunkSize)
		}
		return chunk
	default:
		return nil
	}
}

// collect makes chunks full that are not.
func (r *ring) collect() {
	for i := range r.shelves {
		s := &r.shelves[i]
		s.busy.Lock()
		if len(s.chunk) > 0 {
			r.full <- s.chunk
			s.chunk = nil
		}
		s.busy.Unlock()
	}
}

// release gives back a chunk.
func (r *ring) release(chunk []byte) {
	select {
	case r.warm <- chunk[:0]:
	default:
		r.free <- chunk[:0]
	}
}

// relaxed says whether there is room again for a while.
func (r *ring) relaxed() bool { return len(r.warm)+len(r.free) >= mostChunks/2 }
