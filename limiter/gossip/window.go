package gossip

import "math/bits"

// windowSize is how many numbers below the highest are told apart; what comes later than that is dropped.
const windowSize = 2048

// window remembers which numbers of a sequence have come. Its zero value has seen none; numbers begin at 1.
type window struct {
	top  uint64                  // the highest that came
	base uint64                  // all up to it have come, or were given up
	seen [windowSize / 64]uint64 // bit n%windowSize: n came; of those in (top-windowSize, top]
}

// start forgets everything, and takes all up to n as seen.
func (w *window) start(n uint64) { *w = window{top: n, base: n} }

// fresh says whether n has not come yet, as far as is known.
func (w *window) fresh(n uint64) bool {
	switch {
	case n <= w.base:
		return false
	case n > w.top:
		return true
	case w.top-n >= windowSize:
		return false
	}
	return w.seen[n/64%uint64(len(w.seen))]&(1<<(n%64)) == 0
}

// mark notes that n came, which is fresh, and returns whether numbers before it were given up for that.
func (w *window) mark(n uint64) (missing bool) {
	if n > w.top {
		w.clear(n)
	}
	w.seen[n/64%uint64(len(w.seen))] |= 1 << (n % 64)
	if w.top-w.base > windowSize {
		w.base, missing = w.top-windowSize, true
	}
	w.advance()
	return missing
}

// clear makes n the highest, and the numbers between unseen.
func (w *window) clear(n uint64) {
	if n-w.top >= windowSize {
		clear(w.seen[:])
	} else {
		for i := w.top + 1; i <= n; i++ {
			w.seen[i/64%uint64(len(w.seen))] &^= 1 << (i % 64)
		}
	}
	w.top = n
}

// skip gives up what is missing up to n, and returns whether anything was.
func (w *window) skip(n uint64) (missing bool) {
	if n <= w.base {
		return false
	}
	if n > w.top {
		w.clear(n)
	}
	w.base = n
	w.advance()
	return true
}

// advance moves the base over what has come.
func (w *window) advance() {
	for w.base < w.top && w.has(w.base+1) {
		w.base++
	}
}

func (w *window) has(n uint64) bool { return w.seen[n/64%uint64(len(w.seen))]&(1<<(n%64)) != 0 }

// appendHoles appends the bitmap of an acknowledgement: which came of those from base+2 on.
func (w *window) appendHoles(b []byte) []byte {
	if w.top < w.base+2 {
		return b
	}
	n := min(w.top-w.base-1, maxHoles*8)
	begin := len(b)
	for range (n + 7) / 8 {
		b = append(b, 0)
	}
	for i := range n {
		if w.has(w.base + 2 + i) {
			b[begin+int(i/8)] |= 1 << (i % 8)
		}
	}
	for len(b) > begin && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}

// members is a set of indices of members.
type members [(MaxMembers + 63) / 64]uint64

func (s *members) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s *members) remove(i int)   { s[i/64] &^= 1 << (i % 64) }
func (s *members) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

// covers says whether s has all of t.
func (s *members) covers(t *members) bool {
	for i := range s {
		if t[i]&^s[i] != 0 {
			return false
		}
	}
	return true
}

func (s *members) len() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}
