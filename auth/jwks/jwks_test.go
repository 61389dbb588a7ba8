package jwks

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

// issuer is a server without a network, so that it can live in a test's own time.
type issuer struct {
	mu      sync.Mutex
	answer  func(*http.Request) (*http.Response, error)
	fetches []time.Time
}

func (i *issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	i.mu.Lock()
	i.fetches = append(i.fetches, time.Now())
	answer := i.answer
	i.mu.Unlock()
	return answer(r)
}

func (i *issuer) does(answer func(*http.Request) (*http.Response, error)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = answer
}

// count is how many fetches there were since the last call.
func (i *issuer) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := len(i.fetches)
	i.fetches = nil
	return n
}

func serves(status int, body []byte) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
	}
}

func isDown(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }

func hangs(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// slowly gives the answer after a while.
func slowly(d time.Duration, answer func(*http.Request) (*http.Response, error)) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		time.Sleep(d)
		return answer(r)
	}
}

// never is a jitter of nothing, so that times are exact.
func never() float64 { return 0 }

// newSet makes a Set of an issuer that serves body. Refresh is 10 min, StaleMax a day.
func newSet(t testing.TB, body []byte, change ...func(*Config)) (*Set, *issuer) {
	t.Helper()
	i := &issuer{answer: serves(http.StatusOK, body)}
	config := Config{
		Source:   "https://issuer.example/jwks",
		Refresh:  10 * time.Minute,
		StaleMax: 24 * time.Hour,
		Client:   &http.Client{Transport: i},
		Random:   never,
	}
	for _, change := range change {
		change(&config)
	}
	s, err := New(config)
	must(t, err)
	return s, i
}

// fetched is a Set that has its keys.
func fetched(t testing.TB, body []byte) *Set {
	t.Helper()
	s, _ := newSet(t, body)
	must(t, s.Fetch(t.Context()))
	return s
}

// start runs s until the test ends, and returns when it is at rest.
func start(t *testing.T, s *Set) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
}

// works says whether a token by the key could be verified now.
func works(s *Set, kid string) bool {
	keys, _, err := s.Keys(time.Now(), kid, "EdDSA")
	return err == nil && len(keys) == 1
}

func TestNewReadsNothing(t *testing.T) {
	s, i := newSet(t, setOf(t, edKey(t, "a")))
	if n := i.count(); n != 0 {
		t.Errorf("%d fetches, want none before it is asked to", n)
	}
	if _, generation, err := s.Keys(time.Now(), "a", "EdDSA"); !errors.Is(err, auth.ErrUnavailable) || generation != 0 {
		t.Errorf("generation %d, error %v; want 0 and %v", generation, err, auth.ErrUnavailable)
	}
	if s.Missed(t.Context(), "a") || i.count() != 0 {
		t.Error("Missed fetches although nobody runs the set")
	}
}

func TestNewRefuses(t *testing.T) {
	tests := []struct {
		intent string
		config Config
	}{
		{"no source", Config{Refresh: time.Minute}},
		{"no host", Config{Source: "https:///jwks", Refresh: time.Minute}},
		{"never refreshed", Config{Source: "jwks.json"}},
		{"kept for less than no time", Config{Source: "jwks.json", Refresh: time.Minute, StaleMax: -1}},
	}
	for _, test := range tests {
		if _, err := New(test.config); err == nil {
			t.Errorf("%s: no error", test.intent)
		}
	}
}

func TestFetchFailures(t *testing.T) {
	good := setOf(t, edKey(t, "a"))
	tests := []struct {
		intent string
		answer func(*http.Request) (*http.Response, error)
	}{
		{"the issuer is down", isDown},
		{"it hangs", hangs},
		{"it has an error", serves(http.StatusInternalServerError, good)},
		{"it has an answer that is not 200", serves(http.StatusAccepted, good)},
		{"it serves garbage", serves(http.StatusOK, []byte("<html>"))},
		{"it serves half of the set", serves(http.StatusOK, good[:len(good)/2])},
		{"the set is empty", serves(http.StatusOK, setOf(t))},
		{"no key is known", serves(http.StatusOK, setOf(t, members{"kty": "AKP"}))},
		{"the set is huge", serves(http.StatusOK, append(good, bytes.Repeat([]byte(" "), bodyMax)...))},
		{"it breaks off", func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(io.MultiReader(bytes.NewReader(good), broken{})), Request: r}, nil
		}},
	}
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var events []Event
				s, i := newSet(t, good, func(c *Config) { c.Report = func(e Event) { events = append(events, e) } })
				i.does(test.answer)
				if err := s.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "https://issuer.example/jwks") {
					t.Errorf("error %v, want one that names the source", err)
				}
				if _, _, err := s.Keys(time.Now(), "a", "EdDSA"); !errors.Is(err, auth.ErrUnavailable) {
					t.Errorf("without a set: error %v, want %v", err, auth.ErrUnavailable)
				}
				i.does(serves(http.StatusOK, good))
				must(t, s.Fetch(t.Context()))
				i.does(test.answer)
				began := time.Now()
				err := s.Fetch(t.Context())
				if took := time.Since(began); err == nil || took > fetchTimeout {
					t.Errorf("error %v after %v, want one within %v", err, took, fetchTimeout)
				}
				if !works(s, "a") || s.Generation() != 1 {
					t.Errorf("the last good set is lost: generation %d", s.Generation())
				}
				if status := s.Status(); status.LastError == nil || status.Keys != 1 || !status.LastSuccess.Equal(began) {
					t.Errorf("status %+v, want the error, the key and the time of the success", status)
				}
				if len(events) != 3 || events[0].Err == nil || !events[1].Changed || events[2].Err == nil || events[2].Changed || events[2].Keys != 1 {
					t.Errorf("reported %+v, want a failure, a set and a failure that changed nothing", events)
				}
			})
		})
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestFetchThatIsGivenUpSaysNothingOfTheIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, i := newSet(t, nil)
		i.does(hangs)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := s.Fetch(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want %v", err, context.Canceled)
		}
		if status := s.Status(); status.LastError != nil {
			t.Errorf("the status holds %v", status.LastError)
		}
	})
}

func TestFetchesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, i := newSet(t, nil)
		i.does(hangs)
		go func() { _ = s.Fetch(t.Context()) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := s.Fetch(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("error %v after %v, want the caller's deadline", err, time.Since(began))
		}
		if n := i.count(); n != 1 {
			t.Errorf("%d fetches at once", n)
		}
	})
}

// The caller's clock decides, whether or not Run has noticed.
func TestKeysGoByTheCallersClock(t *testing.T) {
	s := fetched(t, setOf(t, edKey(t, "a")))
	had := s.Status().LastSuccess
	for _, test := range []struct {
		age  time.Duration
		want error
	}{{-time.Hour, nil}, {24*time.Hour - 1, nil}, {24 * time.Hour, auth.ErrUnavailable}} {
		if _, _, err := s.Keys(had.Add(test.age), "a", "EdDSA"); !errors.Is(err, test.want) {
			t.Errorf("at an age of %v: error %v, want %v", test.age, err, test.want)
		}
	}
}

func TestGenerationChangesWithTheKeysOnly(t *testing.T) {
	a, b := edKey(t, "a"), edKey(t, "b")
	s, i := newSet(t, setOf(t, a, b))
	steps := []struct {
		intent string
		body   []byte
		want   uint64
	}{
		{"the first set", setOf(t, a, b), 1},
		{"the same bytes", setOf(t, a, b), 1},
		{"the same keys in another order", setOf(t, b, a), 1},
		{"a key is gone", setOf(t, b), 2},
		{"it is back: tokens of its time may have been refused", setOf(t, a, b), 3},
	}
	for _, step := range steps {
		i.does(serves(http.StatusOK, step.body))
		must(t, s.Fetch(t.Context()))
		if _, got, err := s.Keys(time.Now(), "b", "EdDSA"); err != nil || got != step.want || s.Generation() != step.want {
			t.Errorf("%s: generation %d, error %v; want %d", step.intent, got, err, step.want)
		}
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jwks.json")
	s, err := New(Config{Source: path, Refresh: time.Minute})
	must(t, err)
	write := func(data []byte) { must(t, os.WriteFile(path, data, 0o600)) }
	if err := s.Fetch(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: error %v", err)
	}
	write(setOf(t, edKey(t, "a")))
	must(t, s.Fetch(t.Context()))
	if !works(s, "a") {
		t.Error("the file's key is not there")
	}
	write(setOf(t, edKey(t, "b")))
	must(t, s.Fetch(t.Context()))
	if works(s, "a") || !works(s, "b") {
		t.Error("the changed file is not read again")
	}
	write(bytes.Repeat([]byte(" "), bodyMax+1))
	if err := s.Fetch(t.Context()); !errors.Is(err, errTooLarge) || !works(s, "b") {
		t.Errorf("a huge file: error %v", err)
	}
	folder, err := New(Config{Source: filepath.Dir(path), Refresh: time.Minute})
	must(t, err)
	if err := folder.Fetch(t.Context()); !errors.Is(err, errIrregular) {
		t.Errorf("a folder: error %v, want %v", err, errIrregular)
	}
}

// A set for a new configuration begins with the keys of the last one, and with their age.
func TestAdopt(t *testing.T) {
	last, i := newSet(t, setOf(t, edKey(t, "a")))
	if next, _ := newSet(t, nil); next.Adopt(last) {
		t.Error("keys were taken over from a set that has none")
	}
	if err := last.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	next, _ := newSet(t, nil)
	i.does(isDown)
	if !next.Adopt(last) {
		t.Fatal("nothing was taken over")
	}
	now := time.Now()
	if keys, _, err := next.Keys(now, "a", "EdDSA"); err != nil || len(keys) != 1 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	if _, _, err := next.Keys(now.Add(1000*time.Hour), "a", "EdDSA"); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("keys that were taken over do not age: %v", err)
	}
}
