package upstream

import (
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func policies() []Policy { return []Policy{TwoChoices, RoundRobin, LeastConn, Hash} }

// table is a balancer with its seats, and counts requests as a pool does.
type table struct {
	balancer
	seats    []*seat
	inFlight atomic.Int64
	random   dice
}

func tableOf(t interface {
	Helper()
	Fatal(...any)
}, p Policy, weights ...int64) *table {
	t.Helper()
	tb := &table{}
	for i, w := range weights {
		id := dice(i)
		tb.seats = append(tb.seats, &seat{weight: w, id: id.next()})
	}
	var err error
	if tb.balancer, err = newBalancer(p, tb.seats, &tb.inFlight); err != nil {
		t.Fatal(err)
	}
	return tb
}

// choose picks with a key and a random number of its own.
func (tb *table) choose(now time.Duration, avoid int) int {
	return tb.pick(now, tb.random.next(), tb.random.next(), avoid)
}

func (tb *table) begin(i int, n int64) {
	tb.seats[i].inFlight.Add(n)
	tb.inFlight.Add(n)
}

// counts picks n times, with no request in progress from one to the next.
func (tb *table) counts(now time.Duration, avoid, n int) []int {
	counts := make([]int, len(tb.seats))
	for range n {
		counts[tb.choose(now, avoid)]++
	}
	return counts
}

// TestPickIsReady: for every policy and state of the seats, a pick is a ready seat, another one than the seat to
// avoid if there is one, and none only if none is ready.
func TestPickIsReady(t *testing.T) {
	for _, p := range policies() {
		t.Run(string(p), rapid.MakeCheck(func(t *rapid.T) {
			const now = time.Hour
			tb := tableOf(t, p, rapid.SliceOfN(rapid.Int64Range(0, 5), 0, 7).Draw(t, "weights")...)
			anyReady, others := false, false
			avoid := rapid.IntRange(-1, len(tb.seats)).Draw(t, "avoid")
			for i, s := range tb.seats {
				tb.begin(i, rapid.Int64Range(0, 9).Draw(t, "load"))
				s.out.Store(rapid.Bool().Draw(t, "out"))
				s.since.Store(rapid.SampledFrom([]int64{0, 1, int64(now), int64(now - 4*time.Second), int64(2 * now)}).Draw(t, "since"))
				open := s.weight > 0 && !s.out.Load()
				anyReady = anyReady || open
				others = others || open && i != avoid
			}
			for range 20 {
				i := tb.choose(now, avoid)
				switch {
				case i < 0 && anyReady:
					t.Fatal("none picked although one is ready")
				case i < 0:
				case !tb.seats[i].ready(now):
					t.Fatalf("seat %d is not ready", i)
				case i == avoid && others:
					t.Fatalf("seat %d was to be avoided", i)
				}
			}
		}))
	}
}

func TestPickNoneOrOnly(t *testing.T) {
	rows := []struct {
		intent  string
		weights []int64
		out     []int
		avoid   int
		want    int
	}{
		{"no seats", nil, nil, -1, -1},
		{"all drained", []int64{0, 0, 0}, nil, -1, -1},
		{"all drained, one to avoid", []int64{0, 0, 0}, nil, 1, -1},
		{"one seat", []int64{3}, nil, -1, 0},
		{"one seat, to be avoided", []int64{3}, nil, 0, 0},
		{"one seat, out", []int64{3}, []int{0}, -1, -1},
		{"all out", []int64{1, 2, 3}, []int{0, 1, 2}, -1, -1},
		{"all out, one to avoid", []int64{1, 2, 3}, []int{0, 1, 2}, 2, -1},
		{"all but one out", []int64{1, 1000, 1000}, []int{1, 2}, -1, 0},
		{"all but the avoided one out", []int64{1, 2, 3}, []int{1, 2}, 0, 0},
		{"the other one of two", []int64{1000, 1}, nil, 0, 1},
		{"a drained seat is no alternative", []int64{1, 0}, nil, 0, 0},
		{"a drained seat is not even the last resort", []int64{1, 0}, []int{0}, 1, -1},
	}
	for _, p := range policies() {
		for _, r := range rows {
			tb := tableOf(t, p, r.weights...)
			for _, i := range r.out {
				tb.seats[i].leave()
			}
			for range 50 {
				if i := tb.choose(time.Hour, r.avoid); i != r.want {
					t.Fatalf("%s, %s: picked %d instead of %d", p, r.intent, i, r.want)
				}
			}
		}
	}
}

// TestPickAsksTheBreaker: a seat whose breaker is open takes nothing, until it lets a probe through.
func TestPickAsksTheBreaker(t *testing.T) {
	for _, p := range policies() {
		tb := tableOf(t, p, 1, 1)
		b := NewBreaker(BreakerConfig{FailureRatio: 0.5, MinRequests: 1, Window: time.Second, OpenFor: time.Second, Probes: 1},
			func(from, to BreakerState) {})
		ticket, _, _ := b.Admit(time.Hour)
		b.Report(ticket, Failed, time.Hour)
		tb.seats[0].breaker = b
		if n := tb.counts(time.Hour, -1, 50); n[0] != 0 {
			t.Errorf("%s: %d requests to a seat with an open breaker", p, n[0])
		}
		if n := tb.counts(time.Hour+2*time.Second, -1, 50); n[0] == 0 {
			t.Errorf("%s: no probe to a seat whose breaker waits for one", p)
		}
	}
}

func TestNewBalancerRefuses(t *testing.T) {
	rows := []struct {
		intent string
		policy Policy
		seats  []*seat
	}{
		{"an unknown policy", "fastest", []*seat{{weight: 1}}},
		{"a negative weight", RoundRobin, []*seat{{weight: 2}, {weight: -1}}},
		{"a weight that would overflow", TwoChoices, []*seat{{weight: maxWeight + 1}}},
		{"more seats than an index can name", LeastConn, make([]*seat, 1<<16)},
	}
	for _, r := range rows {
		if _, err := newBalancer(r.policy, r.seats, new(atomic.Int64)); err == nil {
			t.Errorf("%s is accepted", r.intent)
		}
	}
	if b, err := newBalancer("", []*seat{{weight: 1}}, nil); err != nil || b.pick(0, 0, 0, -1) != 0 {
		t.Errorf("an empty policy is not the default: %v", err)
	}
}
