package upstream

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// owners are the seats that keys 0 to n-1 go to, by their ids.
func (tb *table) owners(now time.Duration, n int) []uint64 {
	owners := make([]uint64, n)
	for key := range owners {
		owners[key] = tb.seats[tb.pick(now, uint64(key), tb.random.next(), -1)].id
	}
	return owners
}

func TestTableSharesByWeight(t *testing.T) {
	for _, weights := range [][]int64{{1}, {1, 1}, {1, 2, 3, 10}, {1000, 1}, {3, 0, 7, 7, 999}, slices.Repeat([]int64{1}, 256)} {
		tb := tableOf(t, Hash, weights...)
		counts, total := make([]float64, len(weights)), 0.0
		for _, i := range newTable(tb.seats) {
			counts[i]++
		}
		for _, w := range weights {
			total += float64(w)
		}
		for i, w := range weights {
			if want := float64(w) / total * slots; math.Abs(counts[i]-want) > 2 {
				t.Errorf("weight %d of %v has %v slots, not %.1f", w, total, counts[i], want)
			}
		}
	}
}

// TestKeysKeepTheirSeat: whatever the random numbers and the order of the configuration.
func TestKeysKeepTheirSeat(t *testing.T) {
	tb := tableOf(t, Hash, 1, 2, 3, 4, 5)
	before := tb.owners(0, 5000)
	slices.Reverse(tb.seats)
	tb.balancer, _ = newBalancer(Hash, tb.seats, &tb.inFlight)
	if !slices.Equal(before, tb.owners(0, 5000)) {
		t.Error("keys moved when only the order of the targets changed")
	}
}

// TestOutMovesOnlyItsKeys: the keys of a seat that is out are spread over the others by weight, no other key
// moves, and all are back when the seat is.
func TestOutMovesOnlyItsKeys(t *testing.T) {
	weights := []int64{4, 1, 2, 3, 4, 5, 6, 7}
	tb := tableOf(t, Hash, weights...)
	before := tb.owners(time.Hour, 40000)
	tb.seats[0].leave()
	moved := make([]int, len(weights))
	for key, id := range tb.owners(time.Hour, len(before)) {
		if id == before[key] {
			continue
		}
		if before[key] != tb.seats[0].id {
			t.Fatalf("key %d moved, though its seat is ready", key)
		}
		moved[slices.IndexFunc(tb.seats, func(s *seat) bool { return s.id == id })]++
	}
	wantShares(t, "keys of the seat that is out", moved, 0, 1, 2, 3, 4, 5, 6, 7)
	tb.seats[0].comeBack(time.Hour)
	back := tb.owners(time.Hour, len(before))
	for at := time.Hour; at <= time.Hour+warmUp; at += warmUp / 8 {
		now := tb.owners(at, len(before))
		for key := range now {
			if back[key] == before[key] && now[key] != before[key] {
				t.Fatalf("key %d left its seat again during the slow start", key)
			}
		}
		back = now
	}
	if !slices.Equal(before, back) {
		t.Error("keys did not come back to their seat")
	}
}

// TestRemovalMovesFewKeys: taking one of n targets out of the configuration moves its keys, 1/n of all, and few others.
func TestRemovalMovesFewKeys(t *testing.T) {
	for _, n := range []int{2, 5, 16, 64} {
		tb := tableOf(t, Hash, slices.Repeat([]int64{1}, n)...)
		before := tb.owners(0, 40000)
		gone := tb.seats[n/2]
		tb.seats = slices.Delete(tb.seats, n/2, n/2+1)
		tb.balancer, _ = newBalancer(Hash, tb.seats, &tb.inFlight)
		its, others := 0, 0
		for key, id := range tb.owners(0, len(before)) {
			switch {
			case before[key] == gone.id:
				its++
			case id != before[key]:
				others++
			}
		}
		part, extra := float64(its)/40000*float64(n), float64(others)/40000
		t.Logf("%d targets: removing one moves its own %.4f and %.4f of all keys besides", n, float64(its)/40000, extra)
		if math.Abs(part-1) > 0.15 || extra > 0.02+0.3/float64(n) {
			t.Errorf("%d targets: removing one moves its own %d and %d other keys of 40000", n, its, others)
		}
	}
}

// TestBoundedLoad: however requests come and go and whatever their keys, no seat is given a request above
// 5/4 of its part of those in progress, rounded up; and the seat a key belongs to gets it if it has room.
func TestBoundedLoad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tb := tableOf(t, Hash, rapid.SliceOfN(rapid.Int64Range(1, 5), 1, 8).Draw(t, "weights")...)
		weights := int64(0)
		for i, s := range tb.seats {
			if s.out.Store(i > 0 && rapid.Bool().Draw(t, "out")); !s.out.Load() {
				weights += s.weight
			}
		}
		keys := rapid.Uint64Range(1, 50).Draw(t, "keys")
		room := func(s *seat) bool { // load+1 <= ceil(5/4 * all * weight/weights), in whole numbers
			all := tb.inFlight.Load() + 1
			return s.inFlight.Load()+1 <= (5*all*s.weight+4*weights-1)/(4*weights)
		}
		table := tb.balancer.(*boundedHash).table
		for range 200 {
			key := tb.random.below(keys)
			d := dice(key)
			home := tb.seats[table[d.below(slots)]]
			i := tb.pick(0, key, 0, -1)
			s := tb.seats[i]
			if !room(s) {
				t.Fatalf("seat %d of weight %d in %d has %d of %d requests and gets one more", i, s.weight, weights, s.inFlight.Load(), tb.inFlight.Load())
			}
			if home.ready(0) && room(home) && s != home {
				t.Fatalf("key %d left its seat, which has room", key)
			}
			tb.begin(i, 1)
			if j := int(tb.random.below(uint64(len(tb.seats)))); tb.random.below(3) == 0 && tb.seats[j].inFlight.Load() > 0 {
				tb.begin(j, -1)
			}
		}
	})
}

// TestHotKeySpreads: one key alone fills all seats evenly when its requests are many at once.
func TestHotKeySpreads(t *testing.T) {
	tb := tableOf(t, Hash, slices.Repeat([]int64{1}, 10)...)
	for range 1000 {
		tb.begin(tb.pick(0, 42, 0, -1), 1)
	}
	for i, s := range tb.seats {
		if n := s.inFlight.Load(); n > 125 {
			t.Errorf("seat %d has %d of 1000 requests", i, n)
		}
	}
}

// TestHotKeySpreadsInSlowStart: a seat that has few of its keys yet does not count as one that shares the others.
func TestHotKeySpreadsInSlowStart(t *testing.T) {
	for key := range uint64(20) {
		tb := tableOf(t, Hash, 1, 1, 1)
		tb.seats[0].comeBack(time.Hour)
		for range 100 {
			tb.begin(tb.pick(time.Hour, key, 0, -1), 1)
		}
		for i, s := range tb.seats {
			if n := s.inFlight.Load(); n > 63 { // 5/4 of a half
				t.Errorf("key %d: seat %d has %d of 100 requests", key, i, n)
			}
		}
	}
}
