package limiter

import "sync/atomic"

// wide is the slot of a shared bucket. Its word is the bucket as this node sees it: all that was taken here, and
// all that others have told. Beside it stands what the others do not know yet:
//
//   - use counts tokens that were taken here: those that not all live peers have acknowledged (the escrow,
//     U in escrow.admits), and those of them that have not been sent either;
//   - meta is the rest of the key, the node's share of the slack, and how many requests were refused
//     since somebody looked.
//
// A request charges use first and the word then, each by a compare-and-swap, and takes the charge back if the
// word has changed such that it cannot pass any more. So no two requests fill the same gap, on however many
// processors. use carries a mark that changes with every claim of the slot, so that neither an acknowledgement nor a
// charge that comes late goes to the wrong bucket.
type wide struct {
	slot
	use  atomic.Uint64
	meta atomic.Uint64
}

type wideRow [rowSize]wide

// use is listed (2 bits), mark (10), unacknowledged (26, signed), unsent (26, signed). Both counts sink below
// zero when tokens are given back that the peers have been told of: then they think that we took more than we did.
const (
	unsentBits = 26
	ownBits    = 26
	markBits   = 10
	markMask   = 1<<markBits - 1
	mostOwn    = 1<<(ownBits-2) - 1 // tokens that a node keeps unacknowledged on a bucket, at most

	listedCold = uint64(1) << 62 // in the list that is read once in a while
	listedHot  = uint64(1) << 63 // in the list that is read whenever there is something to send
	listed     = listedCold | listedHot
)

func packUse(lists, mark uint64, own, unsent int64) uint64 {
	return lists | mark&markMask<<(ownBits+unsentBits) | uint64(own)&(1<<ownBits-1)<<unsentBits | uint64(unsent)&(1<<unsentBits-1)
}

func markOf(use uint64) uint64  { return use >> (ownBits + unsentBits) & markMask }
func ownOf(use uint64) int64    { return int64(use<<(64-ownBits-unsentBits)) >> (64 - ownBits) }
func unsentOf(use uint64) int64 { return int64(use<<(64-unsentBits)) >> (64 - unsentBits) }

// meta is the key's upper part (24 bits), held (1), share (17), refused (22).
const (
	refusedBits = 22
	refusedMask = 1<<refusedBits - 1
	mostRefused = refusedMask - 1<<16 // as many processors may pass it at once
	shareShift  = refusedBits
	shareBits   = 17
	shareMask   = uint64(1<<shareBits-1) << shareShift
	heldFlag    = uint64(1) << (shareShift + shareBits)
	keyShift    = shareShift + shareBits + 1

	whole = 1 << 16 // a share of one
)

// shareOf is the node's share of a bucket in 1/whole; zero if nothing is known of who else uses it.
func shareOf(meta uint64) int64 { return int64(meta & shareMask >> shareShift) }

// key is the whole key, of which the tag has the lower part.
func keyOf(tag, meta uint64) Key { return Key(meta>>keyShift<<(64-24) | tag&printMask) }

// begin makes the slot that of a new bucket. It is in the hands of a claim.
func (w *wide) begin(k Key, charge uint64) {
	w.meta.Store(uint64(k) >> (64 - 24) << keyShift)
	mark := markOf(w.use.Load()) + 1
	w.use.Store(packUse(charge&listed, mark, ownOf(charge), unsentOf(charge)))
}

// setShare stores what the ledger has found out about a bucket.
func (w *wide) setShare(tag uint64, share int64, held bool) {
	for {
		meta := w.meta.Load()
		next := meta&^(shareMask|heldFlag) | uint64(share)<<shareShift
		if held {
			next |= heldFlag
		}
		if next == meta || w.tag.Load() != tag || w.meta.CompareAndSwap(meta, next) {
			return
		}
	}
}

// refused counts a request that was.
func (w *wide) refused() (first bool) {
	meta := w.meta.Load()
	if meta&refusedMask >= mostRefused {
		return false
	}
	return w.meta.Add(1)&refusedMask == 1
}

// takeRefused is how many there were since it was asked last.
func (w *wide) takeRefused(tag uint64) int64 {
	for {
		meta := w.meta.Load()
		if meta&refusedMask == 0 || w.tag.Load() != tag {
			return 0
		}
		if w.meta.CompareAndSwap(meta, meta&^refusedMask) {
			return int64(meta & refusedMask)
		}
	}
}

// acknowledged takes tokens out of the escrow that all have heard of.
func (w *wide) acknowledged(mark uint64, units int64) {
	for {
		use := w.use.Load()
		if markOf(use) != mark {
			return
		}
		if w.use.CompareAndSwap(use, packUse(use&listed, mark, ownOf(use)-units, unsentOf(use))) {
			return
		}
	}
}

// returned takes back a charge, of a request that did not pass after all or that was given back. If it has been
// sent meanwhile, as much of what comes next is not.
func (w *wide) returned(mark uint64, units int64) {
	for {
		use := w.use.Load()
		if markOf(use) != mark {
			return
		}
		if w.use.CompareAndSwap(use, packUse(use&listed, mark, ownOf(use)-units, unsentOf(use)-units)) {
			return
		}
	}
}

// untold says whether a slot of a place holds tokens that others have not been told of.
func (at *place) untold(i int) bool {
	return at.wide[0] != nil && unsentOf(at.wideSlot(i).use.Load()) != 0
}

func (at *place) wideSlot(i int) *wide { return &at.wide[i/rowSize][i%rowSize] }

// findWide is find among shared buckets. id is the number of the slot in the table.
func (at *place) findWide() (w *wide, tag uint64, id uint32) {
	for i := range slots {
		w := at.wideSlot(i)
		if tag := w.tag.Load(); tag&^versionMask == stateLive|at.name {
			return w, tag, at.id(i)
		}
	}
	return nil, 0, 0
}

func (at *place) id(i int) uint32 { return uint32(at.at[i/rowSize]*rowSize + i%rowSize) }
