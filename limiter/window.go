package limiter

import (
	"math/bits"
	"time"
)

// The windows of a rule follow each other without a gap from the Unix epoch on, so that a minute's window
// is the minute that the clock on the wall shows. A value holds the number of its window, wrapped to the
// bits that the counts leave, and the counts: fixed, number|used; sliding, number|previous|current.
//
// A request whose now is older than the bucket's window, as happens when requests overtake each other on
// their way here, counts as if it came at that window's start. That holds for all that is less than a
// minute late, and at least for one window; not for more than a quarter of the numbers. A bucket that was
// idle for so long that its number comes round again is taken for a live one, for as long: after 2^38
// windows for a limit below 2^23 that is counted fixed, after 2^21 for one below 2^20 that slides, and after
// no more than 2^13 for one of MaxSliding.
const latest = time.Minute

// number is the number of the window that now lies in, not wrapped.
func (p *policy) number(now int64) uint64 {
	return (uint64(now) + uint64(p.phase)) / uint64(p.window)
}

// elapsed is how far now is into its window.
func (p *policy) elapsed(now int64) int64 {
	return int64((uint64(now) + uint64(p.phase)) % uint64(p.window))
}

// shift is where in a value the window's number begins.
func (p *policy) shift() uint {
	if p.algorithm == SlidingWindow {
		return 2 * p.count
	}
	return p.count
}

// fixed reads a value at now: the window it is to be counted in, what has been used of it, and how long
// the window lasts from now on.
func (p *policy) fixed(value uint64, now int64) (number uint64, used, left int64) {
	number = p.number(now) & p.wrap
	left = p.window - p.elapsed(now)
	used = int64(value & (1<<p.count - 1))
	ahead := (value>>p.count - number) & p.wrap
	if used == 0 || ahead > p.ahead {
		return number, 0, left
	}
	return value >> p.count, used, left + int64(ahead)*p.window
}

// slide is what a sliding window holds at some moment.
type slide struct {
	number            uint64 // wrapped
	previous, current int64  // tokens of the window before, and of this one
	left              int64  // nanoseconds of this one, of which previous still counts in proportion
	late              int64  // nanoseconds from now to this window's start, if now is before it
}

// sliding reads a value at now.
func (p *policy) sliding(value uint64, now int64) slide {
	mask := uint64(1)<<p.count - 1
	previous, current := int64(value>>p.count&mask), int64(value&mask)
	w := slide{number: p.number(now) & p.wrap, left: p.window - p.elapsed(now)}
	number := value >> (2 * p.count)
	switch ahead := (number - w.number) & p.wrap; {
	case previous == 0 && current == 0:
	case ahead == p.wrap: // one behind
		w.previous = current
	case ahead == 0:
		w.previous, w.current = previous, current
	case ahead <= p.ahead:
		w.late, w.left = w.left+int64(ahead-1)*p.window, p.window
		w.number, w.previous, w.current = number, previous, current
	}
	return w
}

func (p *policy) slidingValue(w *slide) uint64 {
	return w.number<<(2*p.count) | uint64(w.previous)<<p.count | uint64(w.current)
}

// carried is what of the previous window still counts, rounded up.
func (w *slide) carried(window int64) uint64 {
	return mulDivUp(uint64(w.previous), uint64(w.left), uint64(window), uint64(w.previous))
}

// fits says whether previous*left/window <= room, without rounding.
func (w *slide) fits(room, window int64) bool {
	if room < 0 {
		return false
	}
	hi, lo := bits.Mul64(uint64(w.previous), uint64(w.left))
	roomHi, roomLo := bits.Mul64(uint64(room), uint64(window))
	return hi < roomHi || hi == roomHi && lo <= roomLo
}

// slideWait is how long it takes from now, or from the window's start if that comes later, until a
// refused cost fits, if nothing else is taken meanwhile.
func (p *policy) slideWait(w *slide, cost int64) int64 {
	if room := p.limit - w.current - cost; room >= 0 {
		return w.left - p.heldFor(room, w.previous)
	}
	return w.left + p.window - p.heldFor(p.limit-cost, w.current)
}

// heldFor is how much of a window may be left at most, that a count of the window before weighs no more
// than room.
func (p *policy) heldFor(room, count int64) int64 {
	if count <= room {
		return p.window
	}
	hi, lo := bits.Mul64(uint64(room), uint64(p.window))
	held, _ := bits.Div64(hi, lo, uint64(count))
	return int64(held)
}

// slideFull is the time from now until nothing of a window counts any more.
func (p *policy) slideFull(w *slide) int64 {
	switch {
	case w.current > 0:
		return w.late + w.left + p.window
	case w.previous > 0:
		return w.late + w.left
	}
	return 0
}

// adoptWindow translates a value from another policy whose windows are as long. The bucket stays in its
// window, even if now has not come to that yet.
func (p *policy) adoptWindow(old *policy, value uint64, now int64) uint64 {
	var w slide
	number := p.number(now) // anew, as old's may have other bits
	if old.algorithm == FixedWindow {
		_, used, left := old.fixed(value, now)
		w = slide{current: used, left: p.window}
		number += uint64((left - 1) / p.window)
	} else {
		w = old.sliding(value, now)
		number += uint64((w.late + p.window - 1) / p.window)
	}
	w.number = number & p.wrap
	if p.algorithm == FixedWindow {
		return w.number<<p.count | uint64(min(w.current+int64(w.carried(p.window)), p.limit))
	}
	w.previous, w.current = min(w.previous, p.limit), min(w.current, p.limit)
	return p.slidingValue(&w)
}

// giveBackSliding takes a cost out of the count that it went into, which may have become the previous.
func (p *policy) giveBackSliding(value, taken uint64, cost int64) (uint64, bool) {
	mask := uint64(1)<<p.count - 1
	number, then := value>>(2*p.count), taken>>(2*p.count)
	switch {
	case number == then:
		return value - min(uint64(cost), value&mask), true
	case number == (then+1)&p.wrap:
		return value - min(uint64(cost), value>>p.count&mask)<<p.count, true
	}
	return value, false
}
