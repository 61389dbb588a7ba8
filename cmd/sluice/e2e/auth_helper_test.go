package e2e

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// signer is a key pair of an issuer, for ES256 or RS256.
type signer struct {
	kid string
	key crypto.Signer
}

func newSigner(t testing.TB, kid string) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{kid, key}
}

func newRSASigner(t testing.TB, kid string) *signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{kid, key}
}

func (s *signer) alg() string {
	if _, ok := s.key.(*rsa.PrivateKey); ok {
		return "RS256"
	}
	return "ES256"
}

// jwk is the public key as an issuer publishes it.
func (s *signer) jwk() string {
	if key, ok := s.key.(*rsa.PrivateKey); ok {
		return fmt.Sprintf(`{"kty":"RSA","use":"sig","alg":"RS256","kid":%q,"n":%q,"e":"AQAB"}`, s.kid, b64(key.N.Bytes()))
	}
	point, _ := s.key.(*ecdsa.PrivateKey).PublicKey.Bytes()
	return fmt.Sprintf(`{"kty":"EC","crv":"P-256","use":"sig","kid":%q,"x":%q,"y":%q}`, s.kid, b64(point[1:33]), b64(point[33:]))
}

// signature signs as JWS does.
func (s *signer) signature(input string) []byte {
	sum := sha256.Sum256([]byte(input))
	if key, ok := s.key.(*rsa.PrivateKey); ok {
		signed, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
		if err != nil {
			panic(err)
		}
		return signed
	}
	r, v, err := ecdsa.Sign(rand.Reader, s.key.(*ecdsa.PrivateKey), sum[:])
	if err != nil {
		panic(err)
	}
	return append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...)
}

// token is a good token but for what over says; nil takes a claim away.
func (s *signer) token(over claims) string { return s.signed(s.header(""), over.text()) }

// header is a token's header with more members.
func (s *signer) header(more string) string {
	return fmt.Sprintf(`{"alg":%q,"typ":"JWT","kid":%q%s}`, s.alg(), s.kid, more)
}

// signed signs a header and a payload, whatever is in them.
func (s *signer) signed(header, payload string) string {
	input := b64([]byte(header)) + "." + b64([]byte(payload))
	return input + "." + b64(s.signature(input))
}

// unsigned is a token with any bytes for a signature.
func unsigned(header, payload string, signature []byte) string {
	return b64([]byte(header)) + "." + b64([]byte(payload)) + "." + b64(signature)
}

func hmacToken(header, payload string, secret []byte) string {
	input := b64([]byte(header)) + "." + b64([]byte(payload))
	mac := hmac.New(sha256.New, secret)
	_, _ = io.WriteString(mac, input)
	return input + "." + b64(mac.Sum(nil))
}

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// claims is how a token differs from a good one of alice, who may read and write.
type claims map[string]any

const (
	issuerName = "https://issuer.test/"
	audience   = "api.test"
)

func (c claims) text() string {
	all := claims{
		"iss": issuerName, "aud": audience, "sub": "alice", "scope": "write read", "tier": "gold",
		"exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Add(-time.Minute).Unix(),
	}
	maps.Copy(all, c)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(all); err != nil {
		panic(err)
	}
	return strings.TrimSpace(b.String())
}

// issuer is a server of a key set, at an address that stays the same while the server comes and goes.
type issuer struct {
	t       testing.TB
	address string
	fetches atomic.Int64
	server  *http.Server

	mu   sync.Mutex
	body string
	wait <-chan struct{} // answers come when it is closed; nil: at once
}

// startIssuer starts an issuer with these keys.
func startIssuer(t testing.TB, signers ...*signer) *issuer {
	t.Helper()
	i := newIssuer(t, signers...)
	i.up()
	return i
}

// newIssuer prepares an issuer that is down.
func newIssuer(t testing.TB, signers ...*signer) *issuer {
	t.Helper()
	i := &issuer{t: t, address: freeAddress(t)}
	i.publish(signers...)
	t.Cleanup(i.down)
	return i
}

func (i *issuer) up() {
	i.t.Helper()
	l, err := net.Listen("tcp", i.address)
	if err != nil {
		i.t.Fatal(err)
	}
	i.server = &http.Server{Handler: http.HandlerFunc(i.serve)}
	go func() { _ = i.server.Serve(l) }()
}

func (i *issuer) down() {
	if i.server != nil {
		_ = i.server.Close()
	}
}

func (i *issuer) serve(w http.ResponseWriter, r *http.Request) {
	i.fetches.Add(1)
	i.mu.Lock()
	body, wait := i.body, i.wait
	i.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-r.Context().Done():
			return
		}
	}
	_, _ = io.WriteString(w, body)
}

func (i *issuer) publish(signers ...*signer) {
	var keys []string
	for _, s := range signers {
		keys = append(keys, s.jwk())
	}
	i.say(`{"keys":[` + strings.Join(keys, ",") + `]}`)
}

func (i *issuer) say(body string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.body = body
}

func (i *issuer) hold(until <-chan struct{}) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.wait = until
}

// table is [auth.jwt.NAME] for the issuer. A later key in more must not be one of those here.
func (i *issuer) table(name, more string) string {
	return fmt.Sprintf(`
[auth.jwt.%s]
issuer     = %q
audiences  = [%q]
jwks       = "http://%s/keys"
algorithms = ["ES256", "RS256"]
leeway     = "0s"
tier       = "tier"
%s
`, name, issuerName, audience, i.address, more)
}

// keyRecord is a [[key]] of a key file.
func keyRecord(key, client, more string) string {
	return fmt.Sprintf("[[key]]\nhash = %q\nclient = %q\n%s\n", hashOf(key), client, more)
}

func hashOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// idOf is the public name of a key.
func idOf(key string) string {
	first := sha256.Sum256([]byte(key))
	second := sha256.Sum256(first[:])
	return fmt.Sprintf("key_%016x", new(big.Int).SetBytes(second[:8]))
}

// place puts a file beside the configuration in one step.
func (g *gateway) place(name, text string) {
	g.t.Helper()
	temporary := filepath.Join(g.dir, name+".next")
	if err := os.WriteFile(temporary, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
	if err := os.Rename(temporary, filepath.Join(g.dir, name)); err != nil {
		g.t.Fatal(err)
	}
}

// startWithKeys runs a gateway that finds a key file.
func startWithKeys(t testing.TB, text, keys string) *gateway {
	t.Helper()
	g := newGateway(t, text)
	g.place("keys.toml", keys)
	g.start()
	return g
}

// guarded is a route that asks who is there.
func guarded(path, methods, more string) string {
	return fmt.Sprintf("[[route]]\nname = %q\npath = \"/%s/*\"\nauth = [%s]\nto = \"up\"\n%s\n", path, path, methods, more)
}

// upstreamTable is the upstream of guarded routes.
func upstreamTable(url string) string { return fmt.Sprintf("[upstream.up]\ntargets = [%q]\n", url) }

func bearer(token string) string { return "Authorization: Bearer " + token }

// with asks for a path on a connection of its own.
func (g *gateway) with(t testing.TB, path string, lines ...string) *response {
	t.Helper()
	c := g.dial(t)
	defer c.Close()
	return c.ask(path, append(lines, "Connection: close")...)
}

// soon waits for what must happen within a second, which a busy machine with the race detector stretches.
func soon(t testing.TB, what string, ok func() bool) {
	t.Helper()
	limit, begun := time.Second, time.Now()
	if raceDetector() {
		limit *= 3
	}
	eventually(t, what, ok)
	if took := time.Since(begun); took > limit {
		t.Errorf("took %v: %s", took, what)
	}
}

// expectSecret checks that neither what the gateway wrote nor its status has a text.
func (g *gateway) expectSecret(t testing.TB, secrets ...string) {
	t.Helper()
	r, err := adminClient.Get("http://" + g.admin + "/status")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	status, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range secrets {
		for where, text := range map[string]string{"log": g.log.String(), "status": string(status)} {
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("the %s has %q: ...%s", where, secret, text[max(0, at-200):at+len(secret)])
			}
		}
	}
}
