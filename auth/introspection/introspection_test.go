package introspection

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

// server is an authority without a network, so that it can live in a test's own time.
type server struct {
	mu     sync.Mutex
	answer func(*http.Request) (*http.Response, error)
	asked  int
	now    int // requests under way
	most   int // at once
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.asked++
	s.now++
	s.most = max(s.most, s.now)
	answer := s.answer
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.now--
		s.mu.Unlock()
	}()
	return answer(r)
}

func (s *server) does(answer func(*http.Request) (*http.Response, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// count is how many requests there were since the last call.
func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.asked
	s.asked = 0
	return n
}

func says(status int, body string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
}

// knows says of tokens that begin with "good" that they are active, each for a client of that name.
func knows(r *http.Request) (*http.Response, error) {
	if token := r.PostFormValue("token"); strings.HasPrefix(token, "good") {
		return says(http.StatusOK, fmt.Sprintf(`{"active":true,"client_id":%q}`, token))(r)
	}
	return says(http.StatusOK, `{"active":false}`)(r)
}

func slowly(d time.Duration, answer func(*http.Request) (*http.Response, error)) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		select {
		case <-time.After(d):
			return answer(r)
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
}

func isDown(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newIntrospector asks a server that knows its tokens. Answers are kept for 30 s.
func newIntrospector(t testing.TB, change ...func(*Config)) (*Introspector, *server) {
	t.Helper()
	s := &server{answer: knows}
	config := Config{
		Name:         "partner",
		URL:          "https://authority.example/introspect",
		ClientID:     "gateway",
		ClientSecret: "secret",
		CacheTTL:     30 * time.Second,
		CacheSize:    1000,
		Client:       &http.Client{Transport: s},
		Random:       func() float64 { return 0 },
	}
	for _, change := range change {
		change(&config)
	}
	i, err := New(config)
	must(t, err)
	t.Cleanup(i.Close)
	return i, s
}

func (i *Introspector) ask1(t testing.TB, token string) (*auth.Principal, error) {
	t.Helper()
	p, err := i.Authenticate(t.Context(), []byte(token), time.Now())
	if (p == nil) == (err == nil) {
		t.Fatalf("principal %v and error %v", p, err)
	}
	return p, err
}

func TestNewRefuses(t *testing.T) {
	good := Config{Name: "n", URL: "https://a.example/", ClientID: "c"}
	tests := []struct {
		intent string
		change func(*Config)
	}{
		{"no URL", func(c *Config) { c.URL = "" }},
		{"another scheme", func(c *Config) { c.URL = "ftp://a.example/" }},
		{"no host", func(c *Config) { c.URL = "https:///introspect" }},
		{"two ways to say who we are", func(c *Config) { c.URL = "https://user:pass@a.example/" }},
		{"no URL at all", func(c *Config) { c.URL = "://" }},
		{"no name", func(c *Config) { c.Name = "" }},
		{"no client", func(c *Config) { c.ClientID = "" }},
		{"a cache without bounds", func(c *Config) { c.CacheSize = sizeMax + 1 }},
		{"a cache of less than nothing", func(c *Config) { c.CacheSize = -1 }},
		{"a time before now", func(c *Config) { c.CacheTTL = -1 }},
	}
	if i, err := New(good); err != nil {
		t.Errorf("as it should be: %v", err)
	} else {
		i.Close()
	}
	for _, test := range tests {
		c := good
		test.change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", test.intent)
		} else if strings.Contains(err.Error(), "pass@") {
			t.Errorf("%s: %v shows the password", test.intent, err)
		}
	}
}

func TestTokensOfNoShapeAreNotAskedAbout(t *testing.T) {
	i, s := newIntrospector(t)
	for intent, token := range map[string]string{
		"empty":            "",
		"too long":         "good" + strings.Repeat("x", tokenMax-3),
		"a space":          "good token",
		"a line break":     "good\n",
		"not ASCII":        "goodé",
		"a zero":           "good\x00",
		"a delete":         "good\x7f",
		"not even Unicode": "good\xff",
	} {
		if _, err := i.ask1(t, token); !errors.Is(err, auth.ErrInvalid) {
			t.Errorf("%s: error %v, want %v", intent, err, auth.ErrInvalid)
		}
	}
	if n := s.count(); n != 0 {
		t.Errorf("the authority was asked %d times", n)
	}
	if _, err := i.ask1(t, "good"+strings.Repeat("x", nameMax-4)); err != nil {
		t.Error(err)
	}
	if _, err := i.ask1(t, strings.Repeat("x", tokenMax)); s.count() != 2 {
		t.Errorf("the longest token is not asked about: %v", err)
	}
}

func TestAnswersAreRemembered(t *testing.T) {
	const s = time.Second
	in := func(d time.Duration) string {
		return fmt.Sprintf(`{"active":true,"client_id":"c","exp":%d}`, time.Now().Add(d).Unix())
	}
	tests := []struct {
		intent string
		answer func() string
		ttl    time.Duration
		want   time.Duration // for how long
		end    error         // of the token, as far as the authority still says the same
	}{
		{"active: for the TTL", func() string { return `{"active":true,"client_id":"c"}` }, 30 * s, 30 * s, nil},
		{"it lives longer", func() string { return in(time.Hour) }, 30 * s, 30 * s, nil},
		{"it ends sooner", func() string { return in(10 * s) }, 30 * s, 10 * s, auth.ErrInvalid},
		{"not active: for 5 s", func() string { return `{"active":false}` }, 30 * s, 5 * s, auth.ErrInvalid},
		{"not active: no longer than the TTL", func() string { return `{"active":false}` }, 3 * s, 3 * s, auth.ErrInvalid},
	}
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i, server := newIntrospector(t, func(c *Config) { c.CacheTTL = test.ttl })
				server.does(says(http.StatusOK, test.answer()))
				first, err := i.ask1(t, "token")
				time.Sleep(test.want - 1)
				again, errAgain := i.ask1(t, "token")
				if n := server.count(); n != 1 || again != first || fmt.Sprint(err) != fmt.Sprint(errAgain) {
					t.Errorf("asked %d times before %v, want once and the same answer", n, test.want)
				}
				time.Sleep(1)
				if _, err := i.ask1(t, "token"); server.count() != 1 || !errors.Is(err, test.end) {
					t.Errorf("not asked again after %v, or error %v", test.want, err)
				}
			})
		})
	}
}

func TestWithoutCacheEveryRequestIsAsked(t *testing.T) {
	i, s := newIntrospector(t, func(c *Config) { c.CacheTTL = 0 })
	for range 3 {
		if _, err := i.ask1(t, "good"); err != nil {
			t.Error(err)
		}
	}
	if n := s.count(); n != 3 {
		t.Errorf("asked %d times, want 3", n)
	}
}

func TestStampede(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, s := newIntrospector(t)
		s.does(slowly(time.Second, knows))
		var all sync.WaitGroup
		principals := make([]*auth.Principal, 1000)
		for n := range principals {
			all.Go(func() { principals[n], _ = i.ask1(t, "good") })
		}
		all.Wait()
		for _, p := range principals {
			if p == nil || p != principals[0] {
				t.Fatalf("principals %v and %v, want one for all", p, principals[0])
			}
		}
		if n := s.count(); n != 1 {
			t.Errorf("asked %d times about one token, want once", n)
		}
	})
}

func TestWaitersLeaveWithoutTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, s := newIntrospector(t)
		s.does(slowly(time.Second, knows))
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() { // the first, who caused the request
			_, err := i.Authenticate(ctx, []byte("good"), time.Now())
			if !errors.Is(err, auth.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the one that left: error %v", err)
			}
		})
		synctest.Wait()
		if _, err := i.ask1(t, "good"); err != nil {
			t.Errorf("the one that stayed: error %v", err)
		}
		all.Wait()
		if n := s.count(); n != 1 {
			t.Errorf("asked %d times, want once", n)
		}
	})
}

func TestTokenMayBeOverwritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, s := newIntrospector(t)
		for range requestsMax { // so that the question is put after the buffer has gone to the next request
			i.slots <- struct{}{}
		}
		token := []byte("good-1")
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, _ = i.Authenticate(ctx, token, time.Now())
		copy(token, "evil-1")
		for range requestsMax {
			<-i.slots
		}
		synctest.Wait()
		if p, err := i.ask1(t, "good-1"); err != nil || p.Client != "good-1" || s.count() != 1 {
			t.Errorf("principal %v, error %v", p, err)
		}
		if _, err := i.ask1(t, "evil-1"); !errors.Is(err, auth.ErrInvalid) {
			t.Errorf("error %v, want %v", err, auth.ErrInvalid)
		}
	})
}

func TestRequestsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, s := newIntrospector(t)
		s.does(slowly(600*time.Millisecond, knows))
		var all sync.WaitGroup
		var mu sync.Mutex
		passed, late := 0, 0
		for n := range requestsMax * 4 {
			all.Go(func() {
				_, err := i.ask1(t, fmt.Sprint("good-", n))
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					passed++
				case errors.Is(err, auth.ErrUnavailable):
					late++
				default:
					t.Error(err)
				}
			})
		}
		began := time.Now()
		all.Wait()
		if took := time.Since(began); took > defaultTimeout {
			t.Errorf("the last waited for %v, want %v at most", took, defaultTimeout)
		}
		// Three rounds of 0.6 s fit into the timeout of 2 s; the fourth does not.
		if s.most != requestsMax || passed != 3*requestsMax || late != requestsMax {
			t.Errorf("%d at once, %d passed, %d too late; want %d, %d, %d", s.most, passed, late, requestsMax, 3*requestsMax, requestsMax)
		}
	})
}

func TestWaitingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, s := newIntrospector(t)
		s.does(slowly(time.Second, knows))
		var all sync.WaitGroup
		for n := range flightsMax {
			all.Go(func() { _, _ = i.ask1(t, fmt.Sprint("good-", n)) })
		}
		synctest.Wait()
		began := time.Now()
		if _, err := i.ask1(t, "good"); !errors.Is(err, auth.ErrUnavailable) || time.Since(began) != 0 {
			t.Errorf("error %v after %v, want %v at once", err, time.Since(began), auth.ErrUnavailable)
		}
		all.Wait()
		if n := len(i.flights); n != 0 {
			t.Errorf("%d flights are left over", n)
		}
	})
}

func TestBadTokensDoNotEvictGoodOnes(t *testing.T) {
	i, s := newIntrospector(t, func(c *Config) { c.CacheSize = 8 })
	for n := range 4 {
		_, err := i.ask1(t, fmt.Sprint("good-", n))
		must(t, err)
	}
	for n := range 1000 {
		if _, err := i.ask1(t, fmt.Sprint("bad-", n)); !errors.Is(err, auth.ErrInvalid) {
			t.Fatal(err)
		}
	}
	s.count()
	for n := range 4 {
		_, err := i.ask1(t, fmt.Sprint("good-", n))
		must(t, err)
	}
	if n := s.count(); n != 0 {
		t.Errorf("asked again about %d good tokens", n)
	}
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which fails when a goroutine is left
		i, s := newIntrospector(t)
		_, err := i.ask1(t, "good")
		must(t, err)
		s.does(slowly(time.Hour, knows))
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := i.ask1(t, "good-2"); !errors.Is(err, auth.ErrUnavailable) {
				t.Errorf("under way: error %v, want %v", err, auth.ErrUnavailable)
			}
		})
		synctest.Wait()
		began := time.Now()
		i.Close()
		all.Wait()
		if took := time.Since(began); took != 0 {
			t.Errorf("Close waited for %v, want it to call off what is under way", took)
		}
		if _, err := i.ask1(t, "good-3"); !errors.Is(err, errClosed) {
			t.Errorf("after Close: error %v, want %v", err, errClosed)
		}
		if _, err := i.ask1(t, "good"); err != nil {
			t.Errorf("a token that is remembered: %v", err)
		}
	})
}
