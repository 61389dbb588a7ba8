package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/lestrrat-go/jwx/v2/jwk"
)

// attack is a token that somebody might try, and the reason it must be refused for; empty: it is good.
type attack struct {
	intent string
	token  string
	want   string
}

// with is the tests' claims with one more or another at the end of the object.
func with(member string) string { return strings.TrimSuffix(jwtClaims, "}") + "," + member + "}" }

// instead is the tests' claims with one text for another.
func instead(old, new string) string {
	if !strings.Contains(jwtClaims, old) {
		panic("no " + old)
	}
	return strings.Replace(jwtClaims, old, new, 1)
}

// headed is a token with good claims and a header of its own, signed by RS256.
func headed(header string) string { return seal("RS256", header, jwtClaims) }

func rs256(claims string) string { return sealed("RS256", claims) }

func TestAttacks(t *testing.T) {
	public := newTestIssuer(t, jwtConfig(t))
	both := jwtConfig(t)
	both.Algorithms, both.Secret = append(both.Algorithms, "HS256"), []byte(jwtSecret)
	mixed := newTestIssuer(t, both)
	for _, table := range [][]attack{
		algorithmAttacks(t), kidAttacks(), headerAttacks(), claimAttacks(), dateAttacks(), shapeAttacks(), signatureAttacks(),
	} {
		for _, a := range table {
			for _, i := range []*Issuer{public, mixed} {
				p, err := i.Authenticate(t.Context(), []byte(a.token), jwtNow())
				switch {
				case a.want == "" && err != nil:
					t.Errorf("%s: %v", a.intent, err)
				case a.want != "" && (p != nil || !errors.Is(err, ErrInvalid) || errors.Is(err, ErrUnavailable)):
					t.Errorf("%s: %+v, %v, want ErrInvalid", a.intent, p, err)
				case a.want != "" && !strings.Contains(err.Error(), a.want) && i == public:
					t.Errorf("%s: %v, want %q", a.intent, err, a.want)
				}
			}
		}
	}
}

func algorithmAttacks(t *testing.T) (list []attack) {
	for _, none := range []string{"none", "None", "NONE", "nOnE", "noNe", " none", "none ", "none\u0000", ""} {
		head := b64(fmt.Sprintf(`{"alg":%q}`, none)) + "." + b64(jwtClaims)
		quoted, _ := json.Marshal(none)
		safe := b64(`{"alg":`+string(quoted)+`}`) + "." + b64(jwtClaims)
		list = append(list,
			attack{"alg " + none + " without a signature", head + ".", "signature"},
			attack{"alg " + none + " with a signature", safe + "." + b64("x"), "alg is not allowed"})
	}
	k := theJWTKeys()
	der := mustJWT(x509.MarshalPKIXPublicKey(&k.rsa.PublicKey))
	pkcs1 := x509.MarshalPKCS1PublicKey(&k.rsa.PublicKey)
	asJSON := mustJWT(json.Marshal(publicJWK(t, "RS256", &k.rsa.PublicKey)))
	for name, secret := range map[string][]byte{
		"DER": der, "PKCS #1": pkcs1, "JWK": asJSON, "N": k.rsa.N.Bytes(), "nothing": nil,
		"PEM":       pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
		"PKCS1 PEM": pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: pkcs1}),
	} {
		for _, kid := range []string{`,"kid":"RS256"`, ""} {
			input := b64(`{"alg":"HS256"`+kid+`}`) + "." + b64(jwtClaims)
			list = append(list, attack{"HS256 with the public key as " + name, input + "." + b64(string(hs256(secret, input))), "alg is not allowed"})
		}
	}
	return append(list,
		attack{"alg in lower case", headed(`{"alg":"rs256","kid":"RS256"}`), "alg is not allowed"},
		attack{"alg that is not on the list", headed(`{"alg":"RS512","kid":"RS256"}`), "alg is not allowed"},
		attack{"alg missing", headed(`{"kid":"RS256"}`), "alg is not a string"},
		attack{"alg misspelt", headed(`{"Alg":"RS256","kid":"RS256"}`), "alg is not a string"},
		attack{"alg in an array", headed(`{"alg":["RS256"],"kid":"RS256"}`), "alg is not a string"},
		attack{"alg null", headed(`{"alg":null,"kid":"RS256"}`), "alg is not a string"},
		attack{"alg a number", headed(`{"alg":256,"kid":"RS256"}`), "alg is not a string"},
		attack{"an alg that the key's type does not fit", headed(`{"alg":"ES256","kid":"RS256"}`), "no key"},
		attack{"PS256 that is RS256", headed(`{"alg":"PS256","kid":"RS256"}`), "does not verify"},
		attack{"a curve that ES256 is not for", seal("ES384", `{"alg":"ES256","kid":"ES384"}`, jwtClaims), "does not verify"},
	)
}

func kidAttacks() (list []attack) {
	for _, kid := range []string{
		"../../../../dev/null", "/dev/null", "x' UNION SELECT 'key", "'; DROP TABLE keys; --", "RS256\u0000", "rs256", " RS256",
		"https://evil.example/key", "$(id)", "RS256/../RS256", strings.Repeat("k", maxKid),
	} {
		quoted, _ := json.Marshal(kid)
		list = append(list, attack{"kid " + kid, headed(`{"alg":"RS256","kid":` + string(quoted) + `}`), "no key"})
	}
	for _, kid := range []string{"1", "null", "true", `["RS256"]`, `{"RS256":1}`, `"` + strings.Repeat("k", maxKid+1) + `"`} {
		list = append(list, attack{"kid " + kid, headed(`{"alg":"RS256","kid":` + kid + `}`), "kid is not a string"})
	}
	return append(list,
		attack{"kid of another key", headed(`{"alg":"RS256","kid":"ES256"}`), "no key"},
		attack{"kid absent", headed(`{"alg":"RS256"}`), ""},
		attack{"kid with escapes that mean the same", headed(`{"alg":"RS256","kid":"\u0052S256"}`), ""},
	)
}

func headerAttacks() (list []attack) {
	k := theJWTKeys()
	for _, member := range []string{
		`"jwk":{"kty":"RSA","e":"AQAB","n":"` + b64(string(k.other.N.Bytes())) + `"}`, `"jwk":null`,
		`"jku":"https://evil.example/keys"`, `"x5u":"https://evil.example/cert"`, `"x5c":["MIIB"]`, `"x5c":[]`,
		`"crit":["exp"]`, `"crit":["b64"],"b64":true`, `"crit":["unknown"],"unknown":1`, `"crit":[]`, `"crit":null`, `"crit":"exp"`,
		`"b64":false`, `"b64":true`, `"zip":"DEF"`, `"enc":"A256GCM"`,
	} {
		name := strings.SplitN(member, `"`, 3)[1]
		list = append(list, attack{"header " + member, headed(`{"alg":"RS256","kid":"RS256",` + member + `}`), "the header has " + name})
	}
	for _, typ := range []string{`"JWT"`, `"jwt"`, `"at+jwt"`, `"AT+JWT"`, `"application/at+jwt"`, `"Application/JWT"`} {
		list = append(list, attack{"typ " + typ, headed(`{"typ":` + typ + `,"alg":"RS256","kid":"RS256"}`), ""})
	}
	for _, typ := range []string{`"JWE"`, `"dpop+jwt"`, `"logout+jwt"`, `""`, `"application/"`, `"text/JWT"`, `"JWT "`, "1", "null", `["JWT"]`} {
		list = append(list, attack{"typ " + typ, headed(`{"typ":` + typ + `,"alg":"RS256","kid":"RS256"}`), "typ"})
	}
	for _, header := range []string{
		`{"alg":"none","alg":"RS256","kid":"RS256"}`, `{"alg":"RS256","kid":"x","kid":"RS256"}`, `{"alg":"RS256","\u0061lg":"none"}`,
		`{"alg":"RS256","x":1,"x":1}`, `[]`, `null`, `"RS256"`, ``, `{`, `{"alg":"RS256"}}`, `{"alg":"RS256"}{}`, `{"alg":"RS256",}`,
		`{'alg':'RS256'}`, "\ufeff" + `{"alg":"RS256"}`, "{\"alg\":\"RS256\",\"\xff\":1}", `{"alg":"RS256"} x`, `{alg:"RS256"}`,
	} {
		list = append(list, attack{"header " + header, headed(header), "header is not a JSON object"})
	}
	return append(list, attack{"a header that says the key is brought along", brought(k.other), "the header has jwk"})
}

// brought is a token that is rightly signed with the key in its own header.
func brought(key *rsa.PrivateKey) string {
	input := b64(`{"alg":"RS256","jwk":{"kty":"RSA","e":"AQAB","n":"`+b64(string(key.N.Bytes()))+`"}}`) + "." + b64(jwtClaims)
	sum := sha256.Sum256([]byte(input))
	return input + "." + b64(string(mustJWT(rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:]))))
}

func claimAttacks() (list []attack) {
	list = []attack{
		{"iss of another", rs256(instead(jwtIssuer, "https://evil.example/")), "iss"},
		{"iss less a slash", rs256(instead(jwtIssuer, strings.TrimSuffix(jwtIssuer, "/"))), "iss"},
		{"iss in another case", rs256(instead("auth.example.com", "AUTH.example.com")), "iss"},
		{"iss in an array", rs256(instead(`"`+jwtIssuer+`"`, `["`+jwtIssuer+`"]`)), "iss"},
		{"iss missing", rs256(instead(`"iss"`, `"issuer"`)), "iss"},
		{"aud of another", rs256(instead(`"api"`, `"evil"`)), "aud"},
		{"aud missing", rs256(instead(`"aud"`, `"audience"`)), "aud"},
		{"aud in part", rs256(instead(`"api"`, `"ap"`)), "aud"},
		{"aud empty", rs256(instead(`"api"`, `""`)), "aud"},
		{"aud an empty array", rs256(instead(`"api"`, `[]`)), "aud"},
		{"aud null", rs256(instead(`"api"`, `null`)), "aud"},
		{"aud a number", rs256(instead(`"api"`, `1`)), "aud"},
		{"aud an object", rs256(instead(`"api"`, `{"api":"api"}`)), "aud"},
		{"aud an array with something else in it", rs256(instead(`"api"`, `["api",null]`)), "aud"},
		{"aud an array of arrays", rs256(instead(`"api"`, `[["api"]]`)), "aud"},
		{"aud an array of others", rs256(instead(`"api"`, `["a","b"]`)), "aud"},
		{"aud an array with ours", rs256(instead(`"api"`, `["a","other-api"]`)), ""},
		{"no client", rs256(instead(`"sub"`, `"SUB"`)), "client"},
		{"exp twice", rs256(with(`"exp":1900000000`)), "payload is not a JSON object"},
		{"sub twice", rs256(with(`"sub":"root"`)), "payload is not a JSON object"},
		{"sub twice, once in escapes", rs256(with(`"\u0073ub":"root"`)), "payload is not a JSON object"},
		{"a claim nobody asks for twice", rs256(with(`"x":1,"x":1`)), "payload is not a JSON object"},
		{"jti a number", rs256(with(`"jti":1`)), "jti"},
		{"jti too long to be revoked", rs256(with(`"jti":"` + strings.Repeat("j", maxClaim+1) + `"`)), "jti"},
		{"jti empty", rs256(with(`"jti":""`)), "jti"},
		{"scope an array", rs256(with(`"scope":["admin"]`)), ""},
		{"scope a number", rs256(with(`"scope":1`)), ""},
		{"scope an object", rs256(with(`"scope":{"admin":true}`)), ""},
	}
	for _, payload := range []string{``, `[]`, `null`, `"x"`, `1`, `{`, jwtClaims + "}", jwtClaims + jwtClaims, "\xff", jwtClaims[:40]} {
		list = append(list, attack{"payload " + payload, rs256(payload), "payload is not a JSON object"})
	}
	for _, sub := range []string{
		`""`, `1`, `null`, `["alice"]`, `"a\r\nX-User-ID: root"`, `"a\u0000"`, `"\u0007"`, `"a\u007f"`, `"a\u0085"`, `"a\u2028b"`, `" alice"`, `"alice "`,
		`"a\u202eb"`, `"\ud800"`, `"\ufffd"`, `"a\u200bb"`, `"` + strings.Repeat("a", maxClaim+1) + `"`, `"\ufeffalice"`, `"a\u00a0b"`,
	} {
		list = append(list, attack{"sub " + sub, rs256(instead(`"alice"`, sub)), "client"})
	}
	return list
}

func dateAttacks() (list []attack) {
	list = []attack{
		{"exp missing", rs256(instead(`,"exp":1800000600`, ``)), `no claim "exp"`},
		{"exp misspelt", rs256(instead(`"exp"`, `"EXP"`)), `no claim "exp"`},
		{"exp null", rs256(instead(`1800000600`, `null`)), `no claim "exp"`},
		{"expired", rs256(instead(`1800000600`, `1799999969`)), "expired"},
		{"expired on the second, leeway and all", rs256(instead(`1800000600`, `1799999970`)), "expired"},
		{"expired within the leeway", rs256(instead(`1800000600`, `1799999971`)), ""},
		{"expired in 1970", rs256(instead(`1800000600`, `0`)), "expired"},
		{"exp with a fraction", rs256(instead(`1800000600`, `1800000600.5`)), ""},
		{"exp with an exponent", rs256(instead(`1800000600`, `1.8000006e9`)), ""},
		{"expired by a fraction", rs256(instead(`1800000600`, `1799999969.99`)), "expired"},
		{"nbf to come", rs256(with(`"nbf":1800000031`)), "not valid yet"},
		{"nbf to come within the leeway", rs256(with(`"nbf":1800000030`)), ""},
		{"iat to come", rs256(with(`"iat":1800000031`)), "not valid yet"},
		{"iat to come within the leeway", rs256(with(`"iat":1800000030`)), ""},
		{"iat past and nbf to come", rs256(with(`"iat":1700000000,"nbf":1900000000`)), "not valid yet"},
		{"iat to come and nbf past", rs256(with(`"nbf":1700000000,"iat":1900000000`)), "not valid yet"},
	}
	for _, date := range []string{
		`"1800000600"`, `"2030-01-01T00:00:00Z"`, `1e400`, `-1`, `-1e400`, `-0.5`, `1e300`, `99999999999999`, `9223372036854775807`, `18446744073709551616`, `253402300800`,
		`true`, `[1800000600]`, `{}`, `""`, `"NaN"`, `1800000600.` + strings.Repeat("0", maxNumber),
	} {
		list = append(list,
			attack{"exp " + date, rs256(instead(`1800000600`, date)), "exp is not a date"},
			attack{"nbf " + date, rs256(with(`"nbf":` + date)), "nbf is not a date"},
			attack{"iat " + date, rs256(with(`"iat":` + date)), "iat is not a date"})
	}
	for _, date := range []string{"NaN", "Infinity", "0x10", "1_000", "+1", "01", "1."} {
		list = append(list, attack{"exp " + date, rs256(instead(`1800000600`, date)), "payload is not a JSON object"})
	}
	return append(list, attack{"nbf null", rs256(with(`"nbf":null`)), "nbf is not a date"}, attack{"iat null", rs256(with(`"iat":null`)), "iat is not a date"})
}

func shapeAttacks() (list []attack) {
	good := rs256(jwtClaims)
	part := strings.Split(good, ".")
	list = []attack{
		{"nothing", "", "three parts"}, {"a dot", ".", "three parts"}, {"two dots", "..", "signature"}, {"many dots", strings.Repeat(".", maxToken), "three parts"},
		{"five parts, as of a JWE", good + "." + part[0] + "." + part[1], "three parts"}, {"a fourth part that is empty", good + ".", "three parts"},
		{"two parts", part[0] + "." + part[1], "three parts"},
		{"JSON serialisation", `{"payload":"` + part[1] + `","signatures":[{"protected":"` + part[0] + `","signature":"` + part[2] + `"}]}`, "three parts"},
		{"flattened JSON serialisation", `{"payload":"` + part[1] + `","protected":"` + part[0] + `","signature":"` + part[2] + `"}`, "three parts"},
		{"JSON with two dots", `{"payload":"a.b.` + part[1] + `"}`, "header"},
		{"no signature", part[0] + "." + part[1] + ".", "signature"},
		{"no payload", part[0] + ".." + part[2], "payload"},
		{"no header", "." + part[1] + "." + part[2], "header"},
		{"with a scheme", "Bearer " + good, "header"},
		{"the longest there may be", stretched(maxToken), ""},
		{"one byte longer", stretched(maxToken + 1), "longer"},
		{"huge", rs256(with(`"x":"` + strings.Repeat("x", 1<<20) + `"`)), "longer"},
		{"deep", rs256(with(`"x":` + strings.Repeat("[", 2500) + strings.Repeat("]", 2500))), ""},
		{"deep and not closed", rs256(with(`"x":` + strings.Repeat("[", 5000))), "payload"},
	}
	for _, space := range []string{" ", "\t", "\n", "\r\n", "\u00a0", "\x00", "%20", "="} {
		for at, name := range []string{"header", "payload", "signature"} {
			before, after, inside := strings.Split(good, "."), strings.Split(good, "."), strings.Split(good, ".")
			before[at], after[at], inside[at] = space+before[at], after[at]+space, inside[at][:4]+space+inside[at][4:]
			for _, parts := range [][]string{before, after, inside} {
				list = append(list, attack{fmt.Sprintf("%q in the %s", space, name), strings.Join(parts, "."), name})
			}
		}
	}
	for n := range len(good) {
		list = append(list, attack{fmt.Sprintf("cut to %d bytes", n), good[:n], "i"})
	}
	return append(list, spellings(good)...)
}

// stretched is a good token of n bytes.
func stretched(n int) string {
	size := base64.RawURLEncoding.EncodedLen
	for pad := range n {
		for spaces := range 3 {
			header := `{"alg":"RS256","kid":"RS256"` + strings.Repeat(" ", spaces) + `}`
			claims := with(`"x":"` + strings.Repeat("x", pad) + `"`)
			if size(len(header))+1+size(len(claims))+1+size(2048/8) == n {
				return seal("RS256", header, claims)
			}
		}
	}
	panic("no token of this length")
}

// spellings is a good token in other spellings of base64, which decode to the same.
func spellings(good string) (list []attack) {
	part := strings.Split(good, ".")
	for at, name := range []string{"header", "payload", "signature"} {
		data := mustJWT(base64.RawURLEncoding.DecodeString(part[at]))
		for kind, text := range map[string]string{
			"padded": base64.URLEncoding.EncodeToString(data), "standard": base64.StdEncoding.EncodeToString(data),
			"raw standard": base64.RawStdEncoding.EncodeToString(data), "with bits that mean nothing": looseBits(part[at]),
		} {
			if text == part[at] {
				continue // no difference for this length or content
			}
			changed := strings.Split(good, ".")
			changed[at] = text
			list = append(list, attack{name + " " + kind, strings.Join(changed, "."), name + " is not base64url"})
		}
	}
	return list
}

// looseBits sets the last bit of a part if it belongs to no byte.
func looseBits(part string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	if len(part)%4 == 0 {
		return part
	}
	return part[:len(part)-1] + string(alphabet[strings.IndexByte(alphabet, part[len(part)-1])|1])
}

func signatureAttacks() (list []attack) {
	k := theJWTKeys()
	for _, alg := range []string{"RS256", "PS256", "ES256", "EdDSA"} {
		good := sealed(alg, jwtClaims)
		at := strings.LastIndexByte(good, '.') + 1
		signature := mustJWT(base64.RawURLEncoding.DecodeString(good[at:]))
		for bit := 0; bit < 8*len(signature); bit += 37 {
			flipped := append([]byte(nil), signature...)
			flipped[bit/8] ^= 1 << (bit % 8)
			list = append(list, attack{fmt.Sprintf("%s with bit %d flipped", alg, bit), good[:at] + b64(string(flipped)), "does not verify"})
		}
		for name, other := range map[string][]byte{
			"of zeros": make([]byte, len(signature)), "of one zero": {0}, "cut": signature[:len(signature)-1], "longer": append(signature[:len(signature):len(signature)], 0),
		} {
			list = append(list, attack{alg + " with a signature " + name, good[:at] + b64(string(other)), "does not verify"})
		}
		other := strings.Split(sealed(alg, with(`"x":1`)), ".")
		list = append(list, attack{alg + " with the signature of another token", good[:at] + other[2], "does not verify"})
	}
	input := b64(`{"alg":"ES256","kid":"ES256"}`) + "." + b64(jwtClaims)
	sum := sha256.Sum256([]byte(input))
	der := mustJWT(ecdsa.SignASN1(rand.Reader, k.p256, sum[:]))
	list = append(list, attack{"ES256 with a DER signature", input + "." + b64(string(der)), "does not verify"})
	order := k.p256.Curve.Params().N.Bytes()
	list = append(list, attack{"ES256 with numbers that are the order", input + "." + b64(string(order)+string(order)), "does not verify"})
	input = b64(`{"alg":"RS256","kid":"RS256"}`) + "." + b64(jwtClaims)
	sum = sha256.Sum256([]byte(input))
	foreign := mustJWT(rsa.SignPKCS1v15(nil, k.other, crypto.SHA256, sum[:]))
	return append(list, attack{"RS256 with a key of one's own", input + "." + b64(string(foreign)), "does not verify"})
}

// TestIssuerTrustsNoKeySet holds an issuer against a set that hands out every key for everything.
func TestIssuerTrustsNoKeySet(t *testing.T) {
	k := theJWTKeys()
	secret := mustJWT(jwk.FromRaw([]byte(jwtSecret)))
	input := b64(`{"alg":"RS256"}`) + "." + b64(jwtClaims)
	sum := sha256.Sum256([]byte(input))
	weak := input + "." + b64(string(k.signWeak(sum[:])))
	tests := []struct {
		intent string
		keys   []jwk.Key
		token  string
		good   bool
	}{
		{"all keys, one of which is right", k.public(t), rs256(jwtClaims), true},
		{"an RSA key that is too short", []jwk.Key{publicJWK(t, "weak", &k.weak.PublicKey)}, weak, false},
		{"a curve that ES256 is not for", []jwk.Key{publicJWK(t, "x", &k.p384.PublicKey)}, esOnWrongCurve(k), false},
		{"a secret among the keys", []jwk.Key{secret}, sealed("HS256", jwtClaims), false},
		{"a private key among the keys is but a key", []jwk.Key{publicJWK(t, "x", k.rsa)}, rs256(jwtClaims), true},
		{"the right key behind too many others", append(copies(publicJWK(t, "x", &k.other.PublicKey), maxTried), k.public(t)...), rs256(jwtClaims), false},
	}
	for _, test := range tests {
		config := jwtConfig(t)
		config.Keys = &fixedKeys{keys: test.keys, anything: true}
		_, err := newTestIssuer(t, config).Authenticate(t.Context(), []byte(test.token), jwtNow())
		if test.good && err != nil || !test.good && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", test.intent, err)
		}
	}
}

// signWeak signs as PKCS #1 version 1.5 with the short key, by hand.
func (k *jwtKeys) signWeak(sum []byte) []byte {
	prefix := []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}
	block := append([]byte{0, 1}, []byte(strings.Repeat("\xff", 128-3-len(prefix)-len(sum)))...)
	block = append(append(append(block, 0), prefix...), sum...)
	signature := new(big.Int).Exp(new(big.Int).SetBytes(block), k.weak.D, k.weak.N)
	return signature.FillBytes(make([]byte, 128))
}

func esOnWrongCurve(k *jwtKeys) string {
	input := b64(`{"alg":"ES256"}`) + "." + b64(jwtClaims)
	sum := sha256.Sum256([]byte(input))
	return input + "." + b64(string(rawECDSA(k.p384, sum[:])))
}

func copies(key jwk.Key, n int) (keys []jwk.Key) {
	for range n {
		keys = append(keys, key)
	}
	return keys
}
