package limiter

import (
	"math/bits"
	"sync/atomic"
)

// list is a set of slots, a bit for each, in two layers: who looks for members of a set that is nearly empty reads
// a few lines of memory, not the table. Anybody may add; one at a time looks.
type list struct {
	bits    []atomic.Uint64
	summary []atomic.Uint64 // a bit for each of bits that is not zero
	next    int             // of summary, where the search goes on
}

func newList(slots int) list {
	n := (slots + 63) / 64
	return list{bits: make([]atomic.Uint64, n), summary: make([]atomic.Uint64, (n+63)/64)}
}

func (l *list) add(id uint32) {
	i := id / 64
	if l.bits[i].Or(1<<(id%64)) == 0 {
		l.summary[i/64].Or(1 << (i % 64))
	}
}

// each calls visit for the members, and takes those out that it accepts. It ends when visit says so, to go on there
// the next time, or after so many words of the summary.
func (l *list) each(words int, visit func(id uint32) (more bool)) (done int, all bool) {
	for ; done < words; done++ {
		if l.next >= len(l.summary) {
			l.next = 0
		}
		s := l.summary[l.next].Load()
		for ; s != 0; s &= s - 1 {
			bit := s & -s
			l.summary[l.next].And(^bit)
			i := l.next*64 + bits.TrailingZeros64(bit)
			for w := l.bits[i].Swap(0); w != 0; w &= w - 1 {
				if !visit(uint32(i*64 + bits.TrailingZeros64(w))) {
					l.bits[i].Or(w)
					l.summary[l.next].Or(bit)
					return done, false
				}
			}
		}
		l.next++
	}
	return done, true
}
