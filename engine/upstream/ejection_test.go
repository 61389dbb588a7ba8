package upstream

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// fails reports n failures at now and says whether the last one, and no other, ejects.
func fails(t rapid.TB, e *ejector, n int, now time.Duration) (eject bool, forTime time.Duration) {
	t.Helper()
	for i := range n {
		if eject {
			t.Fatalf("failure %d of %d ejects", i, n)
		}
		eject, forTime = e.failed(now)
	}
	return eject, forTime
}

// TestEjectionTimes: five failures in a row eject, then one after each return, for 1, 2, 4, 8, 16 and then always
// 30 s. A success after the return makes it five again, and the next time a short one.
func TestEjectionTimes(t *testing.T) {
	var e ejector
	now := time.Duration(0)
	for round := range 2 {
		if eject, _ := fails(t, &e, 4, now); eject || e.until() != 0 {
			t.Fatal("four failures eject")
		}
		for _, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30, 30} {
			want *= time.Second
			eject, forTime := e.failed(now)
			if !eject || forTime != want || e.until() != now+want {
				t.Fatalf("round %d: eject %v for %v, until %v; not for %v", round, eject, forTime, e.until(), want)
			}
			if now += want; e.recovered(now-1) || !e.recovered(now) || e.recovered(now) || e.until() != 0 {
				t.Fatal("recovery is not at its time, or not once")
			}
		}
		e.succeededSince(now)
	}
}

func TestEjectionForWeeks(t *testing.T) {
	var e ejector
	now := 200 * 24 * time.Hour
	fails(t, &e, 4, now)
	for i := range 1000 {
		_, forTime := e.failed(now)
		now += forTime
		if i >= 5 && forTime != ejectMost || !e.recovered(now) {
			t.Fatalf("ejection %d is for %v", i, forTime)
		}
	}
}

func TestEjectionIgnoresLateReports(t *testing.T) {
	var e ejector
	fails(t, &e, 5, time.Minute)
	e.succeededSince(time.Minute)
	if eject, _ := fails(t, &e, 50, time.Minute); eject || e.until() != time.Minute+time.Second {
		t.Error("a report while it is out changes something")
	}
	back := 61 * time.Second
	e.recovered(back)
	for range 50 {
		if eject, _ := e.failedSince(back-1000, back+10*time.Second); eject {
			t.Fatal("failures of requests from before the recovery eject")
		}
		e.succeededSince(back - 1000) // nor does such a success end the probation
	}
	if eject, forTime := e.failed(back); !eject || forTime != 2*time.Second {
		t.Errorf("the first failure after the recovery: %v, %v", eject, forTime)
	}
}

// TestSpare: an ejection that was not carried out leaves no trace in the times, and is called for again.
func TestSpare(t *testing.T) {
	var e ejector
	e.spare()
	for range 300 {
		if eject, forTime := fails(t, &e, 5, time.Second); !eject || forTime != time.Second {
			t.Fatalf("eject %v for %v", eject, forTime)
		}
		e.spare()
		if e.until() != 0 || e.recovered(time.Hour) {
			t.Fatal("spared and out")
		}
	}
	fails(t, &e, 5, time.Second)
	e.recovered(2 * time.Second)
	for _, failures := range []int{1, 5, 5} { // the first ends the probation, and the target is asked for no more often than others
		if eject, forTime := fails(t, &e, failures, 2*time.Second); !eject || forTime != 2*time.Second {
			t.Fatalf("%d failures after a return: eject %v for %v", failures, eject, forTime)
		}
		e.spare()
	}
}

// ejectorModel is the law as one would explain it.
type ejectorModel struct {
	out, probation  bool
	until, back     time.Duration
	failures, inRow int
}

func (m *ejectorModel) failed(began, now time.Duration) (bool, time.Duration) {
	if m.out || began < m.back {
		return false, 0
	}
	if m.failures++; m.failures < 5 && !m.probation {
		return false, 0
	}
	forTime := []time.Duration{1, 2, 4, 8, 16, 30}[min(m.inRow, 5)] * time.Second
	*m = ejectorModel{out: true, until: now + forTime, inRow: m.inRow + 1}
	return true, forTime
}

func TestEjectionLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var e ejector
		var m ejectorModel
		now := time.Duration(0)
		step := rapid.Custom(func(t *rapid.T) time.Duration {
			limit := rapid.SampledFrom([]int{0, 1000, 2e6, 40e6}).Draw(t, "limit")
			return time.Duration(rapid.IntRange(0, limit).Draw(t, "us")) * time.Microsecond
		})
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now += step.Draw(t, "step")
			switch rapid.SampledFrom([]string{"fail", "fail", "fail", "fail", "fail", "fail", "late", "succeed", "recover", "spare"}).Draw(t, "do") {
			case "fail", "late":
				began := now - rapid.SampledFrom([]time.Duration{0, 0, 0, time.Second}).Draw(t, "took")
				began = max(began, 0)
				wantEject, wantTime := m.failed(began, now)
				if eject, forTime := e.failedSince(began, now); eject != wantEject || forTime != wantTime {
					t.Fatalf("at %v: eject %v for %v, not %v for %v", now, eject, forTime, wantEject, wantTime)
				}
			case "succeed":
				began := max(now-rapid.SampledFrom([]time.Duration{0, time.Second}).Draw(t, "took"), 0)
				e.succeededSince(began)
				if !m.out && began >= m.back {
					m.failures, m.inRow, m.probation = 0, 0, false
				}
			case "recover":
				want := m.out && now >= m.until
				if want {
					m = ejectorModel{back: now, inRow: m.inRow, probation: true}
				}
				if got := e.recovered(now); got != want {
					t.Fatalf("at %v: recovered %v", now, got)
				}
			case "spare":
				e.spare()
				if m.out {
					m = ejectorModel{inRow: m.inRow - 1}
				}
			}
			if want := m.until; e.until() != want {
				t.Fatalf("until %v, not %v", e.until(), want)
			}
		}
	})
}

// TestEjectionClockGrain: times between microseconds never shorten an ejection, nor hide a failure.
func TestEjectionClockGrain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var e ejector
		now := time.Duration(rapid.Int64Range(0, int64(10000*time.Hour)).Draw(t, "now"))
		fails(t, &e, 4, now)
		for range 3 {
			eject, forTime := e.failed(now)
			over := e.until() - now - forTime
			if !eject || over < 0 || over >= time.Microsecond {
				t.Fatalf("eject %v, %v too long", eject, over)
			}
			now = e.until() + time.Duration(rapid.IntRange(0, 999).Draw(t, "later"))
			if !e.recovered(now) {
				t.Fatal("not recovered")
			}
		}
	})
}

// TestEjectionRace: however many report at once, each ejection has exactly one who is told, and so does each
// recovery.
func TestEjectionRace(t *testing.T) {
	const workers, reports = 4, 200000
	var e ejector
	var ejections, recoveries atomic.Int64
	var all sync.WaitGroup
	for worker := range workers {
		all.Go(func() {
			for i := range reports {
				now := time.Duration(i) * time.Second
				if eject, _ := e.failed(now); eject {
					ejections.Add(1)
				}
				if e.recovered(now) {
					recoveries.Add(1)
				}
				if i%128 == worker {
					e.succeededSince(now)
				}
			}
		})
	}
	all.Wait()
	want := recoveries.Load()
	if e.until() != 0 {
		want++
	}
	if n := ejections.Load(); n < 100 || n != want {
		t.Errorf("%d ejections, not %d", n, want)
	}
}

func TestMayEject(t *testing.T) {
	for _, row := range []struct {
		ready, all int
		may        bool
	}{
		{1, 1, false}, {0, 1, false}, {0, 0, false},
		{2, 2, true}, {1, 2, false},
		{3, 3, true}, {2, 3, false},
		{4, 4, true}, {3, 4, true}, {2, 4, false},
		{5, 5, true}, {4, 5, true}, {3, 5, false},
		{256, 256, true}, {129, 256, true}, {128, 256, false},
	} {
		if got := mayEject(row.ready, row.all); got != row.may {
			t.Errorf("%d ready of %d: %v", row.ready, row.all, got)
		}
	}
}

// TestEjectionLeavesHalf: whatever order targets fail and recover in, and whatever else takes some of them out,
// ejections leave at least half of them, and one, ready.
func TestEjectionLeavesHalf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.IntRange(1, 20).Draw(t, "all")
		out := make([]bool, all)
		ready := all
		for range 100 {
			i := rapid.IntRange(0, all-1).Draw(t, "target")
			switch {
			case out[i]:
				out[i] = false
				ready++
			case rapid.IntRange(0, 9).Draw(t, "check") == 0: // an active check takes out whom it must
				out[i] = true
				ready--
			case mayEject(ready, all):
				out[i] = true
				ready--
				if ready < 1 || 2*ready < all {
					t.Fatalf("%d of %d are left", ready, all)
				}
			case ready > 1 && 2*(ready-1) >= all:
				t.Fatalf("one of %d of %d may not leave", ready, all)
			}
		}
	})
}

func TestEjectionAllocations(t *testing.T) {
	var e ejector
	now := time.Duration(0)
	if n := testing.AllocsPerRun(1000, func() {
		for range 5 {
			e.failed(now)
		}
		e.spare()
		fails(t, &e, 5, now)
		now = e.until()
		e.recovered(now)
		e.failed(now)
		now = e.until()
		e.recovered(now)
		e.succeededSince(now)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkEjector(b *testing.B) {
	b.Run("succeeded", func(b *testing.B) {
		var e ejector
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				e.succeededSince(0)
			}
		})
	})
	b.Run("failed", func(b *testing.B) {
		var e ejector
		b.ReportAllocs()
		for now := time.Duration(0); b.Loop(); now += time.Microsecond {
			e.failed(now)
			e.succeededSince(now)
		}
	})
}

// failed is failedSince for an exchange that failed as soon as it began.
func (e *ejector) failed(now time.Duration) (eject bool, forTime time.Duration) {
	return e.failedSince(now, now)
}
