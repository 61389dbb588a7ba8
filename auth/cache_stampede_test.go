package auth

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"
)

func TestStampede(t *testing.T) {
	const callers = 64
	good := sealed("ES256", jwtClaims)
	bad := []byte(good)
	if c := &bad[len(bad)-10]; *c == 'A' { // still a letter of base64url, so that it is the signature that is wrong
		*c = 'B'
	} else {
		*c = 'A'
	}
	tests := []struct {
		intent   string
		token    string
		cache    int
		want     error
		verified uint64
	}{
		{"a good token", good, 100, nil, 1},
		{"a good token and no cache", good, 0, nil, 1},
		{"a bad token", string(bad), 100, ErrInvalid, 0},
	}
	for _, test := range tests {
		synctest.Test(t, func(t *testing.T) {
			config := jwtConfig(t)
			config.Cache = test.cache
			set := config.Keys.(*fixedKeys)
			set.hold = make(chan struct{})
			i := newTestIssuer(t, config)
			principals := make([]*Principal, callers)
			var all sync.WaitGroup
			for n := range callers {
				all.Go(func() {
					var err error
					principals[n], err = i.Authenticate(t.Context(), []byte(test.token), jwtNow())
					if test.want == nil && err != nil || !errors.Is(err, test.want) {
						t.Errorf("%s: %v, want %v", test.intent, err, test.want)
					}
				})
			}
			synctest.Wait() // one asks for keys, all others wait for it
			close(set.hold)
			all.Wait()
			if got := set.asked.Load(); got != 1 {
				t.Errorf("%s: the signature was verified %d times", test.intent, got)
			}
			for _, p := range principals {
				if p != principals[0] {
					t.Errorf("%s: several principals for one token", test.intent)
				}
			}
			if got := i.Stats(); got.Verified != test.verified || got.Misses != callers {
				t.Errorf("%s: %+v", test.intent, got)
			}
			if len(i.flights) != 0 {
				t.Errorf("%s: %d verifications are still known", test.intent, len(i.flights))
			}
			if test.want != nil && i.cache.remembered() != 0 {
				t.Errorf("%s: it was remembered", test.intent)
			}
		})
	}
}

// TestStampedeUnarranged lets the callers come as they may: some before the verification ends, some as it does.
func TestStampedeUnarranged(t *testing.T) {
	for range 50 {
		config := jwtConfig(t)
		config.Cache = 100
		set := config.Keys.(*fixedKeys)
		i := newTestIssuer(t, config)
		token := []byte(sealed("EdDSA", jwtClaims))
		var all sync.WaitGroup
		for range 64 {
			all.Go(func() {
				if _, err := i.Authenticate(t.Context(), token, jwtNow()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if asked, stats := set.asked.Load(), i.Stats(); asked != 1 || stats.Verified != 1 || stats.Hits+stats.Misses != 64 {
			t.Fatalf("%d verifications, %+v", asked, stats)
		}
	}
}

func TestStampedeThatIsLeft(t *testing.T) {
	k := theJWTKeys()
	token := []byte(seal("RS256", `{"alg":"RS256","kid":"new"}`, jwtClaims))
	synctest.Test(t, func(t *testing.T) {
		config := jwtConfig(t)
		set := config.Keys.(*fixedKeys)
		set.missed = func(ctx context.Context) bool {
			select {
			case <-ctx.Done():
				return false
			case <-time.After(time.Minute):
				set.change(publicJWK(t, "new", &k.rsa.PublicKey))
				return true
			}
		}
		i := newTestIssuer(t, config)
		call := func(ctx context.Context) <-chan error {
			answer := make(chan error, 1)
			go func() {
				_, err := i.Authenticate(ctx, token, jwtNow())
				answer <- err
			}()
			synctest.Wait()
			return answer
		}
		first, leave := context.WithCancel(t.Context())
		leader := call(first)
		hasty, hurry := context.WithTimeout(t.Context(), time.Second)
		defer hurry()
		impatient, patient := call(hasty), call(t.Context())
		time.Sleep(2 * time.Second)
		synctest.Wait()
		select {
		case err := <-impatient:
			if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("whose time is up: %v", err)
			}
		default:
			t.Error("whose time is up still waits")
		}
		leave()
		if err := <-leader; !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("who left: %v", err)
		}
		if err := <-patient; err != nil {
			t.Errorf("who stayed: %v", err)
		}
	})
}

// TestStampedeAfterChange: a verification that began before a change of keys is no proof for those who came after it.
func TestStampedeAfterChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := jwtConfig(t)
		config.Cache = 10
		set := config.Keys.(*fixedKeys)
		i := newTestIssuer(t, config)
		slow := &slowKeys{fixedKeys: set, after: make(chan struct{})}
		i.config.Keys = slow
		token := []byte(sealed("ES256", jwtClaims))
		answers := make(chan error, 2)
		call := func() {
			_, err := i.Authenticate(t.Context(), token, jwtNow())
			answers <- err
		}
		go call()
		synctest.Wait() // the keys are found, and not yet used
		set.change()
		go call()
		synctest.Wait()
		close(slow.after)
		first, second := <-answers, <-answers
		if first == nil && second == nil {
			t.Error("a token was accepted by keys that had been withdrawn when it came")
		}
		if _, err := i.Authenticate(t.Context(), token, jwtNow()); !errors.Is(err, ErrInvalid) {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// slowKeys finds keys at once, and hands them out later.
type slowKeys struct {
	*fixedKeys
	after chan struct{}
}

func (s *slowKeys) Keys(now time.Time, kid, alg string) ([]jwk.Key, uint64, error) {
	keys, generation, err := s.fixedKeys.Keys(now, kid, alg)
	<-s.after
	return keys, generation, err
}
