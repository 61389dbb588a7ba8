package upstream

import (
	"sync/atomic"
	"time"
)

const (
	// breakerBuckets is how many parts a window has. The newest is never whole, so that it reaches back
	// between 9 and 10 of them.
	breakerBuckets = 10

	// A bucket's words are an epoch, which is the number of the bucket since the clock's start, and a
	// count. 40 bits of epochs are 34 years of the narrowest buckets. A count stops at half of what
	// fits, so that those who add at the same moment cannot run over into the epoch.
	countBits = 24
	countMask = 1<<countBits - 1
	countFull = 1 << (countBits - 1)
)

// breakerWindow counts outcomes over the last while. Its words are read one after the other, so that a
// sum may miss what others are just adding. But all who add look afterwards: who is the last to add sees
// everything. As no outcome is ever in two places, a sum is never more than there was.
type breakerWindow struct {
	width   uint64        // of a bucket, in nanoseconds
	failing atomic.Uint64 // one more than the epoch of the last failure; 0 is none
	settled atomic.Uint64 // one more than an epoch that had enough outcomes, and too few failures
	buckets [breakerBuckets]breakerBucket
}

// breakerBucket is the outcomes of one epoch. All is added to before failed, and read after it.
type breakerBucket struct{ all, failed atomic.Uint64 }

// epoch is the one that now is in.
func (w *breakerWindow) epoch(now time.Duration) uint64 {
	return uint64(now) / w.width // #nosec G115 -- not negative
}

// count adds an outcome and says whether the window may reach what opens a breaker by it. A success raises
// no share; it can only be the one that makes outcomes enough, or the first to see old ones gone.
func (w *breakerWindow) count(epoch uint64, failed bool) bool {
	b := &w.buckets[epoch%breakerBuckets]
	if _, ok := add(&b.all, epoch); ok && failed {
		in, _ := add(&b.failed, epoch)
		w.failedIn(in)
		return true
	}
	// Who adds between a failure and its mark, and so passes by, is seen by who failed: he looks later.
	last := w.failing.Load()
	return last != 0 && last+breakerBuckets > epoch+1 && w.settled.Load() != epoch+1
}

// failedIn marks that an epoch has failures.
func (w *breakerWindow) failedIn(epoch uint64) {
	for {
		last := w.failing.Load()
		if last > epoch || w.failing.CompareAndSwap(last, epoch+1) {
			return
		}
	}
}

// reaches says whether the window has outcomes enough, and failures among them, for a breaker to open.
func (w *breakerWindow) reaches(epoch uint64, c *BreakerConfig) bool {
	var all, failures uint64
	for i := range w.buckets {
		b := &w.buckets[i]
		f, a := b.failed.Load(), b.all.Load()
		if ahead(a, epoch) <= -breakerBuckets {
			continue
		}
		all += a & countMask
		if f>>countBits == a>>countBits {
			failures += min(f&countMask, a&countMask)
		}
	}
	if all < uint64(c.MinRequests) { // #nosec G115 -- positive
		return false
	}
	// A quotient is rounded as the ratio was when it was read: 7 of 100 are 0.07. A product is not.
	if float64(failures)/float64(all) >= c.FailureRatio {
		return true
	}
	if w.settled.Load() != epoch+1 {
		w.settled.Store(epoch + 1)
	}
	return false
}

// add counts one in a word and gives the epoch it was counted in: epoch, or a later one that the word has
// come to by now. If the word is full it counts nothing.
func add(word *atomic.Uint64, epoch uint64) (in uint64, ok bool) {
	for {
		old := word.Load()
		lead := ahead(old, epoch)
		switch {
		case lead < 0:
			if word.CompareAndSwap(old, epoch<<countBits|1) {
				return epoch, true
			}
		case old&countMask >= countFull:
			return 0, false
		default:
			word.Add(1)
			return epoch + uint64(lead), true // #nosec G115 -- not negative
		}
	}
}

// ahead is how many epochs a word is ahead of epoch, negative if it is behind.
func ahead(word, epoch uint64) int64 {
	return int64(word-epoch<<countBits) >> countBits // #nosec G115 -- a difference modulo 2^40
}
