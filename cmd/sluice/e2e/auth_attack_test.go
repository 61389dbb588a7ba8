package e2e

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// attack is a request that shows something, and what has to come of it.
type attack struct {
	intent     string
	path       string
	lines      []string // of the head
	status     int
	reason     string
	challenges []string // WWW-Authenticate, in order; nil: not looked at
}

const (
	bearerChallenge = `Bearer realm="sluice"`
	bearerInvalid   = `Bearer realm="sluice", error="invalid_token"`
	keyChallenge    = `ApiKey realm="sluice", header="X-API-Key"`
	goodKey         = "key-of-alice-0123456789"
)

// lock is a gateway with a route for each combination of methods, and who may open it.
type lock struct {
	*gateway
	up        *recorder
	issuer    *issuer
	elliptic  *signer
	rsa       *signer
	stranger  *signer // whose keys nobody has published
	strangers *issuer // who publishes them, and must not be asked
}

func startLock(t testing.TB) *lock {
	t.Helper()
	l := &lock{
		up: startAnswering(t, ok), elliptic: newSigner(t, "ec-1"), rsa: newRSASigner(t, "rsa-1"), stranger: newSigner(t, "ec-1"),
	}
	l.issuer, l.strangers = startIssuer(t, l.elliptic, l.rsa), startIssuer(t, l.stranger)
	hour := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	past := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	l.gateway = startWithKeys(t, upstreamTable(l.up.url())+l.issuer.table("main", "")+
		guarded("token", `"jwt:main"`, "")+guarded("key", `"keys"`, "")+
		guarded("both", `"jwt:main", "keys"`, "")+guarded("scoped", `"jwt:main", "keys"`, `scopes = ["read", "admin"]`)+
		guarded("read", `"jwt:main", "keys"`, `scopes = ["read"]`),
		keyRecord(goodKey, "alice", `scopes = ["read"]`)+
			keyRecord("key-of-bob", "bob", `expires = "`+hour+`"`)+
			keyRecord("key-disabled", "alice", "disabled = true")+
			keyRecord("key-expired", "alice", `expires = "`+past+`"`))
	return l
}

// judge sends attacks and checks the answers, and that the upstream heard of those only that passed.
func (l *lock) judge(t *testing.T, attacks []attack) {
	t.Helper()
	for _, a := range attacks {
		t.Run(a.intent, func(t *testing.T) {
			mark := l.up.size()
			r := l.with(t, a.path, a.lines...)
			if a.status == 200 {
				if r.status != 200 || l.up.size() == mark {
					t.Errorf("status %d, want 200 and a request for the upstream\n%s", r.status, r.body)
				}
				return
			}
			r.expectProblem(t, a.status, a.reason)
			l.up.expectNothing(t, mark)
			if got := r.fields.values("WWW-Authenticate"); a.challenges != nil && !slices.Equal(got, a.challenges) {
				t.Errorf("challenges %q, want %q", got, a.challenges)
			}
		})
	}
}

// refusedToken is an attack on the route for tokens that must end as all of them do.
func refusedToken(intent, token string) attack {
	return attack{intent, "/token/x", []string{bearer(token)}, 401, "credentials_invalid", []string{bearerInvalid}}
}

func passingToken(intent, token string) attack {
	return attack{intent: intent, path: "/token/x", lines: []string{bearer(token)}, status: 200}
}

// No token that is not what it should be in every respect opens anything, and no byte of its request reaches
// the upstream.
func TestTokenAttacks(t *testing.T) {
	t.Parallel()
	l := startLock(t)
	good := l.elliptic.token(nil)
	t.Run("good", func(t *testing.T) {
		l.judge(t, []attack{
			passingToken("ES256", good),
			passingToken("RS256", l.rsa.token(nil)),
			passingToken("remembered", good),
			passingToken("a list of audiences", l.elliptic.token(claims{"aud": []string{"other", audience}})),
			passingToken("no kid, a key that fits", l.elliptic.signed(`{"alg":"ES256"}`, claims{}.text())),
			passingToken("type of an access token", l.elliptic.signed(`{"alg":"ES256","typ":"at+jwt"}`, claims{}.text())),
		})
	})
	t.Run("header", func(t *testing.T) { l.judge(t, headerAttacks(l)) })
	t.Run("claims", func(t *testing.T) { l.judge(t, claimAttacks(l)) })
	t.Run("shape", func(t *testing.T) { l.judge(t, shapeAttacks(l, good)) })
	if n := l.strangers.fetches.Load(); n != 0 {
		t.Errorf("tokens made the gateway ask their author %d times for keys", n)
	}
	if n := l.issuer.fetches.Load(); n > 2 {
		t.Errorf("unknown kids made the gateway fetch keys %d times", n)
	}
}

// headerAttacks are tokens whose header lies about how to verify them.
func headerAttacks(l *lock) (all []attack) {
	payload := claims{}.text()
	for _, alg := range []string{`"none"`, `"None"`, `"NONE"`, `"nOnE"`, `""`, `null`, `["ES256"]`, `"es256"`, `"ES384"`, `"HS256"`, `"EdDSA"`} {
		header := `{"alg":` + alg + `,"kid":"ec-1"}`
		all = append(all,
			refusedToken("alg "+alg+", no signature", unsigned(header, payload, nil)),
			refusedToken("alg "+alg+", some signature", unsigned(header, payload, []byte("signature"))),
			refusedToken("alg "+alg+", a real signature", l.elliptic.signed(header, payload)))
	}
	public := l.rsa.key.(*rsa.PrivateKey).Public().(*rsa.PublicKey)
	pkix, _ := x509.MarshalPKIXPublicKey(public)
	pkcs := x509.MarshalPKCS1PublicKey(public)
	asPEM := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	for name, secret := range map[string][]byte{
		"PKIX PEM": asPEM("PUBLIC KEY", pkix), "PKIX": pkix, "PKCS 1 PEM": asPEM("RSA PUBLIC KEY", pkcs), "PKCS 1": pkcs,
		"modulus": public.N.Bytes(), "JWK": []byte(l.rsa.jwk()), "nothing": nil,
	} {
		all = append(all, refusedToken("HS256 with the public key for a secret: "+name,
			hmacToken(`{"alg":"HS256","kid":"rsa-1"}`, payload, secret)))
	}
	for _, kid := range []string{`"../../../dev/null"`, `"ec-2"`, `"EC-1"`, `"ec-1 "`, `"' OR 1=1 --"`, `1`, `null`, `["ec-1"]`, `"rsa-1"`,
		`"` + strings.Repeat("k", 300) + `"`, `"http://` + l.strangers.address + `/keys"`} {
		all = append(all, refusedToken("kid "+kid[:min(len(kid), 40)], l.elliptic.signed(`{"alg":"ES256","kid":`+kid+`}`, payload)))
	}
	for _, more := range []string{
		`"jwk":` + l.stranger.jwk(), `"jku":"http://` + l.strangers.address + `/keys"`, `"x5u":"http://` + l.strangers.address + `/cert"`,
		`"x5c":["MIIB"]`,
	} {
		all = append(all, refusedToken("a stranger's key brought along: "+more[:6], l.stranger.signed(l.stranger.header(","+more), payload)))
	}
	for _, more := range []string{
		`,"crit":["exp"]`, `,"crit":[]`, `,"b64":false`, `,"b64":true`, `,"zip":"DEF"`, `,"enc":"A128GCM"`, `,"typ":"JWE"`, `,"typ":7`,
		`,"alg":"none"`, `,"jwk":` + l.elliptic.jwk(),
	} {
		all = append(all, refusedToken("header with "+more[1:], l.elliptic.signed(strings.Replace(l.elliptic.header(more), `"typ":"JWT",`, "", 1), payload)))
	}
	return append(all,
		refusedToken("a stranger's signature", l.stranger.token(nil)),
		refusedToken("ES256 says RS256", l.elliptic.signed(`{"alg":"RS256","kid":"rsa-1"}`, payload)),
		refusedToken("RS256 says ES256", l.rsa.signed(`{"alg":"ES256","kid":"ec-1"}`, payload)),
		refusedToken("a zero signature", unsigned(l.elliptic.header(""), payload, make([]byte, 64))),
		refusedToken("no header", l.elliptic.signed(``, payload)),
		refusedToken("a header that is a list", l.elliptic.signed(`[]`, payload)))
}

// claimAttacks are tokens of the issuer that are not meant for us, or not for now, or do not say for whom.
func claimAttacks(l *lock) (all []attack) {
	now := time.Now()
	for _, c := range []struct {
		intent string
		over   claims
	}{
		{"another iss", claims{"iss": "https://evil.test/"}},
		{"an iss that is nearly ours", claims{"iss": strings.TrimSuffix(issuerName, "/")}},
		{"an iss that begins as ours", claims{"iss": issuerName + "x"}},
		{"a list of iss", claims{"iss": []string{issuerName}}},
		{"no iss", claims{"iss": nil}},
		{"another aud", claims{"aud": "other"}},
		{"an aud that begins as ours", claims{"aud": audience + ".evil.test"}},
		{"an empty list of aud", claims{"aud": []string{}}},
		{"aud in a list with numbers", claims{"aud": []any{audience, 1}}},
		{"aud as an object", claims{"aud": map[string]any{audience: true}}},
		{"no aud", claims{"aud": nil}},
		{"expired", claims{"exp": now.Add(-time.Second).Unix()}},
		{"expired long ago", claims{"exp": 0}},
		{"no exp", claims{"exp": nil}},
		{"exp in capitals", claims{"exp": nil, "EXP": now.Add(time.Hour).Unix()}},
		{"exp as text", claims{"exp": fmt.Sprint(now.Add(time.Hour).Unix())}},
		{"exp as a date", claims{"exp": now.Add(time.Hour).Format(time.RFC3339)}},
		{"exp beyond all time", claims{"exp": 1e30}},
		{"exp before all time", claims{"exp": -1}},
		{"exp in a list", claims{"exp": []int64{now.Add(time.Hour).Unix()}}},
		{"exp true", claims{"exp": true}},
		{"not valid yet", claims{"nbf": now.Add(time.Minute).Unix()}},
		{"nbf as text", claims{"nbf": "0"}},
		{"issued in the future", claims{"iat": now.Add(time.Minute).Unix()}},
		{"no sub", claims{"sub": nil}},
		{"an empty sub", claims{"sub": ""}},
		{"a number for sub", claims{"sub": 1}},
		{"sub with a line break", claims{"sub": "alice\r\nX-Evil: 1"}},
		{"sub with a NUL", claims{"sub": "alice\x00"}},
		{"sub with space at its end", claims{"sub": "alice "}},
		{"a sub that is too long", claims{"sub": strings.Repeat("a", 1000)}},
		{"a number for jti", claims{"jti": 1}},
	} {
		all = append(all, refusedToken(c.intent, l.elliptic.token(c.over)))
	}
	for _, twice := range []string{`"sub":"root"`, `"exp":99999999999`, `"\u0073ub":"root"`, `"scope":"admin"`} {
		payload := "{" + twice + "," + claims{}.text()[1:]
		all = append(all, refusedToken("a claim twice: "+twice, l.elliptic.signed(l.elliptic.header(""), payload)))
	}
	for _, payload := range []string{``, `null`, `[]`, `"alice"`, claims{}.text() + `{}`, "\xef\xbb\xbf" + claims{}.text(),
		strings.Replace(claims{}.text(), "alice", "al\xffice", 1)} {
		all = append(all, refusedToken("payload "+payload[:min(len(payload), 10)], l.elliptic.signed(l.elliptic.header(""), payload)))
	}
	return all
}

// shapeAttacks are what is nearly a good token.
func shapeAttacks(l *lock, good string) (all []attack) {
	head, rest, _ := strings.Cut(good, ".")
	body, signature, _ := strings.Cut(rest, ".")
	raw, _ := base64.RawURLEncoding.DecodeString(signature)
	sum := sha256.Sum256([]byte(head + "." + body))
	der, _ := ecdsa.SignASN1(rand.Reader, l.elliptic.key.(*ecdsa.PrivateKey), sum[:])
	flipped := slices.Clone(raw)
	flipped[40] ^= 1
	last := signature[:len(signature)-1] + string(nextLetter(signature[len(signature)-1]))
	for intent, token := range map[string]string{
		"nothing": "", "two parts": head + "." + body, "no signature": head + "." + body + ".", "four parts": good + ".x",
		"five parts": strings.Repeat("eyJhbGciOiJkaXIifQ.", 4) + "x", "dots": strings.Repeat(".", 5000), "only dots": "..",
		"a bit of the signature flipped": head + "." + body + "." + b64(flipped), "DER": head + "." + body + "." + b64(der),
		"a signature that is cut short": good[:len(good)-10], "a signature with more behind it": good + "AAAA",
		"bits that mean nothing":    head + "." + body + "." + last,
		"padding of the signature":  good + "==",
		"padding of the payload":    head + "." + body + "=." + signature,
		"padding of the header":     head + "==." + body + "." + signature,
		"the alphabet of base64":    inBase64(l.elliptic),
		"another payload":           head + "." + b64([]byte(claims{"sub": "root"}.text())) + "." + signature,
		"a quoted token":            `"` + good + `"`,
		"larger than 8 KiB":         l.elliptic.token(claims{"more": strings.Repeat("m", 9000)}),
		"a token behind a line end": head + "." + body + "%0d%0a." + signature,
		"JSON":                      `{"payload":"` + body + `","protected":"` + head + `","signature":"` + signature + `"}`,
	} {
		all = append(all, refusedToken(intent, token))
	}
	for n := 1; n < len(good); n += len(good)/7 + 1 {
		all = append(all, refusedToken(fmt.Sprintf("the first %d bytes", n), good[:n]))
	}
	return append(all, attack{"larger than a head may be", "/token/x",
		[]string{bearer(strings.Repeat("a", 20_000))}, 431, "header_too_large", nil})
}

// nextLetter differs in the lowest bit, which the last letter of 64 bytes in base64 does not use.
func nextLetter(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, c)^1]
}

// inBase64 is a token whose signature is written in the alphabet of plain base64, and differs by that.
func inBase64(s *signer) string {
	for {
		token := s.token(nil)
		dot := strings.LastIndexByte(token, '.')
		if strings.ContainsAny(token[dot:], "-_") {
			return token[:dot] + strings.NewReplacer("-", "+", "_", "/").Replace(token[dot:])
		}
	}
}
