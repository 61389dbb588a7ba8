package gossip

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// The window agrees with a set of all numbers that came.
func TestWindowIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w window
		begin := uint64(rapid.IntRange(0, 5000).Draw(t, "begin"))
		w.start(begin)
		came, top, given := map[uint64]bool{}, begin, begin
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			n := uint64(max(1, int(top)+rapid.SampledFrom([]int{-3000, -2048, -2047, -100, -2, -1, 0, 1, 1, 1, 2, 3, 70, 2047, 2048, 5000}).Draw(t, "step")))
			if rapid.IntRange(0, 20).Draw(t, "skip") == 0 {
				w.skip(n)
				given, top = max(given, n), max(top, n)
				continue
			}
			want := !came[n] && n > given && n+windowSize > top
			if got := w.fresh(n); got != want && (n > w.base || want) {
				t.Fatalf("fresh(%d) is %v, top %d", n, got, top)
			}
			if w.fresh(n) {
				w.mark(n)
				came[n], top = true, max(top, n)
			}
			for i := given + 1; i <= w.base; i++ {
				if !came[i] && i+windowSize > top {
					t.Fatalf("base %d has passed %d, top %d", w.base, i, top)
				}
			}
			if w.base < top && came[w.base+1] {
				t.Fatalf("base %d has not moved on", w.base)
			}
		}
	})
}

func TestHolesNameWhatCame(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		var w window
		came := map[uint64]bool{}
		for range r.IntN(500) {
			if n := 1 + r.Uint64N(800); w.fresh(n) {
				w.mark(n)
				came[n] = true
			}
		}
		bits := w.appendHoles(nil)
		for i := range uint64(8 * len(bits)) {
			if bits[i/8]&(1<<(i%8)) != 0 != came[w.base+2+i] {
				t.Fatalf("frame %d: base %d, bitmap %x", w.base+2+i, w.base, bits)
			}
		}
		if end := w.base + 1 + uint64(8*len(bits)); end < w.top {
			t.Fatalf("the bitmap ends at %d of %d", end, w.top)
		}
	}
}
