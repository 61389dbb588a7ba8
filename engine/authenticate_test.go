package engine

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/auth"
	"github.com/sluice-gateway/sluice/auth/revocation"
	"github.com/sluice-gateway/sluice/engine/wire"
)

// verdicts is a verifier that knows some credentials, each named after what becomes of it: "down" cannot be
// judged, "NAME/TIER" is the client of that name.
type verdicts struct {
	method string
	known  []string
	asked  *[]string
}

func (v verdicts) Authenticate(_ context.Context, credential []byte, _ time.Time) (*auth.Principal, error) {
	*v.asked = append(*v.asked, v.method+" "+string(credential))
	for _, known := range v.known {
		switch client, _, _ := strings.Cut(known, "/"); {
		case known != string(credential):
		case known == "down":
			return nil, fmt.Errorf("%w: no answer", auth.ErrUnavailable)
		default:
			scopes, _ := auth.NewScopes([]string{"read"})
			return &auth.Principal{Method: v.method, Client: client, Subject: client, Credential: known, Scopes: scopes}, nil
		}
	}
	return nil, auth.ErrInvalid
}

// policed is an engine with nothing but answers, and an exchange on a route of two issuers, keys and a header
// of its own.
func policed(t testing.TB, needed ...string) (x *exchange, asked *[]string) {
	t.Helper()
	asked = new([]string)
	e := &Engine{faults: newFaults(), life: t.Context()}
	e.revocations.list = revocation.New(revocation.Config{})
	now := time.Now()
	for kind, id := range map[revocation.Kind]string{revocation.Subject: "gone", revocation.Key: "alice/r"} {
		if _, err := e.revocations.list.Add(revocation.Entry{Kind: kind, ID: id, Expires: now.Add(time.Hour)}, now); err != nil {
			t.Fatal(err)
		}
	}
	m := func(name, header string, isBearer bool, known ...string) *method {
		return &method{name: name, header: header, bearer: isBearer, challenge: name + "!", verifier: verdicts{name, known, asked}}
	}
	scopes, err := auth.NewScopes(needed)
	if err != nil {
		t.Fatal(err)
	}
	r := &route{scopes: scopes, carriers: []carrier{
		{header: "authorization", methods: []*method{m("jwt:a", "authorization", true, "alice/a", "both/a", "gone"), m("jwt:b", "authorization", true, "bob/b", "both/a", "down")}},
		{header: "x-api-key", methods: []*method{m("keys", "x-api-key", false, "alice/k", "alice/r", "bob/k", "down", "gone")}},
		{header: "x-token", methods: []*method{m("jwt:c", "x-token", true, "alice/c")}},
	}}
	return &exchange{conn: &conn{engine: e}, route: r, method: []byte("GET"), served: now}, asked
}

// show gives the exchange fields, written as in a head.
func (x *exchange) show(lines ...string) {
	x.fields = nil
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		x.fields = append(x.fields, wire.Field{Name: []byte(name), Value: []byte(value)})
	}
}

// One good credential suffices, a bad one spoils all, and those that are shown together have to agree; what
// cannot be judged is no verdict, unless another one is.
func TestPolicy(t *testing.T) {
	t.Parallel()
	const (
		missing = "credentials_missing"
		invalid = "credentials_invalid"
		scope   = "insufficient_scope"
		store   = "auth_store_unavailable"
	)
	for _, c := range []struct {
		intent, lines string // separated by " | "
		want          string // a reason, or the method and the client
		asked         string // method and credential, in order
	}{
		{"nothing", "", missing, ""},
		{"something else", "Cookie: alice/k", missing, ""},
		{"the first issuer", "Authorization: Bearer alice/a", "jwt:a alice", "jwt:a alice/a"},
		{"the second issuer", "AUTHORIZATION: bearer bob/b", "jwt:b bob", "jwt:a bob/b, jwt:b bob/b"},
		{"both know it: the first counts", "authorization: Bearer both/a", "jwt:a both", "jwt:a both/a"},
		{"a key", "X-API-Key: bob/k", "keys bob", "keys bob/k"},
		{"a key is not a bearer token", "X-API-Key: Bearer alice/k", invalid, "keys Bearer alice/k"},
		{"a header of its own", "X-Token: Bearer alice/c", "jwt:c alice", "jwt:c alice/c"},
		{"no bearer token there", "X-Token: alice/c", invalid, ""},
		{"unknown", "Authorization: Bearer eve", invalid, "jwt:a eve, jwt:b eve"},
		{"Basic", "Authorization: Basic YTpi", invalid, ""},
		{"empty", "X-API-Key: ", invalid, "keys "},
		{"twice", "X-API-Key: alice/k | x-api-key: alice/k", invalid, ""},
		{"twice, one empty", "X-API-Key: alice/k | X-API-Key: ", invalid, ""},
		{"three that agree", "X-Token: Bearer alice/c | X-API-Key: alice/k | Authorization: Bearer alice/a", "jwt:a alice",
			"jwt:a alice/a, keys alice/k, jwt:c alice/c"},
		{"two that disagree", "Authorization: Bearer alice/a | X-API-Key: bob/k", invalid, "jwt:a alice/a, keys bob/k"},
		{"three of which one disagrees", "Authorization: Bearer bob/b | X-API-Key: bob/k | X-Token: Bearer alice/c", invalid,
			"jwt:a bob/b, jwt:b bob/b, keys bob/k, jwt:c alice/c"},
		{"a good one and a bad one", "Authorization: Bearer alice/a | X-API-Key: eve", invalid, "jwt:a alice/a, keys eve"},
		{"a bad one and a good one", "Authorization: Bearer eve | X-API-Key: alice/k", invalid, "jwt:a eve, jwt:b eve"},
		{"nobody can tell", "X-API-Key: down", store, "keys down"},
		{"one issuer refuses, the other cannot tell", "Authorization: Bearer down", store, "jwt:a down, jwt:b down"},
		{"a good one, and one that nobody can tell of", "Authorization: Bearer alice/a | X-API-Key: down", store, "jwt:a alice/a, keys down"},
		{"one that nobody can tell of, and a bad one", "Authorization: Bearer down | X-API-Key: eve", invalid, "jwt:a down, jwt:b down, keys eve"},
		{"revoked", "Authorization: Bearer gone", invalid, "jwt:a gone"},
		{"a token and a key of one who is gone", "Authorization: Bearer gone | X-API-Key: gone", invalid, "jwt:a gone"},
		{"a good one, and one of the same client that is revoked", "Authorization: Bearer alice/a | X-API-Key: alice/r", invalid,
			"jwt:a alice/a, keys alice/r"},
		{"one that is revoked, and one that nobody can tell of", "Authorization: Bearer down | X-API-Key: alice/r", invalid,
			"jwt:a down, jwt:b down, keys alice/r"},
		{"too little", "scopes: read write | X-API-Key: alice/k", scope, "keys alice/k"},
		{"too little, and revoked", "scopes: write | Authorization: Bearer gone", invalid, "jwt:a gone"},
		{"enough", "scopes: read | X-API-Key: alice/k", "keys alice", "keys alice/k"},
	} {
		var needed []string
		lines := strings.Split(c.lines, " | ")
		if list, ok := strings.CutPrefix(lines[0], "scopes: "); ok {
			needed, lines = strings.Fields(list), lines[1:]
		}
		x, asked := policed(t, needed...)
		x.show(lines...)
		got := ""
		if fault := x.authenticate(); fault != nil {
			got = fault.Reason
		} else {
			got = x.principal.Method + " " + x.principal.Client
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.intent, got, c.want)
		}
		if all := strings.Join(*asked, ", "); all != c.asked {
			t.Errorf("%s: asked %q, want %q", c.intent, all, c.asked)
		}
	}
}

// Each method of the route is challenged once; the ones that a bad bearer token was meant for say so, and a
// client that may not do this hears it from the method that knows it.
func TestChallenges(t *testing.T) {
	t.Parallel()
	const bad = `, error="invalid_token"`
	want := func(a, b, keys, c string) string {
		return "WWW-Authenticate: jwt:a!" + a + "\r\nWWW-Authenticate: jwt:b!" + b + "\r\nWWW-Authenticate: keys!" + keys +
			"\r\nWWW-Authenticate: jwt:c!" + c + "\r\n"
	}
	for _, c := range []struct{ intent, line, want string }{
		{"nothing", "Host: h", want("", "", "", "")},
		{"a bad token", "Authorization: Bearer eve", want(bad, bad, "", "")},
		{"a bad key", "X-API-Key: eve", want("", "", "", "")},
		{"a bad token elsewhere", "X-Token: Bearer eve", want("", "", "", bad)},
		{"two tokens", "X-Token: Bearer eve\nX-Token: Bearer alice/c", want("", "", "", bad)},
	} {
		x, _ := policed(t)
		x.show(strings.Split(c.line, "\n")...)
		if x.authenticate() == nil {
			t.Errorf("%s: passes", c.intent)
		}
		if got := string(x.appendChallenges(nil)); got != c.want {
			t.Errorf("%s: got\n%swant\n%s", c.intent, got, c.want)
		}
	}
	x, _ := policed(t, "write", "admin")
	x.show("X-API-Key: alice/k")
	const scopes = "WWW-Authenticate: keys!, error=\"insufficient_scope\", scope=\"admin write\"\r\n"
	if fault := x.authenticate(); fault == nil || string(x.appendScopeChallenge(nil)) != scopes {
		t.Errorf("%v, %q", fault, x.appendScopeChallenge(nil))
	}
}

// A request that ends while an issuer is waited for lets go, and the next one on the exchange waits anew.
func TestPatienceIsArmedOnce(t *testing.T) {
	t.Parallel()
	p := patience{life: t.Context()}
	if p.Err() != nil || p.armed != nil {
		t.Error("it is armed before anybody asked")
	}
	at, ok := p.Deadline()
	if again, _ := p.Deadline(); !ok || again != at || time.Until(at) > longestProof {
		t.Errorf("deadline %v, then %v", at, again)
	}
	done := p.Done()
	p.reset()
	select {
	case <-done:
	default:
		t.Error("whoever waits still does after the request")
	}
	if p.armed != nil || p.life != nil {
		t.Error("the next request inherits it")
	}
}

// credentials is a gateway's tables for routes below /key and /token, beside destinationTables, and what opens them.
func credentials(t testing.TB, target string) (tables, key, token string) {
	t.Helper()
	dir := t.TempDir()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	key = "slk_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLM"
	hash := sha256.Sum256([]byte(key))
	for name, text := range map[string]string{
		"set.json":  fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":%q,"y":%q}]}`, b64(point[1:33]), b64(point[33:])),
		"keys.toml": fmt.Sprintf("[[key]]\nhash = %q\nclient = \"mobile\"\ntier = \"gold\"\nscopes = [\"read:users\", \"write:users\"]\n", hex.EncodeToString(hash[:])),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	input := b64([]byte(`{"alg":"ES256","kid":"1"}`)) + "." + b64(fmt.Appendf(nil, `{"iss":"https://issuer.test/","aud":"api","sub":"alice",`+
		`"scope":"read:users write:users","tier":"gold","exp":%d}`, time.Now().Add(time.Hour).Unix()))
	sum := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, private, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	token = input + "." + b64(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
	tables = destinationTables(target) + fmt.Sprintf(`
[auth.keys]
file = "%[1]s/keys.toml"
[auth.jwt.main]
issuer     = "https://issuer.test/"
audiences  = ["api"]
jwks       = "%[1]s/set.json"
algorithms = ["ES256"]
tier       = "tier"
[[route]]
name   = "key"
path   = "/key/*"
auth   = ["keys"]
scopes = ["read:users"]
to     = "version"
[[route]]
name   = "token"
path   = "/token/*"
auth   = ["jwt:main", "keys"]
scopes = ["read:users"]
to     = "version"
`, dir)
	return tables, key, token
}

// usualAs is usualRequest for another route, with one field more.
func usualAs(path, line string) []byte {
	request := strings.Replace(usualRequest, "/users/42", path, 1)
	return []byte(strings.TrimSuffix(request, "\r\n") + line + "\r\n\r\n")
}

// authenticated is the exchanges whose cost is looked at.
func authenticated(t testing.TB) (g *gateway, requests map[string][]byte) {
	t.Helper()
	tables, key, token := credentials(t, rawServer(t, smallAnswer))
	return startGateway(t, tables), map[string][]byte{
		"public": usualAs("/users/42", "X-Nothing: 1"),
		"key":    usualAs("/key/42", "X-API-Key: "+key),
		"token":  usualAs("/token/42", "Authorization: Bearer "+token),
	}
}

// expectPasses makes one exchange, so that what is measured is not a refusal.
func expectPasses(t testing.TB, client *rawClient, request []byte) (size int) {
	t.Helper()
	if _, err := client.Write(request); err != nil {
		t.Fatal(err)
	}
	line, err := client.in.Peek(len("HTTP/1.1 200"))
	if err != nil || !bytes.Equal(line, []byte("HTTP/1.1 200")) {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := client.in.ReadSlice('\n'); err != nil {
		t.Fatal(err)
	}
	size = len("HTTP/1.1 200 OK\r\n")
	for {
		line, err := client.in.ReadSlice('\n')
		if err != nil {
			t.Fatal(err)
		}
		if size += len(line); len(line) == 2 {
			break
		}
	}
	n, err := client.in.Discard(len("hello, world"))
	if err != nil {
		t.Fatal(err)
	}
	return size + n
}

func BenchmarkAuthenticatedExchange(b *testing.B) {
	g, requests := authenticated(b)
	for _, name := range []string{"public", "key", "token"} {
		b.Run(name, func(b *testing.B) {
			client, request := dial(b, g.address), requests[name]
			answer := make([]byte, expectPasses(b, client, request))
			b.ReportAllocs()
			for b.Loop() {
				if err := client.exchange(request, answer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAuthenticate is what authentication adds to a request: credential, revocations and scopes.
func BenchmarkAuthenticate(b *testing.B) {
	tables, key, token := credentials(b, rawServer(b, smallAnswer))
	g := startGateway(b, tables)
	for _, r := range g.snapshot.Load().routes {
		line := map[string]string{"key": "X-API-Key: " + key, "token": "Authorization: Bearer " + token}[r.name]
		if line == "" {
			continue
		}
		b.Run(r.name, func(b *testing.B) {
			x := &exchange{conn: &conn{engine: g.Engine}, route: r, method: []byte("GET"), served: time.Now()}
			x.show("Host: api.example.com", "User-Agent: test/1.0", "Accept: */*", "Accept-Encoding: gzip, br", "Cookie: session=0123456789abcdef", line)
			b.ReportAllocs()
			for b.Loop() {
				x.principal, x.presented = nil, 0
				if fault := x.authenticate(); fault != nil {
					b.Fatal(fault)
				}
			}
		})
	}
}
