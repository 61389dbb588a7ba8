package upstream

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func breakerDefaults() BreakerConfig {
	return BreakerConfig{FailureRatio: 0.5, MinRequests: 20, Window: 10 * time.Second, OpenFor: 5 * time.Second, Probes: 3}
}

// watched is a breaker whose changes are written down.
type watched struct {
	*Breaker
	t       testing.TB
	changes []string
}

func watch(t testing.TB, c BreakerConfig) *watched {
	w := &watched{t: t}
	w.Breaker = NewBreaker(c, func(from, to BreakerState) {
		if s, _ := w.State(0); s != to {
			t.Errorf("told of %s before it is so: %s", to, s)
		}
		w.changes = append(w.changes, fmt.Sprint(from, ">", to))
	})
	return w
}

func (w *watched) admit(now time.Duration) Ticket {
	w.t.Helper()
	ticket, wait, ok := w.Admit(now)
	if !ok {
		s, _ := w.State(now)
		w.t.Fatalf("nothing is admitted at %v (%s), for %v", now, s, wait)
	}
	return ticket
}

// send lets n requests at now end so.
func (w *watched) send(n int, o Outcome, now time.Duration) {
	w.t.Helper()
	for range n {
		w.Report(w.admit(now), o, now)
	}
}

// trip makes a breaker of breakerDefaults OPEN at now.
func (w *watched) trip(now time.Duration) {
	w.t.Helper()
	w.send(20, Failed, now)
	w.is(BreakerOpen, now)
}

func (w *watched) is(want BreakerState, now time.Duration) {
	w.t.Helper()
	if got, _ := w.State(now); got != want {
		w.t.Fatalf("%s at %v, not %s", got, now, want)
	}
}

func TestBreakerOpens(t *testing.T) {
	type batch struct {
		n  int
		o  Outcome
		at time.Duration
	}
	strict := breakerDefaults()
	strict.FailureRatio, strict.MinRequests = 0.07, 100
	always := breakerDefaults()
	always.FailureRatio, always.MinRequests = 1, 2
	for _, row := range []struct {
		intent string
		config BreakerConfig
		sent   []batch
		open   bool
	}{
		{"too few to judge", breakerDefaults(), []batch{{19, Failed, 0}}, false},
		{"enough of them", breakerDefaults(), []batch{{20, Failed, 0}}, true},
		{"a success can complete the number", breakerDefaults(), []batch{{10, Failed, 0}, {10, Succeeded, 0}}, true},
		{"just below the ratio", breakerDefaults(), []batch{{11, Succeeded, 0}, {10, Failed, 0}}, false},
		{"just at it", breakerDefaults(), []batch{{11, Succeeded, 0}, {11, Failed, 0}}, true},
		{"a ratio that is no binary fraction", strict, []batch{{93, Succeeded, 0}, {7, Failed, 0}}, true},
		{"and one failure less", strict, []batch{{94, Succeeded, 0}, {6, Failed, 0}}, false},
		{"a ratio of 1 wants all", always, []batch{{1, Succeeded, 0}, {50, Failed, 0}}, false},
		{"and opens when the success is forgotten", always, []batch{{1, Succeeded, 0}, {2, Failed, 10 * time.Second}}, true},
		{"cancels are nobody's", breakerDefaults(), []batch{{500, Abandoned, 0}, {19, Failed, 0}}, false},
		{"cancels do not dilute", breakerDefaults(), []batch{{10, Failed, 0}, {500, Abandoned, 0}, {10, Failed, 0}}, true},
		{"failures in all of the window", breakerDefaults(), []batch{{10, Failed, 0}, {10, Failed, 9999 * time.Millisecond}}, true},
		{"failures before the window", breakerDefaults(), []batch{{10, Failed, 0}, {10, Failed, 10 * time.Second}}, false},
		{"failures that a success of the last bucket meets", breakerDefaults(), []batch{{10, Failed, 0}, {10, Succeeded, 9999 * time.Millisecond}}, true},
		{"failures of a bucket that has come round", breakerDefaults(), []batch{{10, Failed, 0}, {1, Failed, 5 * time.Second}, {50, Succeeded, 10 * time.Second}}, false},
		{"a failure that comes late hides no newer ones", breakerDefaults(), []batch{{10, Failed, 9 * time.Second}, {1, Failed, 3 * time.Second}, {10, Succeeded, 14 * time.Second}}, true},
		{"long silence", breakerDefaults(), []batch{{19, Failed, 0}, {19, Failed, 1000 * time.Hour}}, false},
		{"a ratio of 0 still wants a failure", BreakerConfig{}, []batch{{50, Succeeded, 0}}, false},
		{"one is enough then", BreakerConfig{}, []batch{{50, Succeeded, 0}, {1, Failed, 0}}, true},
	} {
		t.Run(row.intent, func(t *testing.T) {
			w := watch(t, row.config)
			for _, b := range row.sent {
				w.send(b.n, b.o, b.at)
			}
			want := []string(nil)
			if row.open {
				want = []string{"closed>open"}
			}
			if !slices.Equal(w.changes, want) {
				t.Errorf("changes %v, not %v", w.changes, want)
			}
		})
	}
}

// TestBreakerRound goes through all states with the times that clients and the status page are told.
func TestBreakerRound(t *testing.T) {
	const at = time.Minute
	w := watch(t, breakerDefaults())
	w.trip(at)
	for _, passed := range []time.Duration{0, time.Second, 5*time.Second - 1} {
		left := 5*time.Second - passed
		if _, wait, ok := w.Admit(at + passed); ok || wait != left || w.Ready(at+passed) {
			t.Errorf("OPEN for %v: admitted %v, wait %v", passed, ok, wait)
		}
		if s, got := w.State(at + passed); s != BreakerOpen || got != left {
			t.Errorf("OPEN for %v: %s, %v left", passed, s, got)
		}
	}
	half := at + 5*time.Second
	if s, left := w.State(half); !w.Ready(half) || s != BreakerOpen || left != 0 {
		t.Errorf("after its time: %s, %v left", s, left)
	}
	probes := []Ticket{w.admit(half), w.admit(half), w.admit(half)}
	if _, wait, ok := w.Admit(half); ok || wait <= 0 || wait > time.Second || w.Ready(half) {
		t.Errorf("a fourth probe: admitted %v, wait %v", ok, wait)
	}
	w.Report(probes[0], Abandoned, half)
	probes[0] = w.admit(half)
	w.Report(probes[0], Succeeded, half)
	w.Report(probes[1], Succeeded, half)
	w.is(BreakerHalfOpen, half)
	w.Report(probes[2], Failed, half+time.Second)
	if s, left := w.State(half + time.Second); s != BreakerOpen || left != 5*time.Second {
		t.Errorf("after a failed probe: %s, %v left", s, left)
	}
	half += 6 * time.Second
	w.send(3, Succeeded, half)
	w.is(BreakerClosed, half)
	w.send(19, Failed, half) // the window is empty
	w.is(BreakerClosed, half)
	want := []string{"closed>open", "open>half-open", "half-open>open", "open>half-open", "half-open>closed"}
	if !slices.Equal(w.changes, want) {
		t.Errorf("changes %v", w.changes)
	}
}

// TestBreakerIgnoresLateReports: tickets of each episode are reported in each later one.
func TestBreakerIgnoresLateReports(t *testing.T) {
	for _, o := range []Outcome{Succeeded, Failed, Abandoned} {
		w := watch(t, breakerDefaults())
		var late []Ticket
		report := func(now time.Duration) {
			before := len(w.changes)
			for range 50 {
				for _, ticket := range late {
					w.Report(ticket, o, now)
				}
			}
			if len(w.changes) != before {
				t.Fatalf("late reports of %d: %v", o, w.changes)
			}
		}
		now := time.Duration(0)
		for range 3 {
			now += time.Hour
			late = append(late, w.admit(now))
			w.trip(now)
			report(now)
			now += 5 * time.Second
			late = append(late, w.admit(now))
			w.Report(w.admit(now), Failed, now) // OPEN again
			report(now)
			now += 5 * time.Second
			probes := []Ticket{w.admit(now), w.admit(now), w.admit(now)}
			report(now)
			if w.Ready(now) {
				t.Fatal("a late report made room for a probe")
			}
			for _, ticket := range probes {
				w.Report(ticket, Succeeded, now)
			}
			late = append(late, probes...)
			w.is(BreakerClosed, now)
			report(now)
			w.send(10, Succeeded, now)
			w.send(9, Failed, now) // of 19: late ones would have made it more
			w.is(BreakerClosed, now)
		}
	}
}

// TestBreakerForgetsProbes: probes without a report do not hold the breaker for ever, and are heard when
// they do report.
func TestBreakerForgetsProbes(t *testing.T) {
	for _, row := range []struct{ openFor, life time.Duration }{{5 * time.Second, 30 * time.Second}, {time.Minute, time.Minute}} {
		c := breakerDefaults()
		c.OpenFor = row.openFor
		w := watch(t, c)
		w.trip(0)
		now := row.openFor
		lost := []Ticket{w.admit(now), w.admit(now), w.admit(now)}
		if _, _, ok := w.Admit(now + row.life - 1); ok {
			t.Fatal("a place was taken before its time")
		}
		now += row.life
		fresh := []Ticket{w.admit(now), w.admit(now), w.admit(now)}
		w.Report(lost[0], Abandoned, now)
		if w.Ready(now) {
			t.Fatal("a lost probe gave away another one's place")
		}
		w.Report(lost[1], Succeeded, now)
		w.Report(lost[2], Succeeded, now)
		w.Report(fresh[0], Succeeded, now)
		w.is(BreakerClosed, now)
	}
}

// TestBreakerBearsStaleClocks: who read the clock long ago and reports now is counted now.
func TestBreakerBearsStaleClocks(t *testing.T) {
	w := watch(t, breakerDefaults())
	now := time.Hour
	w.send(10, Failed, now)
	stale := w.admit(now)
	for range 9 {
		w.Report(w.admit(now), Failed, now-10*time.Second) // a whole window back: the same bucket
	}
	w.is(BreakerClosed, now)
	w.Report(stale, Failed, now-time.Second)
	w.is(BreakerOpen, now)
}

// TestBreakerCountsStopAtTheBrim: a full bucket keeps its share of failures and its epoch.
func TestBreakerCountsStopAtTheBrim(t *testing.T) {
	w := watch(t, breakerDefaults())
	e := w.current.Load()
	e.outcomes.buckets[0].all.Store(countFull - 2)
	w.send(10, Failed, 0)
	b := &e.outcomes.buckets[0]
	if all, failed := b.all.Load(), b.failed.Load(); all != countFull || failed != 2 {
		t.Errorf("%d outcomes, %d failures", all, failed)
	}
	w.trip(10 * time.Second)
}

func TestNoBreaker(t *testing.T) {
	var b *Breaker
	ticket, wait, ok := b.Admit(0)
	b.Report(ticket, Failed, 0)
	if s, left := b.State(0); !ok || wait != 0 || s != BreakerClosed || left != 0 || !b.Ready(0) {
		t.Error("no breaker is not closed")
	}
	w := watch(t, breakerDefaults())
	for range 50 {
		w.Report(ticket, Failed, 0)
	}
	w.is(BreakerClosed, 0)
}

// halfOpen is a breaker in HALF-OPEN at the time given back.
func halfOpen(t testing.TB) (*watched, time.Duration) {
	w := watch(t, breakerDefaults())
	w.trip(0)
	w.send(1, Abandoned, 5*time.Second)
	return w, 5 * time.Second
}

func TestBreakerAllocations(t *testing.T) {
	closed := watch(t, breakerDefaults())
	closed.send(1, Failed, 0)
	open := watch(t, breakerDefaults())
	half, at := halfOpen(t)
	late := open.admit(0)
	open.trip(0)
	now := time.Duration(0)
	for _, row := range []struct {
		state string
		do    func()
	}{
		{"CLOSED", func() { now += time.Millisecond; closed.send(1, Succeeded, now) }},
		{"OPEN", func() { _, _, _ = open.Admit(1); open.Ready(1); open.State(1) }},
		{"OPEN, late", func() { open.Report(late, Failed, 1) }},
		{"HALF-OPEN", func() { half.send(1, Abandoned, at) }},
	} {
		if n := testing.AllocsPerRun(1000, row.do); n != 0 {
			t.Errorf("%s: %v allocations", row.state, n)
		}
	}
}

func BenchmarkBreaker(b *testing.B) {
	failing, failed := breakerDefaults(), breakerDefaults()
	failed.OpenFor = time.Hour
	failing.FailureRatio = 0.9
	for _, row := range []struct {
		name   string
		config BreakerConfig
		first  int // failures
		mask   int // of requests, one in so many fails
	}{
		{"closed", breakerDefaults(), 0, 0},
		{"closed/failing", failing, 0, 3},
		{"open", failed, 20, 0},
	} {
		b.Run(row.name, func(b *testing.B) {
			w := watch(b, row.config)
			w.send(row.first, Failed, 0)
			b.ReportAllocs()
			now, i := time.Duration(0), 0
			for b.Loop() {
				i++
				now += 100
				if t, _, ok := w.Admit(now); ok {
					o := Succeeded
					if row.mask != 0 && i&row.mask == 0 {
						o = Failed
					}
					w.Report(t, o, now)
				}
			}
		})
	}
	b.Run("half-open", func(b *testing.B) {
		w, now := halfOpen(b)
		b.ReportAllocs()
		for b.Loop() {
			t, _, _ := w.Admit(now)
			w.Report(t, Abandoned, now)
		}
	})
	b.Run("closed/parallel", func(b *testing.B) {
		w := watch(b, breakerDefaults())
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for now := time.Duration(0); pb.Next(); now += 100 {
				t, _, _ := w.Admit(now)
				w.Report(t, Succeeded, now)
			}
		})
	})
}
