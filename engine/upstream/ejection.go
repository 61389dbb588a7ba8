package upstream

import (
	"sync/atomic"
	"time"
)

const (
	// ejectAfter is how many failures in a row, without a success between them, take a target out. What counts are
	// connect errors, resets, timeouts, bodies cut short, and answers of 500 or more, as with Envoy's consecutive_5xx:
	// a breaker whose window is full of good answers needs as many bad ones, and seconds, to open. A target that
	// has returned is on probation: until its first success a single failure takes it out again.
	ejectAfter = 5
	// ejectFirst is how long it is out the first time: about what a restart takes. It doubles with each ejection
	// in a row, up to ejectMost, by which a target that is gone for good costs a handful of tries every 30 s.
	ejectFirst = time.Second
	ejectMost  = 30 * time.Second
)

// ejector decides by a target's exchanges when it leaves the choice for a while. It has no clock and no timer:
// who wants to know asks. Times are readings of one monotonic clock since any fixed moment, not negative.
//
// An ejection lasts from the failed that says so to the recovered that says so. In between reports are late
// ones and change nothing. The zero value is ready; it is safe for concurrent use, takes no lock and allocates
// nothing.
type ejector struct{ word atomic.Uint64 } // a packed standing, so that each change is a single step

// standing is what an ejector knows of its target.
type standing struct {
	at       time.Duration // out: until when; else since when it has been back, 0 never out or spared. Microseconds
	out      bool
	row      uint8 // ejections without a success after the recovery, up to rowMost
	failures uint8 // in a row, below ejectAfter
}

// The layout of a word: 48 bits of microseconds (nine years), one for out, 7 and 8 for the counts.
const (
	standingTime = 16
	standingOut  = 1 << 15
	standingRow  = 8
)

// Ejections in a row make no difference from rowLongest on. They are counted further, so that spare can take
// one back.
const (
	rowLongest = 5
	rowMost    = 100
)

func (r standing) pack() uint64 {
	us := min(uint64(max(r.at, 0)/time.Microsecond), 1<<(64-standingTime)-1) // #nosec G115 -- not negative
	w := us<<standingTime | uint64(r.row)<<standingRow | uint64(r.failures)
	if r.out {
		w |= standingOut
	}
	return w
}

func unpackStanding(w uint64) standing {
	return standing{
		at:       time.Duration(w>>standingTime) * time.Microsecond, // #nosec G115 -- 48 bits
		out:      w&standingOut != 0,
		row:      uint8(w >> standingRow & 0x7f), // #nosec G115 -- 7 bits
		failures: uint8(w & 0xff),                // #nosec G115 -- 8 bits
	}
}

// onProbation says whether it has returned and has not succeeded since.
func (r standing) onProbation() bool { return r.row > 0 && r.at > 0 }

// failedSince notes at now that an exchange failed. If it is the last failure that was missing, the target is to
// be out for so long, and until is set; of several callers exactly one is told. If it does not take the target
// out after all, it calls spare. An exchange that began before the last recovery is ignored: of the requests that
// hung with a target, some run out of time long after it is back.
func (e *ejector) failedSince(began, now time.Duration) (eject bool, forTime time.Duration) {
	for {
		w := e.word.Load()
		r := unpackStanding(w)
		if r.out || began < r.at {
			return false, 0
		}
		r.failures++
		eject, forTime = r.failures >= ejectAfter || r.onProbation(), 0
		if eject {
			forTime = ejectionTime(r.row)
			// Rounded up, so that until is never before the time told.
			r = standing{at: now + forTime + time.Microsecond - 1, out: true, row: min(r.row+1, rowMost)}
		}
		if e.word.CompareAndSwap(w, r.pack()) {
			return eject, forTime
		}
	}
}

// succeededSince notes that the target answered well: failures are counted anew, and the next ejection is a short
// one. An exchange that began before the last recovery is ignored here too: it says nothing of how the target is now.
func (e *ejector) succeededSince(began time.Duration) {
	for {
		w := e.word.Load()
		r := unpackStanding(w)
		if r.out || r.row == 0 && r.failures == 0 || began < r.at {
			return
		}
		if e.word.CompareAndSwap(w, standing{at: r.at}.pack()) {
			return
		}
	}
}

// until is when the target may come back; 0: it is not out.
func (e *ejector) until() time.Duration {
	if r := unpackStanding(e.word.Load()); r.out {
		return r.at
	}
	return 0
}

// recovered ends an ejection whose time is over at now, and tells exactly one caller so.
func (e *ejector) recovered(now time.Duration) bool {
	w := e.word.Load()
	r := unpackStanding(w)
	if !r.out || now < r.at {
		return false
	}
	return e.word.CompareAndSwap(w, standing{at: now, row: r.row}.pack())
}

// spare takes back the ejection that failedSince has just called for, because too few targets would stay. It ends a
// probation: another ejectAfter failures call for it again, so that who fails with all others asks in vain seldom.
func (e *ejector) spare() {
	for {
		w := e.word.Load()
		r := unpackStanding(w)
		if !r.out || e.word.CompareAndSwap(w, standing{row: r.row - 1}.pack()) {
			return
		}
	}
}

// ejectionTime is how long the next ejection lasts after so many in a row.
func ejectionTime(row uint8) time.Duration {
	return min(ejectFirst<<min(row, rowLongest), ejectMost)
}

// mayEject says whether one of the ready targets may be taken out on the suspicion of its exchanges alone. At
// least half of all targets must stay, and so at least one: what looks like many sick targets is often our
// own network, and the rest must carry the load. all counts the targets that have a weight, well those of
// them that may take requests, the one in question included.
//
// Who ejects several targets at the same time must count and eject in one step.
func mayEject(well, all int) bool {
	return 2*(well-1) >= all
}
