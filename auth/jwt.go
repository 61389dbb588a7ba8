package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
)

const (
	minRSA   = 2048 // bits, RFC 7518 section 3.3
	maxRSA   = 8192 // a key that costs more than it protects
	maxTried = 16   // keys that a token without a kid is tried with
)

// KeySet finds the keys that a token may be verified with. It is safe for concurrent use.
type KeySet interface {
	// Keys returns the verification keys for kid and alg (a JWA name): those whose kid matches (an empty kid
	// matches all), whose kty fits alg, whose use is sig or absent, and whose alg is absent or equal. It never
	// does I/O. The generation changes whenever the set changes. It fails with ErrUnavailable when no set has
	// ever been had, or the last one is too old.
	Keys(now time.Time, kid, alg string) (keys []jwk.Key, generation uint64, err error)
	// Generation is the current one: what was verified under another is verified again.
	Generation() uint64
	// Missed tells the set that a token named a kid it does not have. The set may be fetched again, within
	// bounds; Missed waits at most for the end of that fetch, or of ctx. It returns true when the set has
	// changed: look again.
	Missed(ctx context.Context, kid string) bool
}

// IssuerConfig says which tokens are believed, and what is read from them.
type IssuerConfig struct {
	Name       string        // the principal's Method is "jwt:" and this
	Issuer     string        // iss must be exactly this
	Audiences  []string      // aud must hold one of these
	Algorithms []string      // RS256 to RS512, PS256 to PS512, ES256 to ES512, EdDSA, HS256 to HS512
	Keys       KeySet        // for all of them but HS*
	Secret     []byte        // for HS*: at least as long as the hash (RFC 7518 section 3.2)
	Leeway     time.Duration // by how much clocks may differ: exp, nbf, iat
	Require    []string      // claims that must be present
	Client     string        // the claim that names the client
	Tier       string        // the claim that names the client's tier; empty: none does
	// Claims are kept as text in Principal.Claims if they are strings, numbers or booleans of at most 256
	// bytes; strings as they are accepted for clients. Others count as absent.
	Claims []string
	// Cache is how many verified tokens are remembered at most; 0: none. Each takes its own length and about
	// 500 bytes; no more than 32 KiB, but for Claims, if an issuer writes the longest tokens there may be.
	Cache int
}

// Issuer verifies the JWTs of one issuer (RFC 7519, RFC 8725). It is safe for concurrent use.
//
// Verified tokens are remembered. A remembered token gets the answer that verifying it again would give:
// it is held against its times on every use, and forgotten when its keys change. Only whether the keys have become
// too old is asked but once for every second of now.
type Issuer struct {
	config     IssuerConfig
	method     string
	algorithms []*algorithm
	cache      *cache // nil: none
	asked      atomic.Int64

	mu      sync.Mutex
	flights map[string]*flight // by token; as many as there are calls at most

	hits                      [8]counter // by the token's hash, so that processors do not fight over one
	misses, verified, refused atomic.Uint64
}

type counter struct {
	n atomic.Uint64
	_ [56]byte
}

// IssuerStats counts since the issuer was made.
type IssuerStats struct {
	Hits     uint64 // tokens accepted because they were remembered
	Misses   uint64 // tokens that were not remembered, good or bad
	Verified uint64 // signatures that were verified and found good
	Refused  uint64 // tokens that were refused with ErrInvalid
}

// NewIssuer fails when the configuration could let every token through, or none.
func NewIssuer(config IssuerConfig) (*Issuer, error) {
	fail := func(format string, args ...any) (*Issuer, error) {
		return nil, fmt.Errorf("cannot verify tokens of issuer %q: %w", config.Name, fmt.Errorf(format, args...))
	}
	switch {
	case config.Issuer == "":
		return fail("no issuer to expect in iss")
	case len(config.Audiences) == 0 || slices.Contains(config.Audiences, ""):
		return fail("no audience to expect in aud")
	case len(config.Algorithms) == 0:
		return fail("no algorithms")
	case config.Client == "":
		return fail("no claim to take the client from")
	case config.Leeway < 0:
		return fail("a negative leeway of %v", config.Leeway)
	case config.Cache < 0 || config.Cache > maxEntries:
		return fail("a cache of %d tokens: from 0 to %d are possible", config.Cache, maxEntries)
	}
	i := &Issuer{method: "jwt:" + config.Name, cache: newCache(config.Cache), flights: map[string]*flight{}}
	var secret, public bool
	for _, name := range config.Algorithms {
		a, ok := algorithmNamed(name)
		if !ok {
			return fail("no algorithm %q", name)
		}
		if a.kind == secretKind {
			if secret = true; len(config.Secret) < a.bytes {
				return fail("%s needs a secret of at least %d bytes", name, a.bytes)
			}
		} else if public = true; config.Keys == nil {
			return fail("%s needs a key set", name)
		}
		i.algorithms = append(i.algorithms, &a)
	}
	if len(config.Secret) > 0 && !secret {
		return fail("a secret, and no algorithm that uses it")
	}
	if config.Keys != nil && !public {
		return fail("a key set, and no algorithm that uses it")
	}
	config.Audiences = slices.Clone(config.Audiences)
	config.Algorithms = slices.Clone(config.Algorithms)
	config.Secret = slices.Clone(config.Secret)
	config.Require = slices.Clone(config.Require)
	config.Claims = slices.Clone(config.Claims)
	i.config = config
	return i, nil
}

// Authenticate verifies a JWS in compact serialisation. It fails with ErrInvalid, or with ErrUnavailable
// when there are no keys to verify with or ctx ended in a wait for them. The token is not kept: it need
// not stay as it is after the call. Principals stop being valid at their Expires, which is exp and the leeway.
func (i *Issuer) Authenticate(ctx context.Context, token []byte, now time.Time) (*Principal, error) {
	principal, err := i.authenticate(ctx, token, now)
	if err != nil && errors.Is(err, ErrInvalid) {
		i.refused.Add(1)
	}
	return principal, err
}

func (i *Issuer) authenticate(ctx context.Context, token []byte, now time.Time) (*Principal, error) {
	if len(token) > maxToken {
		return nil, refusal("longer than 8 KiB")
	}
	hash := i.cache.hash(token)
	if e := i.cache.find(hash, token); e != nil && e.proof.generation == i.generation() {
		if err := e.proof.timely(now); err != nil {
			if e.proof.over(now) {
				i.cache.drop(hash, e)
			}
			return nil, err
		}
		if i.current(e.proof.alg, now) {
			i.hits[hash%uint64(len(i.hits))].n.Add(1)
			return e.proof.principal, nil
		}
	}
	i.misses.Add(1)
	// Everything that needs no key comes first: it is cheap, and what fails here makes no set fetch keys.
	p, err := parse(token)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(i.algorithms, func(a *algorithm) bool { return a.name == p.alg })
	if at < 0 {
		return nil, refusal("alg is not allowed")
	}
	candidate, err := i.judge(p.claims)
	if err != nil {
		return nil, err
	}
	if err := candidate.timely(now); err != nil {
		return nil, err
	}
	candidate.alg = i.algorithms[at]
	return i.proven(ctx, attempt{token: token, hash: hash, kid: p.kid, proof: candidate, now: now})
}

func (i *Issuer) generation() uint64 {
	if i.config.Keys == nil {
		return 0
	}
	return i.config.Keys.Generation()
}

// current says whether the keys are still to be relied on at now.
func (i *Issuer) current(alg *algorithm, now time.Time) bool {
	if alg.kind == secretKind || i.asked.Load() == now.Unix() {
		return true
	}
	if _, _, err := i.config.Keys.Keys(now, "", alg.name); err != nil {
		return false
	}
	i.asked.Store(now.Unix())
	return true
}

// attempt is a token whose claims are in order and whose signature is not yet proven.
type attempt struct {
	token []byte
	hash  uint64
	kid   string
	proof *proof // without the generation
	now   time.Time
}

// verify checks the signature with the secret or the keys that the token may be verified with.
func (i *Issuer) verify(ctx context.Context, a attempt) (generation uint64, err error) {
	alg := a.proof.alg
	if alg.kind == secretKind {
		if !alg.verifies(a.token, i.config.Secret) {
			return 0, refusal("the signature does not verify")
		}
		return i.generation(), nil
	}
	keys, generation, err := i.keys(ctx, a)
	if err != nil {
		return 0, err
	}
	for _, key := range keys[:min(len(keys), maxTried)] {
		public, err := jwk.PublicRawKeyOf(key)
		if err == nil && alg.fits(public) && alg.verifies(a.token, public) {
			return generation, nil
		}
	}
	return 0, refusal("the signature does not verify")
}

// keys finds the keys for a, and waits for a fetch of them if need be.
func (i *Issuer) keys(ctx context.Context, a attempt) (keys []jwk.Key, generation uint64, err error) {
	for again := false; ; again = true {
		keys, generation, err = i.config.Keys.Keys(a.now, a.kid, a.proof.alg.name)
		if err != nil {
			return nil, 0, fmt.Errorf("cannot find the keys of issuer %q: %w", i.config.Name, err)
		}
		i.asked.Store(a.now.Unix())
		if len(keys) > 0 {
			return keys, generation, nil
		}
		if again || a.kid == "" || !i.config.Keys.Missed(ctx, a.kid) {
			break
		}
	}
	if ctx.Err() != nil {
		return nil, 0, unavailable(ctx)
	}
	return nil, 0, refusal("no key of that kid and alg")
}

// verifies has jwx check the signature with this algorithm and this key, whatever the token's header says.
func (a *algorithm) verifies(token []byte, key any) bool {
	_, err := jws.Verify(token, jws.WithKey(a.id, key), jws.WithCompact())
	return err == nil
}

func unavailable(ctx context.Context) error {
	return fmt.Errorf("%w: waiting for keys: %w", ErrUnavailable, context.Cause(ctx))
}

// Stats returns the counters. They are read one after the other.
func (i *Issuer) Stats() IssuerStats {
	stats := IssuerStats{Misses: i.misses.Load(), Verified: i.verified.Load(), Refused: i.refused.Load()}
	for n := range i.hits {
		stats.Hits += i.hits[n].n.Load()
	}
	return stats
}

type kind uint8

const (
	rsaKind kind = iota
	curveKind
	edwardsKind
	secretKind
)

// algorithm is one that a token may be signed with (RFC 7518 section 3.1, RFC 8037); immutable.
type algorithm struct {
	name  string
	id    jwa.SignatureAlgorithm
	kind  kind
	curve string // of curveKind: the one it is defined for
	bytes int    // of secretKind: the shortest secret
}

func algorithmNamed(name string) (algorithm, bool) {
	a := algorithm{name: name, id: jwa.SignatureAlgorithm(name)}
	switch name {
	case "RS256", "RS384", "RS512", "PS256", "PS384", "PS512":
		a.kind = rsaKind
	case "ES256":
		a.kind, a.curve = curveKind, "P-256"
	case "ES384":
		a.kind, a.curve = curveKind, "P-384"
	case "ES512":
		a.kind, a.curve = curveKind, "P-521"
	case "EdDSA":
		a.kind = edwardsKind
	case "HS256":
		a.kind, a.bytes = secretKind, 32
	case "HS384":
		a.kind, a.bytes = secretKind, 48
	case "HS512":
		a.kind, a.bytes = secretKind, 64
	default:
		return algorithm{}, false
	}
	return a, true
}

// fits says whether a public key may be used with the algorithm. Without that question, the text of a
// public key could be taken for a secret.
func (a *algorithm) fits(key any) bool {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return a.kind == rsaKind && minRSA <= key.N.BitLen() && key.N.BitLen() <= maxRSA
	case *ecdsa.PublicKey:
		return a.kind == curveKind && key.Curve != nil && key.Curve.Params().Name == a.curve
	case ed25519.PublicKey:
		return a.kind == edwardsKind && len(key) == ed25519.PublicKeySize
	}
	return false
}
