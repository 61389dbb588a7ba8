package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
)

const (
	jwtIssuer = "https://auth.example.com/"
	jwtSecret = "0123456789abcdef0123456789abcdef"
	jwtClaims = `{"iss":"https://auth.example.com/","aud":"api","sub":"alice","exp":1800000600}`
)

// jwtNow is when the tests' tokens are valid.
func jwtNow() time.Time { return time.Unix(1_800_000_000, 0) }

// jwtKeys is the keys that the tests' tokens are signed with, and that issuers know by their alg as kid.
type jwtKeys struct {
	rsa     *rsa.PrivateKey
	weak    *rsa.PrivateKey // 1024 bits
	p256    *ecdsa.PrivateKey
	p384    *ecdsa.PrivateKey
	p521    *ecdsa.PrivateKey
	edwards ed25519.PrivateKey
	other   *rsa.PrivateKey // no issuer knows it
}

var theJWTKeys = sync.OnceValue(func() *jwtKeys {
	bigRSA := func() *rsa.PrivateKey { return mustJWT(rsa.GenerateKey(rand.Reader, 2048)) }
	curve := func(c elliptic.Curve) *ecdsa.PrivateKey { return mustJWT(ecdsa.GenerateKey(c, rand.Reader)) }
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return &jwtKeys{
		rsa: bigRSA(), other: bigRSA(), weak: weakRSA(),
		p256: curve(elliptic.P256()), p384: curve(elliptic.P384()), p521: curve(elliptic.P521()), edwards: edwards,
	}
})

// weakRSA makes a key of 1024 bits, which the standard library only does when told to.
func weakRSA() *rsa.PrivateKey {
	for {
		p, q := mustJWT(rand.Prime(rand.Reader, 512)), mustJWT(rand.Prime(rand.Reader, 512))
		one := big.NewInt(1)
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		d := new(big.Int).ModInverse(big.NewInt(65537), phi)
		if n := new(big.Int).Mul(p, q); d != nil && n.BitLen() == 1024 {
			return &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: 65537}, D: d, Primes: []*big.Int{p, q}}
		}
	}
}

func mustJWT[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// public is all keys an issuer of the tests knows.
func (k *jwtKeys) public(t testing.TB) []jwk.Key {
	return []jwk.Key{
		publicJWK(t, "RS256", &k.rsa.PublicKey), publicJWK(t, "ES256", &k.p256.PublicKey), publicJWK(t, "ES384", &k.p384.PublicKey),
		publicJWK(t, "ES512", &k.p521.PublicKey), publicJWK(t, "EdDSA", k.edwards.Public()),
	}
}

func publicJWK(t testing.TB, kid string, key any) jwk.Key {
	t.Helper()
	made, err := jwk.FromRaw(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Set(jwk.KeyIDKey, kid); err != nil {
		t.Fatal(err)
	}
	return made
}

// fixedKeys is a set of keys that changes only by the test's hand.
type fixedKeys struct {
	mu         sync.Mutex
	keys       []jwk.Key
	anything   bool // whatever is asked for, all keys: a set that is broken
	generation atomic.Uint64
	asked      atomic.Int64 // calls of Keys
	missedKids []string
	missed     func(ctx context.Context) bool // what Missed does
	staleFrom  time.Time                      // zero: never
	hold       chan struct{}                  // not nil: Keys ends after it is closed
}

func (f *fixedKeys) Keys(now time.Time, kid, alg string) ([]jwk.Key, uint64, error) {
	f.asked.Add(1)
	if f.hold != nil {
		<-f.hold
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.staleFrom.IsZero() && !now.Before(f.staleFrom) {
		return nil, 0, ErrUnavailable
	}
	kty := map[byte]jwa.KeyType{'R': jwa.RSA, 'P': jwa.RSA, 'E': jwa.EC}[alg[0]]
	if alg == "EdDSA" {
		kty = jwa.OKP
	}
	found := slices.DeleteFunc(slices.Clone(f.keys), func(key jwk.Key) bool {
		return !f.anything && (key.KeyType() != kty || kid != "" && kid != key.KeyID())
	})
	return found, f.generation.Load(), nil
}

func (f *fixedKeys) Generation() uint64 { return f.generation.Load() }

func (f *fixedKeys) Missed(ctx context.Context, kid string) bool {
	f.mu.Lock()
	f.missedKids = append(f.missedKids, kid)
	missed := f.missed
	f.mu.Unlock()
	return missed != nil && missed(ctx)
}

// change replaces the keys.
func (f *fixedKeys) change(keys ...jwk.Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys = keys
	f.generation.Add(1)
}

func jwtConfig(t testing.TB) IssuerConfig {
	return IssuerConfig{
		Name: "main", Issuer: jwtIssuer, Audiences: []string{"api", "other-api"},
		Algorithms: []string{"RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA"},
		Keys:       &fixedKeys{keys: theJWTKeys().public(t)},
		Leeway:     30 * time.Second, Require: []string{"exp"}, Client: "sub",
	}
}

func newTestIssuer(t testing.TB, config IssuerConfig) *Issuer {
	t.Helper()
	i, err := NewIssuer(config)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// seal makes a token of a header and claims as they are, signed by alg with the tests' key for it. It
// shares no code with what verifies.
func seal(alg, header, claims string) string {
	input := b64(header) + "." + b64(claims)
	return input + "." + b64(string(signatureOf(alg, input)))
}

// sealed is a token with nothing odd about it but its claims.
func sealed(alg, claims string) string {
	return seal(alg, fmt.Sprintf(`{"alg":%q,"kid":%q}`, alg, strings.Replace(alg, "PS", "RS", 1)), claims)
}

func b64(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func signatureOf(alg, input string) []byte {
	k := theJWTKeys()
	hash := map[string]crypto.Hash{
		"RS256": crypto.SHA256, "PS256": crypto.SHA256, "ES256": crypto.SHA256, "ES384": crypto.SHA384, "ES512": crypto.SHA512,
	}[alg]
	var sum []byte
	if hash != 0 {
		h := hash.New()
		h.Write([]byte(input))
		sum = h.Sum(nil)
	}
	switch alg {
	case "RS256":
		return mustJWT(rsa.SignPKCS1v15(nil, k.rsa, hash, sum))
	case "PS256":
		return mustJWT(rsa.SignPSS(rand.Reader, k.rsa, hash, sum, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
	case "ES256":
		return rawECDSA(k.p256, sum)
	case "ES384":
		return rawECDSA(k.p384, sum)
	case "ES512":
		return rawECDSA(k.p521, sum)
	case "EdDSA":
		return ed25519.Sign(k.edwards, []byte(input))
	case "HS256":
		return hs256([]byte(jwtSecret), input)
	}
	panic("no algorithm " + alg)
}

func hs256(secret []byte, input string) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(input))
	return h.Sum(nil)
}

// rawECDSA signs as RFC 7518 section 3.4 has it: both numbers, each of the curve's length.
func rawECDSA(key *ecdsa.PrivateKey, sum []byte) []byte {
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(mustJWT(ecdsa.SignASN1(rand.Reader, key, sum)), &rs); err != nil {
		panic(err)
	}
	n := (key.Curve.Params().BitSize + 7) / 8
	return append(rs.R.FillBytes(make([]byte, n)), rs.S.FillBytes(make([]byte, n))...)
}

func TestIssuerAlgorithms(t *testing.T) {
	i := newTestIssuer(t, jwtConfig(t))
	for _, alg := range []string{"RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA"} {
		p, err := i.Authenticate(t.Context(), []byte(sealed(alg, jwtClaims)), jwtNow())
		if err != nil {
			t.Errorf("%s: %v", alg, err)
			continue
		}
		if p.Method != "jwt:main" || p.Client != "alice" || p.Issuer != jwtIssuer {
			t.Errorf("%s: %+v", alg, p)
		}
	}
	config := jwtConfig(t)
	config.Keys, config.Algorithms, config.Secret = nil, []string{"HS256"}, []byte(jwtSecret)
	i = newTestIssuer(t, config)
	if _, err := i.Authenticate(t.Context(), []byte(sealed("HS256", jwtClaims)), jwtNow()); err != nil {
		t.Errorf("HS256: %v", err)
	}
	want := IssuerStats{Misses: 1, Verified: 1}
	if got := i.Stats(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestNewIssuerRefuses(t *testing.T) {
	tests := []struct {
		intent string
		change func(*IssuerConfig)
		want   string // in the error; empty: none
	}{
		{"a configuration that is right", func(c *IssuerConfig) {}, ""},
		{"any issuer", func(c *IssuerConfig) { c.Issuer = "" }, "iss"},
		{"any audience", func(c *IssuerConfig) { c.Audiences = nil }, "aud"},
		{"an audience without a name", func(c *IssuerConfig) { c.Audiences = []string{"a", ""} }, "aud"},
		{"no algorithm", func(c *IssuerConfig) { c.Algorithms = nil }, "no algorithms"},
		{"none", func(c *IssuerConfig) { c.Algorithms = []string{"none"} }, `no algorithm "none"`},
		{"an algorithm in another case", func(c *IssuerConfig) { c.Algorithms = []string{"rs256"} }, `no algorithm "rs256"`},
		{"a curve nobody wants", func(c *IssuerConfig) { c.Algorithms = []string{"ES256K"} }, `no algorithm "ES256K"`},
		{"keys that are missing", func(c *IssuerConfig) { c.Keys = nil }, "key set"},
		{"a secret that is missing", func(c *IssuerConfig) { c.Algorithms = []string{"HS256"} }, "at least 32"},
		{"a short secret", func(c *IssuerConfig) { c.Algorithms, c.Secret = []string{"HS256"}, make([]byte, 31) }, "at least 32"},
		{"a secret shorter than the hash", func(c *IssuerConfig) { c.Algorithms, c.Secret = []string{"HS512"}, make([]byte, 63) }, "at least 64"},
		{"a secret for nothing", func(c *IssuerConfig) { c.Secret = []byte(jwtSecret) }, "no algorithm that uses it"},
		{"keys for nothing", func(c *IssuerConfig) { c.Algorithms, c.Secret = []string{"HS256"}, []byte(jwtSecret) }, "no algorithm that uses it"},
		{"a secret and keys, both of use", func(c *IssuerConfig) { c.Algorithms, c.Secret = []string{"HS256", "RS256"}, []byte(jwtSecret) }, ""},
		{"no client", func(c *IssuerConfig) { c.Client = "" }, "client"},
		{"a leeway the wrong way", func(c *IssuerConfig) { c.Leeway = -1 }, "leeway"},
		{"a cache of less than nothing", func(c *IssuerConfig) { c.Cache = -1 }, "cache"},
		{"a cache without bounds", func(c *IssuerConfig) { c.Cache = maxEntries + 1 }, "cache"},
	}
	for _, test := range tests {
		config := jwtConfig(t)
		test.change(&config)
		_, err := NewIssuer(config)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.intent, err, test.want)
		}
	}
}

func TestIssuerWithoutKeys(t *testing.T) {
	config := jwtConfig(t)
	set := config.Keys.(*fixedKeys)
	set.staleFrom = jwtNow().Add(time.Second)
	i := newTestIssuer(t, config)
	token := []byte(sealed("RS256", jwtClaims))
	if _, err := i.Authenticate(t.Context(), token, jwtNow()); err != nil {
		t.Errorf("with keys: %v", err)
	}
	_, err := i.Authenticate(t.Context(), token, set.staleFrom)
	if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrInvalid) {
		t.Errorf("keys too old: %v, want ErrUnavailable", err)
	}
	if _, err = i.Authenticate(t.Context(), []byte(sealed("RS256", `{}`)), set.staleFrom); !errors.Is(err, ErrInvalid) {
		t.Errorf("a token that no key could save: %v, want ErrInvalid", err)
	}
}

func TestIssuerMissedKid(t *testing.T) {
	k := theJWTKeys()
	token := []byte(seal("RS256", `{"alg":"RS256","kid":"new"}`, jwtClaims))
	tests := []struct {
		intent string
		missed func(set *fixedKeys, cancel func(), ctx context.Context) bool
		want   error
		asked  int64
	}{
		{"the set fetches it", func(set *fixedKeys, _ func(), _ context.Context) bool {
			set.change(publicJWK(t, "new", &k.rsa.PublicKey))
			return true
		}, nil, 2},
		{"the set changes, and still has it not", func(set *fixedKeys, _ func(), _ context.Context) bool {
			set.change()
			return true
		}, ErrInvalid, 2},
		{"the set knows no better", func(*fixedKeys, func(), context.Context) bool { return false }, ErrInvalid, 1},
		{"the client leaves", func(_ *fixedKeys, cancel func(), ctx context.Context) bool {
			cancel()
			<-ctx.Done()
			return false
		}, ErrUnavailable, 1},
	}
	for _, test := range tests {
		ctx, cancel := context.WithCancel(t.Context())
		config := jwtConfig(t)
		set := config.Keys.(*fixedKeys)
		set.missed = func(ctx context.Context) bool { return test.missed(set, cancel, ctx) }
		_, err := newTestIssuer(t, config).Authenticate(ctx, token, jwtNow())
		if test.want == nil && err != nil || !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.intent, err, test.want)
		}
		if got := set.asked.Load(); got != test.asked || !slices.Equal(set.missedKids, []string{"new"}) {
			t.Errorf("%s: %d looks for keys and %q missed, want %d and one", test.intent, got, set.missedKids, test.asked)
		}
		cancel()
	}
}

// TestIssuerWithoutKid: a token that names no key is no reason to fetch keys, however often it comes.
func TestIssuerWithoutKid(t *testing.T) {
	config := jwtConfig(t)
	set := config.Keys.(*fixedKeys)
	set.change(publicJWK(t, "ES256", &theJWTKeys().p256.PublicKey))
	token := []byte(seal("RS256", `{"alg":"RS256"}`, jwtClaims))
	if _, err := newTestIssuer(t, config).Authenticate(t.Context(), token, jwtNow()); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v, want ErrInvalid", err)
	}
	if len(set.missedKids) != 0 {
		t.Errorf("%q was missed", set.missedKids)
	}
}
