package jwks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

func TestRunRefreshes(t *testing.T) {
	tests := []struct {
		intent string
		random float64
		want   time.Duration
	}{
		{"no jitter", 0, 10 * time.Minute},
		{"half of it", 0.5, 9 * time.Minute},
		{"all of it", 1, 8 * time.Minute},
	}
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, i := newSet(t, setOf(t, edKey(t, "a")), func(c *Config) { c.Random = func() float64 { return test.random } })
				must(t, s.Fetch(t.Context()))
				start(t, s)
				if n := i.count(); n != 1 {
					t.Errorf("%d fetches at the start, want only the one that was asked for", n)
				}
				for range 3 {
					time.Sleep(test.want - 1)
					synctest.Wait()
					if n := i.count(); n != 0 {
						t.Errorf("%d fetches before %v", n, test.want)
					}
					time.Sleep(1)
					synctest.Wait()
					if n := i.count(); n != 1 {
						t.Errorf("%d fetches at %v, want 1", n, test.want)
					}
				}
			})
		})
	}
}

func TestRunFetchesAtOnceWhenNobodyHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newSet(t, setOf(t, edKey(t, "a")))
		start(t, s)
		if !works(s, "a") {
			t.Error("no keys after the start")
		}
	})
}

func TestRunBacksOff(t *testing.T) {
	const s, m = time.Second, time.Minute
	tests := []struct {
		intent string
		had    bool // keys, before the issuer went down
		want   []time.Duration
	}{
		{"with keys: up to Refresh", true, []time.Duration{10 * m, 1 * s, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s, 64 * s, 128 * s, 256 * s, 512 * s, 10 * m, 10 * m}},
		{"without: half a minute at most, for requests are refused", false, []time.Duration{0, 1 * s, 2 * s, 4 * s, 8 * s, 16 * s, 30 * s, 30 * s}},
	}
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				set, i := newSet(t, setOf(t, edKey(t, "a")))
				if test.had {
					must(t, set.Fetch(t.Context()))
				}
				i.does(isDown)
				i.count()
				last := time.Now()
				start(t, set)
				for n, want := range test.want {
					time.Sleep(time.Until(last.Add(want)))
					synctest.Wait()
					i.mu.Lock()
					if len(i.fetches) != n+1 || i.fetches[n].Sub(last) != want {
						t.Fatalf("fetches %v, want number %d after %v", i.fetches, n, want)
					}
					last = i.fetches[n]
					i.mu.Unlock()
				}
				i.does(serves(http.StatusOK, setOf(t, edKey(t, "b"))))
				time.Sleep(test.want[len(test.want)-1])
				synctest.Wait()
				if !works(set, "b") || set.Status().LastError != nil {
					t.Error("it does not recover")
				}
				i.count()
				time.Sleep(10*time.Minute - 1)
				if n := i.count(); n != 0 {
					t.Errorf("%d fetches after it has recovered, want the next after Refresh", n)
				}
			})
		})
	}
}

func TestRunHeedsTheFetchesOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, i := newSet(t, setOf(t, edKey(t, "a")))
		start(t, s)
		time.Sleep(time.Minute)
		good := i.answer
		i.does(isDown)
		if err := s.Fetch(t.Context()); err == nil {
			t.Fatal("no error")
		}
		i.does(good)
		i.count()
		time.Sleep(firstRetry)
		synctest.Wait()
		if n := i.count(); n != 1 || s.Status().LastError != nil {
			t.Errorf("%d fetches a second after one that failed, want 1", n)
		}
	})
}

func TestLastGoodSetServesUntilStaleMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lapses atomic.Int32
		s, i := newSet(t, setOf(t, edKey(t, "a")), func(c *Config) {
			c.Report = func(e Event) {
				if errors.Is(e.Err, errLapsed) {
					lapses.Add(1)
				}
			}
		})
		must(t, s.Fetch(t.Context()))
		i.does(isDown)
		start(t, s)
		time.Sleep(24*time.Hour - 1)
		synctest.Wait()
		if !works(s, "a") || s.Generation() != 1 {
			t.Error("the keys are gone before StaleMax")
		}
		time.Sleep(1)
		if _, _, err := s.Keys(time.Now(), "a", "EdDSA"); !errors.Is(err, auth.ErrUnavailable) {
			t.Errorf("at StaleMax: error %v, want %v", err, auth.ErrUnavailable)
		}
		synctest.Wait()
		if s.Generation() != 2 || lapses.Load() != 1 || s.Status().Keys != 0 {
			t.Errorf("generation %d, %d reports, %+v; want tokens of the old keys to be forgotten", s.Generation(), lapses.Load(), s.Status())
		}
		i.does(serves(http.StatusOK, setOf(t, edKey(t, "a"))))
		time.Sleep(11 * time.Minute) // the back-off had grown to Refresh while there were keys
		if !works(s, "a") || s.Generation() != 3 {
			t.Errorf("it does not recover: generation %d", s.Generation())
		}
	})
}

// Without this a healthy issuer's keys would lapse while they are fetched.
func TestShortStaleMaxDoesNotOutrunRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, i := newSet(t, nil, func(c *Config) { c.StaleMax = 0 })
		i.does(slowly(fetchTimeout-1, serves(http.StatusOK, setOf(t, edKey(t, "a")))))
		must(t, s.Fetch(t.Context()))
		start(t, s)
		for range 3600 {
			time.Sleep(time.Second)
			if !works(s, "a") {
				t.Fatal("no keys, although the issuer is well")
			}
		}
	})
}

func TestMissedFindsRotatedKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := edKey(t, "a"), edKey(t, "b")
		s, i := newSet(t, setOf(t, a))
		must(t, s.Fetch(t.Context()))
		start(t, s)
		i.does(slowly(time.Second, serves(http.StatusOK, setOf(t, a, b))))
		began := time.Now()
		if !s.Missed(t.Context(), "b") || !works(s, "b") || time.Since(began) != time.Second {
			t.Errorf("the new key is not there after %v, want it with the fetch", time.Since(began))
		}
		i.count()
		if !s.Missed(t.Context(), "b") || i.count() != 0 {
			t.Error("who missed a key that is there by now is told to look again, without a fetch")
		}
		// The regular fetch is counted from the one that Missed caused.
		time.Sleep(10*time.Minute - 1)
		if n := i.count(); n != 0 {
			t.Errorf("%d fetches, want none within Refresh of the last", n)
		}
	})
}

func TestMissedIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, i := newSet(t, setOf(t, edKey(t, "a")))
		must(t, s.Fetch(t.Context()))
		start(t, s)
		i.count()
		i.does(slowly(time.Second, serves(http.StatusOK, setOf(t, edKey(t, "b")))))
		var changed atomic.Int32
		var all sync.WaitGroup
		for n := range 40 {
			all.Go(func() {
				if s.Missed(t.Context(), fmt.Sprint("unknown ", n)) {
					changed.Add(1)
				}
			})
		}
		all.Wait()
		if n := i.count(); n != 1 || changed.Load() != 40 {
			t.Errorf("%d fetches for 40 unknown kids, %d saw the change; want 1 and 40", n, changed.Load())
		}
		for range 28 { // the fetch took one of the 30 seconds
			time.Sleep(time.Second)
			if s.Missed(t.Context(), "unknown") {
				t.Error("a change was told that was none")
			}
		}
		if n := i.count(); n != 0 {
			t.Errorf("%d more fetches within 30 s", n)
		}
		time.Sleep(time.Second)
		if s.Missed(t.Context(), "unknown") || i.count() != 1 {
			t.Error("after 30 s there is no fetch, or one that changed something")
		}
	})
}

func TestMissedWaitsNoLongerThanItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, i := newSet(t, setOf(t, edKey(t, "a")))
		must(t, s.Fetch(t.Context()))
		start(t, s)
		i.does(hangs)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if s.Missed(ctx, "b") || time.Since(began) != time.Second {
			t.Errorf("waited for %v, want the caller's second", time.Since(began))
		}
		began = time.Now()
		if s.Missed(t.Context(), "b") || time.Since(began) != fetchTimeout-time.Second {
			t.Errorf("waited for %v, want the end of the same fetch", time.Since(began))
		}
	})
}

func TestEndOfRunLetsWaitersGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, i := newSet(t, setOf(t, edKey(t, "a")))
		must(t, s.Fetch(t.Context()))
		ctx, cancel := context.WithCancel(t.Context())
		go s.Run(ctx)
		synctest.Wait()
		i.does(hangs)
		time.AfterFunc(time.Second, cancel)
		began := time.Now()
		if s.Missed(t.Context(), "b") || time.Since(began) != time.Second {
			t.Errorf("waited for %v, want until Run ended", time.Since(began))
		}
	})
}
