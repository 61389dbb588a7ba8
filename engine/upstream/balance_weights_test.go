package upstream

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// wantShares is Pearson's test of counts against shares, with fixed seeds at five standard deviations.
func wantShares(t testing.TB, intent string, counts []int, shares ...float64) {
	t.Helper()
	n, sum := 0, 0.0
	for i := range counts {
		n += counts[i]
		sum += shares[i]
	}
	chi, freedom := 0.0, -1.0
	for i, share := range shares {
		want := share / sum * float64(n)
		if want == 0 {
			if counts[i] != 0 {
				t.Errorf("%s: %v, but seat %d has no share", intent, counts, i)
			}
			continue
		}
		chi += (float64(counts[i]) - want) * (float64(counts[i]) - want) / want
		freedom++
	}
	if chi > freedom+5*math.Sqrt(2*freedom)+5 {
		t.Errorf("%s: %v is not shared as %v (chi-square %.1f)", intent, counts, shares, chi)
	}
}

// TestTurnsAreExact: in any whole round, round robin and the least busy of idle seats give each seat exactly its
// weight; seats that are out lose their turns, and the others' stay exact.
func TestTurnsAreExact(t *testing.T) {
	for _, p := range []Policy{RoundRobin, LeastConn} {
		t.Run(string(p), rapid.MakeCheck(func(t *rapid.T) {
			weights := rapid.SliceOfN(rapid.Int64Range(1, 9), 1, 8).Draw(t, "weights")
			tb := tableOf(t, p, weights...)
			round := 0
			for i := range weights {
				if i > 0 && rapid.IntRange(0, 3).Draw(t, "out") == 0 {
					tb.seats[i].leave()
					weights[i] = 0
				}
				round += int(weights[i])
			}
			if longestRunOut(tb) >= turnTries {
				t.Skip("drawn by weight")
			}
			tb.counts(0, -1, rapid.IntRange(0, 50).Draw(t, "before"))
			for i, n := range tb.counts(0, -1, 3*round) {
				if int64(n) != 3*weights[i] {
					t.Fatalf("seat %d of %v has %d turns in three rounds", i, weights, n)
				}
			}
		}))
	}
}

func longestRunOut(tb *table) int {
	o := newOrder(tb.seats)
	run, longest := 0, 0
	for turn := range 2 * o.length {
		run++
		if tb.seats[o.at(turn)].ready(0) {
			run = 0
		}
		longest = max(longest, run)
	}
	return longest
}

// TestLongRound: weights too many for a schedule are exact, too, and near to their share at any time.
func TestLongRound(t *testing.T) {
	weights := []int64{1000, 999, 998, 997, 996, 500, 1}
	tb := tableOf(t, RoundRobin, weights...)
	total := int64(0)
	for _, w := range weights {
		total += w
	}
	if total <= maxSchedule {
		t.Fatal("a round that is not long")
	}
	counts := make([]int64, len(weights))
	for turn := range 2 * total {
		counts[tb.choose(0, -1)]++
		for i, w := range weights {
			if off := float64(counts[i]) - float64(turn+1)*float64(w)/float64(total); math.Abs(off) > 4 {
				t.Fatalf("seat %d is %.1f turns off its share after %d", i, off, turn+1)
			}
		}
	}
	for i, w := range weights {
		if counts[i] != 2*w {
			t.Errorf("seat %d of weight %d has %d turns in two rounds", i, w, counts[i])
		}
	}
}

// TestLongRoundIsExact: whatever the weights add up to, a whole round has each seat's weight of turns.
func TestLongRoundIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.Int64Range(600, 1000), 7, 9).Draw(t, "weights")
		o := newOrder(tableOf(t, RoundRobin, weights...).seats)
		counts := make([]uint64, len(weights))
		for turn := range o.length {
			counts[o.at(turn)]++
		}
		for i, w := range weights {
			if counts[i]*uint64(weights[0]) != counts[0]*uint64(w) {
				t.Fatalf("turns of %v: %v", weights, counts)
			}
		}
	})
}

// TestSecondChoicesCostNoTurn: with one of two seats failing, it stays the first choice of every second
// request only, and second choices are spread by weight, not all to the next in line.
func TestSecondChoicesCostNoTurn(t *testing.T) {
	tb := tableOf(t, RoundRobin, 1, 1)
	first := 0
	for range 100 {
		if i := tb.choose(0, -1); i == 0 {
			first++
			tb.choose(0, i)
		}
	}
	if first != 50 {
		t.Errorf("the failing seat was the first choice of %d of 100 requests", first)
	}
	for _, p := range []Policy{TwoChoices, RoundRobin, LeastConn} {
		counts := tableOf(t, p, 1, 1, 2, 4).counts(0, 0, 20000)
		wantShares(t, string(p)+" second choice", counts, 0, 1, 2, 4)
	}
}

// TestIdleShares: with no request in progress, every policy shares by weight, also with seats out.
func TestIdleShares(t *testing.T) {
	rows := []struct {
		weights []int64
		out     []int
	}{
		{[]int64{1, 1}, nil},
		{[]int64{1, 10}, nil},
		{[]int64{1, 2, 3, 10}, nil},
		{[]int64{1, 2, 3, 10}, []int{3}},
		{[]int64{1, 2, 3, 1000}, []int{3}},
		{[]int64{5, 0, 5, 7, 7, 9}, []int{0, 4}},
	}
	for _, p := range policies() {
		for _, r := range rows {
			tb := tableOf(t, p, r.weights...)
			shares := make([]float64, len(r.weights))
			for i, w := range r.weights {
				shares[i] = float64(w)
			}
			for _, i := range r.out {
				tb.seats[i].leave()
				shares[i] = 0
			}
			wantShares(t, string(p), tb.counts(0, -1, 30000), shares...)
		}
	}
}

// TestSharesUnderLoad: with requests that take random times, the shares stay near the weights, however many are
// in progress, and no light seat starves.
func TestSharesUnderLoad(t *testing.T) {
	weights := []int64{1, 2, 3, 10}
	rows := []struct {
		load, tolerance float64
	}{{0.2, 0.1}, {2, 0.25}, {20, 0.15}, {200, 0.05}}
	for _, p := range []Policy{TwoChoices, LeastConn} {
		for _, r := range rows {
			tb := tableOf(t, p, weights...)
			counts := tb.live(r.load, 60000)
			for i, w := range weights {
				if ratio := float64(counts[i]) / 60000 * 16 / float64(w); math.Abs(ratio-1) > r.tolerance {
					t.Errorf("%s, %v requests in progress: weight %d has %.3f of its share", p, r.load, w, ratio)
				}
			}
		}
	}
}

// live lets requests come at random and take a random time, load of them in progress on average.
func (tb *table) live(load float64, picks int) []int {
	counts := make([]int, len(tb.seats))
	var active []int
	for picks > 0 {
		if rate := load + float64(len(active)); float64(tb.random.below(1<<32))/(1<<32)*rate < load {
			i := tb.choose(0, -1)
			tb.begin(i, 1)
			active = append(active, i)
			counts[i]++
			picks--
			continue
		}
		k := int(tb.random.below(uint64(len(active))))
		tb.begin(active[k], -1)
		active[k] = active[len(active)-1]
		active = active[:len(active)-1]
	}
	return counts
}

// TestTwoChoicesEvenOut: a seat that is slow gets no more while another is less busy, and the fullest of many
// seats holds far less than random choice would give it.
func TestTwoChoicesEvenOut(t *testing.T) {
	tb := tableOf(t, TwoChoices, 1, 1, 1, 1)
	tb.begin(2, 5)
	wantShares(t, "a busy seat", tb.counts(0, -1, 10000), 1, 1, 0, 1)

	tb = tableOf(t, TwoChoices, 1, 1)
	tb.begin(0, 1)
	wantShares(t, "the busier of two", tb.counts(0, -1, 100), 0, 1)

	tb = tableOf(t, TwoChoices, slices.Repeat([]int64{1}, 256)...)
	fullest := int64(0)
	for range 10 * len(tb.seats) {
		i := tb.choose(0, -1)
		tb.begin(i, 1)
		fullest = max(fullest, tb.seats[i].inFlight.Load())
	}
	if fullest > 10+4 { // ln ln 256 / ln 2 above the mean of 10; random choice: about 20
		t.Errorf("of 2560 requests one of 256 seats holds %d", fullest)
	}
}

// TestLeastBusy: no other ready seat would be no busier with the request than the picked one was without.
func TestLeastBusy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tb := tableOf(t, LeastConn, rapid.SliceOfN(rapid.Int64Range(1, 5), 1, 8).Draw(t, "weights")...)
		for i, s := range tb.seats {
			tb.begin(i, rapid.Int64Range(0, 9).Draw(t, "load"))
			s.out.Store(i > 0 && rapid.Bool().Draw(t, "out"))
		}
		for range 20 {
			p := tb.seats[tb.choose(0, -1)]
			for j, s := range tb.seats {
				if s != p && s.ready(0) && (s.load()+1)*uint64(p.weight) <= p.load()*uint64(s.weight) {
					t.Fatalf("seat %d would be no busier with it", j)
				}
			}
		}
	})
}

func TestLeastBusyTies(t *testing.T) {
	tb := tableOf(t, LeastConn, 1, 1, 1, 1, 1)
	tb.begin(0, 5)
	tb.begin(3, 5)
	counts := tb.counts(0, -1, 30000)
	wantShares(t, "seats equally idle", counts, 0, 1, 1, 0, 1)
}

// TestUrn: the parts of the columns are exactly the weights.
func TestUrn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.Int64Range(0, 1000), 1, 40).Draw(t, "weights")
		weights[0]++
		u := newUrn(tableOf(t, RoundRobin, weights...).seats)
		units := make([]uint64, len(weights))
		for i, c := range u.columns {
			units[i] += c.keep
			units[c.other] += u.sum - c.keep
		}
		for i, w := range weights {
			if units[i] != uint64(w)*uint64(len(weights)) {
				t.Fatalf("seat %d of %v has %d units", i, weights, units[i])
			}
		}
	})
}

// TestSlowStart: a seat that comes back gets its part of the requests along a straight line.
func TestSlowStart(t *testing.T) {
	const back = time.Hour
	for _, p := range policies() {
		for _, r := range []struct {
			after time.Duration
			share float64
		}{{0, 0.1}, {2500 * time.Millisecond, 0.325}, {5 * time.Second, 0.55}, {warmUp, 1}, {time.Hour, 1}} {
			tb := tableOf(t, p, 1, 1, 1, 1, 1, 1)
			tb.seats[2].leave()
			wantShares(t, string(p)+" while out", tb.counts(back, -1, 12000), 1, 1, 0, 1, 1, 1)
			tb.seats[2].comeBack(back)
			counts := tb.counts(back+r.after, -1, 30000)
			if p == Hash { // only the seat's own keys come back: those of the others do not move
				rest := 1 + (1-r.share)/5
				wantShares(t, "hash after "+r.after.String(), counts, rest, rest, r.share, rest, rest, rest)
				continue
			}
			wantShares(t, string(p)+" after "+r.after.String(), counts, 1, 1, r.share, 1, 1, 1)
		}
		tb := tableOf(t, p, 1, 3)
		for _, s := range tb.seats {
			s.comeBack(back)
		}
		wantShares(t, string(p)+" all back together", tb.counts(back+time.Second, -1, 30000), 1, 3)

		tb = tableOf(t, p, 1, 1) // warmth 0.8 and 0.4
		tb.seats[0].comeBack(back)
		tb.seats[1].comeBack(back + warmUp*4/9)
		counts, shares := tb.counts(back+warmUp*7/9, -1, 30000), []float64{2, 1}
		if p == Hash { // half of the colder one's keys are with the warmer one
			shares[0] = 3
		}
		wantShares(t, string(p)+" one after the other", counts, shares...)
	}
}

func TestWarmth(t *testing.T) {
	rows := []struct {
		after time.Duration
		want  uint64
	}{{-time.Second, cold}, {0, cold}, {time.Second, 190}, {5 * time.Second, 550}, {warmUp - 1, warm - 1}, {warmUp, warm}, {math.MaxInt64, warm}}
	for _, r := range rows {
		if got := warmthAfter(r.after); got != r.want {
			t.Errorf("warmth after %v is %d, not %d", r.after, got, r.want)
		}
	}
	s := &seat{weight: 3}
	if s.share(0) != 3*warm {
		t.Error("a seat that never left is not warm")
	}
	s.comeBack(0)
	if s.share(0) != 3*cold || s.share(warmUp+1) != 3*warm {
		t.Errorf("a seat back at the clock's zero has shares %d and %d", s.share(0), s.share(warmUp+1))
	}
}
