package introspection

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

func TestAuthorityThatIsDownIsNotHammered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var events []Event
		i, s := newIntrospector(t, func(c *Config) {
			c.Report = func(e Event) {
				mu.Lock()
				defer mu.Unlock()
				events = append(events, e)
			}
		})
		_, err := i.ask1(t, "good-before")
		must(t, err)
		s.does(isDown)
		s.count()
		const seconds, rate = 10, 1000
		for n := range seconds * rate {
			if _, err := i.ask1(t, fmt.Sprint("good-", n)); !errors.Is(err, auth.ErrUnavailable) {
				t.Fatal(err)
			}
			time.Sleep(time.Second / rate)
		}
		if n := s.count(); n < seconds || n > seconds*2 {
			t.Errorf("asked %d times in %d s, want one or two every second", n, seconds)
		}
		if !i.Down(time.Now()) || events[0].Err != nil || events[0].Down || events[1].Err == nil || !events[len(events)-1].Down {
			t.Errorf("reports %+v, want an answer, failures, and that it is down", events)
		}
		if _, err := i.ask1(t, "good-before"); err != nil {
			t.Errorf("a token that is remembered: %v", err)
		}
		s.does(knows)
		time.Sleep(longPause)
		if _, err := i.ask1(t, "good-again"); err != nil || i.Down(time.Now()) {
			t.Errorf("it does not recover: %v", err)
		}
	})
}

func TestOneRequestTriesWhetherItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, s := newIntrospector(t)
		s.does(isDown)
		for n := range failuresMax {
			_, _ = i.ask1(t, fmt.Sprint("good-", n))
		}
		s.does(slowly(time.Second, knows))
		time.Sleep(firstPause)
		s.count()
		var all sync.WaitGroup
		var mu sync.Mutex
		passed := 0
		began := time.Now()
		for n := range 100 {
			all.Go(func() {
				_, err := i.ask1(t, fmt.Sprint("good-", n))
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					passed++
				} else if time.Since(began) != 0 {
					t.Errorf("refused after %v, want at once", time.Since(began))
				}
			})
			synctest.Wait()
		}
		all.Wait()
		if n := s.count(); n != 1 || passed != 1 {
			t.Errorf("%d requests, %d passed; want 1 and 1", n, passed)
		}
	})
}

func TestHangingAuthority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, s := newIntrospector(t)
		s.does(slowly(time.Hour, knows))
		began := time.Now()
		var all sync.WaitGroup
		for n := range 3 * requestsMax {
			all.Go(func() {
				if _, err := i.ask1(t, fmt.Sprint("good-", n)); !errors.Is(err, auth.ErrUnavailable) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took != defaultTimeout {
			t.Errorf("refused after %v, want %v", took, defaultTimeout)
		}
		began = time.Now()
		if _, err := i.ask1(t, "good"); !errors.Is(err, errDown) || time.Since(began) != 0 {
			t.Errorf("the next: error %v after %v, want %v at once", err, time.Since(began), errDown)
		}
	})
}

func TestWhatCountsAsDown(t *testing.T) {
	tests := []struct {
		intent string
		answer func(*http.Request) (*http.Response, error)
		want   bool
	}{
		{"no connection", isDown, true},
		{"an error of its own", says(http.StatusInternalServerError, ""), true},
		{"too many requests", says(http.StatusTooManyRequests, ""), true},
		{"our credentials are wrong: repeating them may lock the account", says(http.StatusUnauthorized, ""), true},
		{"a page instead of an answer", says(http.StatusOK, "<html>"), true},
		{"it dislikes a token: clients choose those", says(http.StatusBadRequest, `{"error":"invalid_request"}`), false},
		{"no", says(http.StatusOK, `{"active":false}`), false},
		{"yes, with nonsense", says(http.StatusOK, `{"active":true,"exp":"x","client_id":"c"}`), false},
	}
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			i, s := newIntrospector(t)
			s.does(test.answer)
			for n := range failuresMax {
				_, _ = i.ask1(t, fmt.Sprint("good-", n))
			}
			if got := i.Down(time.Now()); got != test.want {
				t.Errorf("down %v, want %v", got, test.want)
			}
			s.does(knows)
			_, _ = i.ask1(t, "good")
		})
	}
}

// One answer among failures shows that the authority lives.
func TestCircuitStaysClosedAmongAnswers(t *testing.T) {
	i, s := newIntrospector(t)
	for n := range 10 * failuresMax {
		s.does(isDown)
		if n%failuresMax == 0 {
			s.does(knows)
		}
		_, _ = i.ask1(t, fmt.Sprint("good-", n))
	}
	if n := s.count(); n != 10*failuresMax {
		t.Errorf("asked %d times, want every time", n)
	}
}
