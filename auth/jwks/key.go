package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"

	"github.com/lestrrat-go/jwx/v2/jwk"
)

const (
	rsaBitsMin = 2048 // RFC 7518 section 3.3
	rsaBitsMax = 8192 // verifying with larger ones takes too long
)

var (
	errUnusable = errors.New("not a public key for signatures that is known here")
	errMember   = errors.New("a member of another type than RFC 7517 has it")
)

// key is a public key that can verify signatures.
type key struct {
	kid    string // empty: it has none
	kty    string
	algs   []string // that it can be used with, at least one
	public crypto.PublicKey
}

// newKey reads a JWK. It reads the members that verifying needs and no others: what a certificate chain or
// an extension says does not decide about a key.
func newKey(data []byte) (*key, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return nil, err
	}
	m := reader{members: members}
	if m.member("d") != nil { // a private key that is published is lost
		return nil, errUnusable
	}
	k := &key{kid: m.text("kid"), kty: m.text("kty")}
	switch k.kty {
	case "RSA":
		k.public, k.algs = m.rsa(), []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case "EC":
		public, alg := m.ecdsa()
		k.public, k.algs = public, []string{alg}
	case "OKP":
		k.public, k.algs = m.ed25519(), []string{"EdDSA"}
	default:
		return nil, errUnusable
	}
	if alg := m.text("alg"); alg != "" {
		if !slices.Contains(k.algs, alg) {
			return nil, errUnusable
		}
		k.algs = []string{alg}
	}
	if purpose := m.text("use"); purpose != "" && purpose != "sig" {
		return nil, errUnusable
	}
	if ops := m.texts("key_ops"); len(ops) > 0 && !slices.Contains(ops, "verify") {
		return nil, errUnusable
	}
	return k, m.err
}

// clashes says whether two keys cannot be told apart by what a token says of its key. Of those the first
// counts. Keys without a kid are all tried.
func (k *key) clashes(other *key) bool {
	return k.kid != "" && k.kid == other.kid && k.kty == other.kty
}

// jwk returns the key as the library that verifies wants it, with nothing of its source that was not read.
func (k *key) jwk() (jwk.Key, error) {
	public, err := jwk.FromRaw(k.public)
	if err == nil && k.kid != "" {
		err = public.Set(jwk.KeyIDKey, k.kid)
	}
	if err == nil && len(k.algs) == 1 {
		err = public.Set(jwk.AlgorithmKey, k.algs[0])
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use key %q: %w", k.kid, err)
	}
	return public, nil
}

// reader reads members until the first that is not right.
type reader struct {
	members map[string]json.RawMessage
	err     error
}

func (m *reader) fail(err error) {
	if m.err == nil {
		m.err = err
	}
}

// member is a member as it is written. Some issuers write null for one that is absent.
func (m *reader) member(name string) json.RawMessage {
	if raw := m.members[name]; string(raw) != "null" {
		return raw
	}
	return nil
}

// text is a member that is a string, or absent.
func (m *reader) text(name string) (text string) {
	if raw := m.member(name); raw != nil && json.Unmarshal(raw, &text) != nil {
		m.fail(errMember)
	}
	return text
}

// texts is a member that is an array of strings, or absent.
func (m *reader) texts(name string) (texts []string) {
	if raw := m.member(name); raw != nil && json.Unmarshal(raw, &texts) != nil {
		m.fail(errMember)
	}
	return texts
}

// bytes is a member in base64url, which must be there. Some issuers pad it against the rule: no harm.
func (m *reader) bytes(name string) []byte {
	decoded, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(m.text(name), "="))
	if err != nil || len(decoded) == 0 {
		m.fail(errUnusable)
	}
	return decoded
}

// rsa reads a key of RFC 7518 section 6.3.1.
func (m *reader) rsa() crypto.PublicKey {
	n, e := new(big.Int).SetBytes(m.bytes("n")), new(big.Int).SetBytes(m.bytes("e"))
	if bits := n.BitLen(); bits < rsaBitsMin || bits > rsaBitsMax || n.Bit(0) == 0 {
		m.fail(errUnusable)
	}
	if !e.IsInt64() || e.Int64() < 3 || e.Int64() > math.MaxInt32 || e.Bit(0) == 0 {
		m.fail(errUnusable)
		return nil
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}
}

// ecdsa reads a key of RFC 7518 section 6.2.1 and names the one algorithm of its curve (section 3.4).
func (m *reader) ecdsa() (crypto.PublicKey, string) {
	var curve elliptic.Curve
	var alg string
	switch m.text("crv") {
	case "P-256":
		curve, alg = elliptic.P256(), "ES256"
	case "P-384":
		curve, alg = elliptic.P384(), "ES384"
	case "P-521":
		curve, alg = elliptic.P521(), "ES512"
	default:
		m.fail(errUnusable)
		return nil, ""
	}
	size := (curve.Params().BitSize + 7) / 8
	x, y := m.bytes("x"), m.bytes("y")
	if len(x) > size || len(y) > size {
		m.fail(errUnusable)
		return nil, ""
	}
	point := make([]byte, 1+2*size)
	point[0] = 4 // uncompressed; some issuers drop leading zeros, hence the copies to the right
	copy(point[1+size-len(x):], x)
	copy(point[1+2*size-len(y):], y)
	public, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil { // not on the curve
		m.fail(errUnusable)
		return nil, ""
	}
	return public, alg
}

// ed25519 reads a key of RFC 8037 section 2.
func (m *reader) ed25519() crypto.PublicKey {
	x := m.bytes("x")
	if m.text("crv") != "Ed25519" || len(x) != ed25519.PublicKeySize {
		m.fail(errUnusable)
	}
	return ed25519.PublicKey(x)
}
