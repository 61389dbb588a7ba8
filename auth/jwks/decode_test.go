package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"
)

// members are a JWK, as a test writes it.
type members map[string]any

// with returns a copy with some members changed; nil takes one away.
func (m members) with(changes members) members {
	changed := maps.Clone(m)
	for name, value := range changes {
		if value == nil {
			delete(changed, name)
		} else {
			changed[name] = value
		}
	}
	return changed
}

func (m members) without(name string) members { return m.with(members{name: nil}) }

// published is a public key as an issuer publishes it.
func published(t testing.TB, kid string, public any) members {
	t.Helper()
	key, err := jwk.FromRaw(public)
	must(t, err)
	data, err := json.Marshal(key)
	must(t, err)
	var m members
	must(t, json.Unmarshal(data, &m))
	return m.with(members{"kid": kid})
}

func edKey(t testing.TB, kid string) members {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	return published(t, kid, public)
}

func ecKey(t testing.TB, kid string, curve elliptic.Curve) members {
	t.Helper()
	private, err := ecdsa.GenerateKey(curve, rand.Reader)
	must(t, err)
	return published(t, kid, &private.PublicKey)
}

var rsaPrivate = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func rsaKey(t testing.TB, kid string) members {
	t.Helper()
	private, err := rsaPrivate()
	must(t, err)
	return published(t, kid, &private.PublicKey)
}

func setOf(t testing.TB, keys ...members) []byte {
	t.Helper()
	if keys == nil {
		keys = []members{}
	}
	data, err := json.Marshal(map[string]any{"keys": keys})
	must(t, err)
	return data
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func allAlgs() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "none", "", "RSA-OAEP"}
}

func TestDecodeSaysWhatEachKeyIsFor(t *testing.T) {
	ed, ec, big := edKey(t, "k"), ecKey(t, "k", elliptic.P256()), rsaKey(t, "k")
	anyRSA := []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	unpadded := base64.RawURLEncoding
	tests := []struct {
		intent string
		key    members
		want   []string // the algorithms; none: the key is skipped
	}{
		{"RSA without alg", big, anyRSA},
		{"RSA bound to one alg", big.with(members{"alg": "PS384"}), []string{"PS384"}},
		{"P-256 has one alg", ec, []string{"ES256"}},
		{"P-384", ecKey(t, "k", elliptic.P384()), []string{"ES384"}},
		{"P-521", ecKey(t, "k", elliptic.P521()), []string{"ES512"}},
		{"Ed25519", ed, []string{"EdDSA"}},
		{"use sig", ed.with(members{"use": "sig"}), []string{"EdDSA"}},
		{"key_ops verify", ed.with(members{"key_ops": []string{"verify"}}), []string{"EdDSA"}},
		{"a certificate chain is not even read", ed.with(members{"x5c": []string{"?"}, "x5u": 1}), []string{"EdDSA"}},
		{"null is absent", ed.with(members{"use": json.RawMessage("null"), "d": json.RawMessage("null")}), []string{"EdDSA"}},
		{"padded base64url", ed.with(members{"x": ed["x"].(string) + "="}), []string{"EdDSA"}},
		{"names of members are exact: this D is no private part", ed.with(members{"D": "x"}), []string{"EdDSA"}},

		{"use enc", big.with(members{"use": "enc"}), nil},
		{"use in another case", ed.with(members{"use": "SIG"}), nil},
		{"key_ops without verify", ed.with(members{"key_ops": []string{"sign"}}), nil},
		{"key_ops of another type", ed.with(members{"key_ops": "verify"}), nil},
		{"alg for encryption", big.with(members{"alg": "RSA-OAEP"}), nil},
		{"alg none", big.with(members{"alg": "none"}), nil},
		{"alg of another key type: no HMAC with a public key", big.with(members{"alg": "HS256"}), nil},
		{"alg of another curve", ec.with(members{"alg": "ES384"}), nil},
		{"alg in another case", big.with(members{"alg": "rs256"}), nil},
		{"a private key is lost", ed.with(members{"d": ed["x"]}), nil},
		{"a symmetric key", members{"kty": "oct", "k": "c2VjcmV0", "kid": "k"}, nil},
		{"a kty of the future", members{"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA", "kid": "k"}, nil},
		{"no kty", ed.without("kty"), nil},
		{"kty in another case", big.with(members{"kty": "rsa"}), nil},
		{"kid is no string", ed.with(members{"kid": 1}), nil},
		{"X25519 does not sign", ed.with(members{"crv": "X25519"}), nil},
		{"Ed25519 too short", ed.with(members{"x": "AAAA"}), nil},
		{"Ed25519 without x", ed.without("x"), nil},
		{"secp256k1 is not known", ec.with(members{"crv": "secp256k1"}), nil},
		{"a point that is not on its curve", ec.with(members{"x": ec["y"]}), nil},
		{"the point at infinity", ec.with(members{"x": "AA", "y": "AA"}), nil},
		{"a coordinate that is too long", ec.with(members{"x": "AA" + ec["x"].(string)}), nil},
		{"RSA of 1024 bits", big.with(members{"n": unpadded.EncodeToString(oddOf(1024))}), nil},
		{"RSA of 2047 bits", big.with(members{"n": unpadded.EncodeToString(oddOf(2047))}), nil},
		{"RSA so large that verifying is an attack", big.with(members{"n": unpadded.EncodeToString(oddOf(8193))}), nil},
		{"RSA with an even modulus", big.with(members{"n": unpadded.EncodeToString(append(oddOf(2048), 0))}), nil},
		{"RSA with e = 1: everyone can sign", big.with(members{"e": "AQ"}), nil},
		{"RSA with an even e", big.with(members{"e": "AQAC"}), nil},
		{"RSA with a huge e", big.with(members{"e": "AQAAAAE"}), nil},
		{"RSA without e", big.without("e"), nil},
		{"n is not base64url", big.with(members{"n": "+/+/"}), nil},
	}
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			other := edKey(t, "other")
			x, err := decode(setOf(t, test.key, other))
			must(t, err)
			if got := x.count == 2; got != (test.want != nil) {
				t.Fatalf("%d keys of use, %d skipped; want the key of use: %v", x.count, x.skipped, test.want != nil)
			}
			if x.count+x.skipped != 2 {
				t.Errorf("%d of use and %d skipped, of 2", x.count, x.skipped)
			}
			for _, alg := range allAlgs() {
				got := len(x.keys[use{"k", alg}])
				if want := slices.Contains(test.want, alg); got != 1 && want || got != 0 && !want {
					t.Errorf("%d keys for %q, want one: %v", got, alg, want)
				}
			}
			if _, err := decode(setOf(t, test.key)); (err == nil) != (test.want != nil) {
				t.Errorf("alone: error %v; a set without a usable key must be one", err)
			}
		})
	}
}

// oddOf is an odd number of so many bits.
func oddOf(bits uint) []byte {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return n.SetBit(n, 0, 1).Bytes()
}

// A coordinate of an EC key begins with a zero byte once in 256 keys, and some issuers leave it out.
func TestDecodeLeftPadsCoordinates(t *testing.T) {
	for {
		key := ecKey(t, "k", elliptic.P256())
		x, err := base64.RawURLEncoding.DecodeString(key["x"].(string))
		must(t, err)
		if x[0] != 0 {
			continue
		}
		whole, err := decode(setOf(t, key))
		must(t, err)
		short, err := decode(setOf(t, key.with(members{"x": base64.RawURLEncoding.EncodeToString(x[1:])})))
		must(t, err)
		if short.digest != whole.digest {
			t.Error("the same key without the leading zero is another key")
		}
		return
	}
}

func TestDecodeRefuses(t *testing.T) {
	good, err := json.Marshal(edKey(t, "k"))
	must(t, err)
	many := make([]members, keysMax+1)
	for i := range many {
		many[i] = members{"kty": "AKP"}
	}
	many[0] = edKey(t, "k")
	tests := []struct {
		intent string
		data   string
		want   error
	}{
		{"nothing", "", errNotSet},
		{"null", "null", errNotSet},
		{"a page of HTML", "<!DOCTYPE html><title>Sign in</title>", errNotSet},
		{"half a set", `{"keys":[` + string(good), errNotSet},
		{"something after the set", `{"keys":[` + string(good) + `]}{}`, errNotSet},
		{"an array", `[` + string(good) + `]`, errNotSet},
		{"a key that is in no set", string(good), errNotSet},
		{"no keys", `{}`, errNotSet},
		{"keys in another case", `{"Keys":[` + string(good) + `]}`, errNotSet},
		{"keys that are no array", `{"keys":{"0":` + string(good) + `}}`, errNotSet},
		{"keys that are null", `{"keys":null}`, errNotSet},
		{"an empty set", `{"keys":[]}`, errNoKeys},
		{"entries that are no objects", `{"keys":[1,null,"x",[]]}`, errNoKeys},
		{"more keys than anyone needs", string(setOf(t, many...)), errTooMany},
		{"an array to fill memory", `{"keys":[` + strings.Repeat("0,", bodyMax/2) + `0]}`, errTooMany},
		{"brackets to fill the stack", `{"keys":` + strings.Repeat("[", bodyMax/2) + strings.Repeat("]", bodyMax/2) + `}`, errNotSet},
	}
	for _, test := range tests {
		if _, err := decode([]byte(test.data)); !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", test.intent, err, test.want)
		}
	}
	if _, err := decode(setOf(t, many[:keysMax]...)); err != nil {
		t.Errorf("as many keys as there may be: %v", err)
	}
}

func TestDecodeDuplicateKids(t *testing.T) {
	ed, ec := edKey(t, "same"), ecKey(t, "same", elliptic.P256())
	second := edKey(t, "same")
	x, err := decode(setOf(t, ed, ec, second))
	must(t, err)
	if x.count != 2 || x.skipped != 1 {
		t.Errorf("%d keys, %d skipped; want both types once, and the second of one type skipped", x.count, x.skipped)
	}
	alone, err := decode(setOf(t, ed, ec))
	must(t, err)
	if x.digest != alone.digest {
		t.Error("of two keys of one type and kid, it is not the first that counts")
	}
	x, err = decode(setOf(t, ed.with(members{"use": "enc"}), second))
	must(t, err)
	if len(x.keys[use{"same", "EdDSA"}]) != 1 {
		t.Error("a key for encryption hides one of the same kid for signatures")
	}
	x, err = decode(setOf(t, ed.without("kid"), second.without("kid"), edKey(t, "named")))
	must(t, err)
	if got := len(x.keys[use{"", "EdDSA"}]); got != 3 {
		t.Errorf("%d keys for a token without kid, want all 3", got)
	}
	if x.holds("") {
		t.Error("keys without a kid are found by the empty one")
	}
}

func TestDigest(t *testing.T) {
	a, b := edKey(t, "a"), edKey(t, "b")
	digest := func(keys ...members) [32]byte {
		x, err := decode(setOf(t, keys...))
		must(t, err)
		return x.digest
	}
	base := digest(a, b)
	tests := []struct {
		intent string
		keys   []members
		same   bool
	}{
		{"order means nothing", []members{b, a}, true},
		{"nor do members that are not read", []members{a.with(members{"x5t": "x", "exp": 1}), b}, true},
		{"nor entries that are skipped", []members{a, b, {"kty": "AKP"}}, true},
		{"a key less", []members{a}, false},
		{"a key more", []members{a, b, edKey(t, "c")}, false},
		{"another key of the same kid", []members{a, edKey(t, "b")}, false},
		{"the kids exchanged", []members{a.with(members{"kid": "b"}), b.with(members{"kid": "a"})}, false},
	}
	for _, test := range tests {
		if same := digest(test.keys...) == base; same != test.same {
			t.Errorf("%s: same digest %v, want %v", test.intent, same, test.same)
		}
	}
	big := rsaKey(t, "r")
	if digest(big) == digest(big.with(members{"alg": "PS256"})) {
		t.Error("a key that is bound to an algorithm has the digest of one that is not")
	}
}

// FuzzSet holds what every set keeps to, whatever it was read from.
func FuzzSet(f *testing.F) {
	f.Add(setOf(f, edKey(f, "a"), ecKey(f, "b", elliptic.P256()), rsaKey(f, "c")))
	f.Add(setOf(f, edKey(f, "a"), edKey(f, "a"), members{"kty": "oct", "k": "AA"}))
	f.Add(setOf(f))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AA","e":"AQAB","d":"AA"},null,[]],"keys":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := decode(data)
		if err != nil {
			return
		}
		if x.count < 1 || x.count+x.skipped > keysMax {
			t.Fatalf("%d keys and %d skipped", x.count, x.skipped)
		}
		for use, keys := range x.keys {
			if len(keys) == 0 {
				t.Errorf("no key for %v", use)
			}
			for _, key := range keys {
				checkKey(t, use, key)
			}
		}
		again, err := decode(data)
		if err != nil || again.digest != x.digest {
			t.Errorf("read again it is another set: %v", err)
		}
	})
}

// checkKey fails unless key is a public one that is strong enough and of the type that alg demands.
func checkKey(t *testing.T, use use, key jwk.Key) {
	t.Helper()
	var public crypto.PublicKey
	must(t, key.Raw(&public))
	fits := false
	switch public := public.(type) {
	case *rsa.PublicKey:
		fits = public.N.BitLen() >= 2048 && public.E >= 3 && strings.Contains("RS256 RS384 RS512 PS256 PS384 PS512", use.alg)
	case *ecdsa.PublicKey:
		fits = use.alg == fmt.Sprintf("ES%d", min(public.Curve.Params().BitSize, 512))
	case ed25519.PublicKey:
		fits = len(public) == ed25519.PublicKeySize && use.alg == "EdDSA"
	}
	if !fits {
		t.Errorf("a %T for %v", public, use)
	}
	if use.kid != "" && key.KeyID() != use.kid {
		t.Errorf("key %q for %v", key.KeyID(), use)
	}
}

func BenchmarkDecode(b *testing.B) {
	data := setOf(b, edKey(b, "a"), ecKey(b, "b", elliptic.P256()), rsaKey(b, "c"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decode(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkKeys(b *testing.B) {
	s := fetched(b, setOf(b, edKey(b, "a"), ecKey(b, "b", elliptic.P256()), rsaKey(b, "c")))
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if keys, _, err := s.Keys(now, "c", "RS256"); err != nil || len(keys) != 1 {
			b.Fatal(keys, err)
		}
	}
}
