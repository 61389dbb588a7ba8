package auth

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"
	"pgregory.net/rapid"
)

// remembered is how many tokens a cache holds.
func (c *cache) remembered() (n int) {
	for s := range c.sets {
		for w := range c.ways {
			if c.sets[s].entries[w].Load() != nil {
				n++
			}
		}
	}
	return n
}

func testEntry(token string, until time.Time) *entry {
	return &entry{token: token, proof: proof{principal: &Principal{Client: token}, until: until}}
}

func TestCacheStaysWithinItsSize(t *testing.T) {
	for _, size := range []int{1, 2, 7, 8, 9, 100, 1000} {
		c := newCache(size)
		for n := range 20 * size {
			token := fmt.Sprint("token ", n)
			c.put(c.hash([]byte(token)), testEntry(token, time.Time{}), jwtNow())
			if e := c.find(c.hash([]byte(token)), []byte(token)); e == nil || e.token != token {
				t.Fatalf("size %d: token %d is not found when it has just been put", size, n)
			}
		}
		if got := c.remembered(); got > size || got < size-size%ways && size > ways {
			t.Errorf("size %d: %d entries", size, got)
		}
	}
}

// TestCacheFills: two sets to choose from are there so that a cache as large as the number of tokens holds most of them.
func TestCacheFills(t *testing.T) {
	const size = 8192
	c := newCache(size)
	token := func(n int) string { return fmt.Sprint("token ", n) }
	for n := range size {
		c.put(c.hash([]byte(token(n))), testEntry(token(n), time.Time{}), jwtNow())
	}
	found := 0
	for n := range size {
		if c.find(c.hash([]byte(token(n))), []byte(token(n))) != nil {
			found++
		}
	}
	if found < size*95/100 {
		t.Errorf("%d of %d tokens are remembered", found, size)
	}
	if got := c.remembered(); got < found {
		t.Errorf("%d tokens are found, and %d remembered", found, got)
	}
}

func TestCacheKeepsWhatIsUsed(t *testing.T) {
	c := newCache(64)
	hot := []byte("hot")
	c.put(c.hash(hot), testEntry("hot", time.Time{}), jwtNow())
	for n := range 10_000 {
		if c.find(c.hash(hot), hot) == nil {
			t.Fatalf("a token in use gave way to the %d. that was used once", n)
		}
		token := fmt.Sprint("token ", n)
		c.put(c.hash([]byte(token)), testEntry(token, time.Time{}), jwtNow())
	}
}

func TestCachePrefersTheDead(t *testing.T) {
	c := newCache(ways) // one set
	for n := range ways {
		token := fmt.Sprint("token ", n)
		until := jwtNow().Add(time.Hour)
		if n == 3 {
			until = jwtNow()
		}
		c.put(c.hash([]byte(token)), testEntry(token, until), jwtNow().Add(-time.Minute))
	}
	c.put(c.hash([]byte("new")), testEntry("new", time.Time{}), jwtNow())
	for n := range ways {
		token := []byte(fmt.Sprint("token ", n))
		if found := c.find(c.hash(token), token) != nil; found != (n != 3) {
			t.Errorf("token %d: found %t", n, found)
		}
	}
}

// TestCacheTakesTurns: what nobody asks for goes, the oldest first.
func TestCacheTakesTurns(t *testing.T) {
	c := newCache(ways) // one set
	token := func(n int) string { return fmt.Sprint("token ", n) }
	for n := range 5 * ways {
		c.put(c.hash([]byte(token(n))), testEntry(token(n), time.Time{}), jwtNow())
		for old := range n {
			found := c.find(c.hash([]byte(token(old))), []byte(token(old))) != nil
			if found != (old > n-ways) {
				t.Errorf("token %d is found: %t, when %d is the last", old, found, n)
			}
		}
		c.sets[0].used.Store(0) // looking made them used
	}
}

func TestCacheComparesWholeTokens(t *testing.T) {
	c := newCache(ways)
	c.put(42, testEntry("one", time.Time{}), jwtNow())
	if e := c.find(42, []byte("two")); e != nil {
		t.Errorf("another token of the same hash is taken for %q", e.token)
	}
	c.put(42, testEntry("two", time.Time{}), jwtNow())
	for _, token := range []string{"one", "two"} {
		if e := c.find(42, []byte(token)); e == nil || e.token != token {
			t.Errorf("%q is not found beside another of the same hash", token)
		}
	}
	again := testEntry("one", time.Time{})
	c.put(42, again, jwtNow())
	if c.find(42, []byte("one")) != again || c.remembered() != 2 {
		t.Errorf("a newer proof does not take the place of the old one: %d entries", c.remembered())
	}
	c.drop(42, again)
	if c.find(42, []byte("one")) != nil || c.remembered() != 1 {
		t.Error("what was dropped is found")
	}
}

func TestCacheUnderConcurrency(t *testing.T) {
	c := newCache(32)
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for n := range 3000 {
				text := fmt.Sprint("token ", (n*7+g)%100)
				token := []byte(text)
				hash := c.hash(token)
				e := c.find(hash, token)
				switch {
				case e == nil:
					c.put(hash, testEntry(text, time.Time{}), jwtNow())
				case e.token != text || e.proof.principal.Client != text:
					t.Errorf("%q is found as %q", text, e.token)
				case n%13 == 0:
					c.drop(hash, e)
				}
			}
		})
	}
	all.Wait()
	if got := c.remembered(); got > 32 {
		t.Errorf("%d entries in a cache for 32", got)
	}
}

// TestCachedAnswersAreTheSame holds an issuer with a small cache against one without, at any times, over changes of keys.
func TestCachedAnswersAreTheSame(t *testing.T) {
	k := theJWTKeys()
	kept, lost := publicJWK(t, "EdDSA", k.edwards.Public()), publicJWK(t, "ES256", &k.p256.PublicKey)
	var tokens []string
	for _, alg := range []string{"EdDSA", "ES256", "HS256"} {
		for n, dates := range []string{
			`"exp":1800000000`, `"exp":1800000100`, `"exp":1800000100.5`, `"nbf":1800000050,"exp":1800000100`, `"iat":1800000050`,
			`"exp":1800000000,"nbf":1800000090`, `"x":1`, `"nbf":1800000020,"iat":1800000060,"exp":1800000200`,
		} {
			tokens = append(tokens, sealed(alg, fmt.Sprintf(`{"iss":%q,"aud":"api","sub":"user %d",%s}`, jwtIssuer, n, dates)))
		}
		bad := []byte(tokens[len(tokens)-1])
		bad[len(bad)-10] ^= 1
		tokens = append(tokens, string(bad))
	}
	hits := uint64(0)
	rapid.Check(t, func(t *rapid.T) {
		set := &fixedKeys{
			keys:      []jwk.Key{kept, lost},
			staleFrom: jwtNow().Add(time.Duration(rapid.IntRange(-50, 300).Draw(t, "stale")) * time.Second),
		}
		config := IssuerConfig{
			Name: "main", Issuer: jwtIssuer, Audiences: []string{"api"}, Algorithms: []string{"EdDSA", "ES256", "HS256"}, Keys: set,
			Secret: []byte(jwtSecret), Leeway: time.Duration(rapid.IntRange(0, 30).Draw(t, "leeway")) * time.Second, Client: "sub",
		}
		plain := newTestIssuerRapid(t, config)
		config.Cache = rapid.IntRange(1, 40).Draw(t, "size")
		cached := newTestIssuerRapid(t, config)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 20).Draw(t, "step") {
			case 0:
				set.change(kept)
			case 1:
				set.change(kept, lost)
			case 2: // the issuer was heard from again; time never takes that back
				set.staleFrom = set.staleFrom.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "heard")) * time.Second)
			}
			now := jwtNow().Add(time.Duration(rapid.IntRange(-200, 1000).Draw(t, "now")) * time.Second / 4)
			token := []byte(rapid.SampledFrom(tokens).Draw(t, "token"))
			want, wantErr := plain.Authenticate(context.Background(), token, now)
			got, gotErr := cached.Authenticate(context.Background(), token, now)
			if fmt.Sprint(gotErr) != fmt.Sprint(wantErr) || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
				t.Fatalf("at %v: %+v, %v with a cache, and %+v, %v without", now, got, gotErr, want, wantErr)
			}
			if got != nil && got.Expired(now) {
				t.Fatalf("at %v: accepted, and expired at %v", now, got.Expires)
			}
		}
		hits += cached.Stats().Hits
	})
	if hits == 0 {
		t.Error("no answer came from a cache: nothing was compared")
	}
}

func newTestIssuerRapid(t *rapid.T, config IssuerConfig) *Issuer {
	i, err := NewIssuer(config)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestBadTokensEvictNothing(t *testing.T) {
	config := jwtConfig(t)
	config.Cache = 16
	i := newTestIssuer(t, config)
	good := []byte(sealed("EdDSA", jwtClaims))
	if _, err := i.Authenticate(t.Context(), good, jwtNow()); err != nil {
		t.Fatal(err)
	}
	before := i.Stats()
	for n := range 500 {
		bad := []byte(sealed("EdDSA", with(fmt.Sprintf(`"n":%d`, n))))
		bad[len(bad)-10] ^= 1
		if _, err := i.Authenticate(t.Context(), bad, jwtNow()); !errors.Is(err, ErrInvalid) {
			t.Fatalf("a bad token: %v", err)
		}
	}
	if n := i.cache.remembered(); n != 1 {
		t.Errorf("%d tokens are remembered, and one was good", n)
	}
	if _, err := i.Authenticate(t.Context(), good, jwtNow()); err != nil {
		t.Fatal(err)
	}
	after := i.Stats()
	if after.Hits != before.Hits+1 || after.Verified != before.Verified || after.Refused != before.Refused+500 {
		t.Errorf("%+v, and before the bad tokens %+v", after, before)
	}
}

func TestCacheForgets(t *testing.T) {
	config := jwtConfig(t)
	config.Cache = 16
	set := config.Keys.(*fixedKeys)
	i := newTestIssuer(t, config)
	token := []byte(sealed("EdDSA", jwtClaims))
	authenticate := func(now time.Time) error {
		_, err := i.Authenticate(t.Context(), token, now)
		return err
	}
	if err := errors.Join(authenticate(jwtNow()), authenticate(jwtNow())); err != nil || i.Stats().Hits != 1 {
		t.Fatalf("%v, %+v", err, i.Stats())
	}
	set.generation.Add(1)
	if err := authenticate(jwtNow()); err != nil || i.Stats().Verified != 2 || i.cache.remembered() != 1 {
		t.Errorf("after a change of keys: %v, %+v, %d remembered", err, i.Stats(), i.cache.remembered())
	}
	set.change()
	if err := authenticate(jwtNow()); !errors.Is(err, ErrInvalid) {
		t.Errorf("after its key was withdrawn: %v", err)
	}
	set.change(theJWTKeys().public(t)...)
	if err := authenticate(jwtNow()); err != nil {
		t.Errorf("after its key came back: %v", err)
	}
	if err := authenticate(time.Unix(1800000630, 0)); !errors.Is(err, ErrInvalid) || i.cache.remembered() != 0 {
		t.Errorf("past its end: %v, %d remembered", err, i.cache.remembered())
	}
}
