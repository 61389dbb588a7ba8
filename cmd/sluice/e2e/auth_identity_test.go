package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// startIdentity runs a gateway whose routes tell upstreams who is there by the names given, over an upstream
// that answers 200 and records what it got.
func startIdentity(t testing.TB, identity string) (g *gateway, up *recorder, s *signer) {
	t.Helper()
	up, s = startAnswering(t, ok), newSigner(t, "1")
	i := startIssuer(t, s)
	g = startWithKeys(t, upstreamTable(up.url())+i.table("main", "")+i.table("fwd", "forward_token = true")+identity+
		guarded("open", `"none"`, "")+guarded("token", `"jwt:main"`, "")+guarded("key", `"keys"`, "")+
		guarded("forward", `"jwt:fwd"`, "")+guarded("mixed", `"jwt:main", "keys"`, ""),
		keyRecord(goodKey, "mobile", `tier = "silver"
scopes = ["b:2", "a:1"]`)+keyRecord("key-plain", "plain", ""))
	return g, up, s
}

// identityOf is what the upstream was told of the client, by every spelling of the fields.
func identityOf(r *request, names ...string) map[string][]string {
	told := map[string][]string{}
	for _, f := range r.fields {
		folded := strings.ReplaceAll(strings.ToLower(f.name), "_", "-")
		if slices.Contains(names, folded) {
			told[folded] = append(told[folded], f.name+"="+f.value)
		}
	}
	return told
}

// What a client says of its own identity reaches no upstream, in no spelling and on no route.
func TestIdentityCannotBeSpoofed(t *testing.T) {
	t.Parallel()
	g, up, s := startIdentity(t, "")
	token := bearer(s.token(nil))
	routes := []struct{ path, credential string }{
		{"/open/x", "X-Nothing: 1"}, {"/open/x", token}, {"/token/x", token}, {"/key/x", "X-API-Key: " + goodKey}, {"/key/x", "X-API-Key: key-plain"},
		{"/mixed/x", token}, {"/mixed/x", "X-API-Key: key-plain"}, {"/forward/x", token},
	}
	for _, route := range routes {
		for _, name := range []string{"X-User-ID", "X-User-Scopes", "X-Client-Tier"} {
			for i, lines := range spellings(name) {
				t.Run(fmt.Sprintf("%s with %.9s: %s %d", route.path, route.credential, name, i), func(t *testing.T) {
					mark := up.size()
					r := g.with(t, route.path, append([]string{route.credential}, lines...)...)
					if r.status == 400 && i >= wellFormed {
						up.expectNothing(t, mark)
						return
					}
					if r.status != 200 {
						t.Fatalf("status %d\n%s", r.status, r.body)
					}
					if got := up.one(t); strings.Contains(strings.ToLower(got.raw), "evil") {
						t.Errorf("the upstream got\n%s", got.raw)
					}
				})
			}
		}
	}
}

// wellFormed is how many of the spellings are fields like others: the request is served without them.
const wellFormed = 9

// spellings are ways to say something evil by a name, as lines of a head.
func spellings(name string) [][]string {
	lower, upper := strings.ToLower(name), strings.ToUpper(name)
	folded := strings.ReplaceAll(name, "-", "_")
	return [][]string{
		{name + ": evil"}, {lower + ": evil"}, {upper + ":evil"}, {folded + ": evil"}, {strings.ToLower(folded) + ": evil"},
		{strings.Replace(name, "-", "_", 1) + ": evil"}, {strings.Replace(lower, "-u", "_u", 1) + ": evil"},
		{name + ": evil", name + ": evil too"}, {name + ": evil", folded + ": evil", lower + ": evil"},
		{name + " : evil"}, {name + "\t: evil"}, {" " + name + ": evil"}, {"X-Other: 1", " " + name + ": evil"},
		{name + ": evil", "Connection: " + name}, {"Connection: " + lower + ", " + folded, name + ": evil", folded + ": evil"},
		{"Connection: close, X-Request-ID, Host", name + ": evil"},
		{name + "\x00: evil"}, {"\xef\xbb\xbf" + name + ": evil"}, {name + "\u00a0: evil"}, {name + "\r: evil"}, {"X-A: 1\n" + name + ": evil"},
		{"X-A: 1\r" + name + ": evil"}, {name + ": \tevil\t"}, {name + ":", name + ": evil"},
	}
}

// Trailers cannot say it either, announced or not.
func TestIdentityCannotBeSpoofedByTrailers(t *testing.T) {
	t.Parallel()
	g, up, s := startIdentity(t, "")
	for _, path := range []string{"/open/x", "/token/x", "/forward/x"} {
		for _, name := range []string{"X-User-ID", "x-user-scopes", "X_Client_Tier", "X-API-Key", "Authorization", "Host", "Content-Length"} {
			c := g.dial(t)
			r := c.do("POST " + path + " HTTP/1.1\r\nHost: h\r\n" + bearer(s.token(nil)) + "\r\nTransfer-Encoding: chunked\r\nTrailer: X-Fine, " + name +
				"\r\n\r\n2\r\nhi\r\n0\r\n" + name + ": evil\r\nX-Fine: fine\r\n\r\n")
			c.Close()
			if r.status == 400 {
				continue
			}
			got := up.one(t)
			if got.body != "hi" || path == "/open/x" && name == "Authorization" {
				continue // nobody's credential there: a field like any other
			}
			if strings.Contains(got.raw, "evil") {
				t.Errorf("%s %s: the upstream got\n%s", path, name, got.raw)
			}
		}
	}
}

// Upstreams are told who the principal is, once and by the gateway, and do not get its credential.
func TestIdentityIsThePrincipals(t *testing.T) {
	t.Parallel()
	g, up, s := startIdentity(t, "")
	alice := map[string][]string{"x-user-id": {"X-User-ID=alice"}, "x-user-scopes": {"X-User-Scopes=read write"}, "x-client-tier": {"X-Client-Tier=gold"}}
	mobile := map[string][]string{"x-user-id": {"X-User-ID=mobile"}, "x-user-scopes": {"X-User-Scopes=a:1 b:2"}, "x-client-tier": {"X-Client-Tier=silver"}}
	plain := map[string][]string{"x-user-id": {"X-User-ID=plain"}}
	token, secret := s.token(nil), s.token(claims{"sub": "alice"})
	kept := map[string][]string{"authorization": {"Authorization=Bearer " + secret}}
	for _, c := range []struct {
		intent, path string
		lines        []string
		identity     map[string][]string
		credentials  map[string][]string // that the upstream gets
	}{
		{"a token", "/token/x", []string{bearer(token)}, alice, nil},
		{"a token and an unwanted key", "/token/x", []string{bearer(token), "X-API-Key: " + goodKey, "X_API_Key: x"}, alice, nil},
		{"a token that is forwarded", "/forward/x", []string{bearer(secret)}, alice, kept},
		{"a forwarded token and an unwanted key", "/forward/x", []string{bearer(secret), "x-api-key: " + goodKey}, alice, kept},
		{"a key", "/key/x", []string{"x-aPI-key: " + goodKey}, mobile, nil},
		{"a key without tier or scopes", "/key/x", []string{"X-API-Key: key-plain"}, plain, nil},
		{"either: a token", "/mixed/x", []string{bearer(token)}, alice, nil},
		{"either: a key", "/mixed/x", []string{"X-API-Key: " + goodKey}, mobile, nil},
		{"nobody", "/open/x", []string{"X-API-Key: " + goodKey, "x-api-key: x"}, nil, nil},
		{"nobody, with somebody's token", "/open/x", []string{bearer(secret)}, nil, kept},
		{"named in Connection", "/token/x", []string{bearer(token), "Connection: X-User-ID, x-user-scopes, X-Client-Tier, X-Request-ID"}, alice, nil},
		{"a credential named in Connection", "/token/x", []string{bearer(token), "Connection: Authorization"}, alice, nil},
		{"a sub that is not ASCII", "/token/x", []string{bearer(s.token(claims{"sub": "zoë", "scope": nil, "tier": nil}))},
			map[string][]string{"x-user-id": {"X-User-ID=zoë"}}, nil},
	} {
		r := g.with(t, c.path, c.lines...)
		if r.status != 200 {
			t.Errorf("%s: status %d\n%s", c.intent, r.status, r.body)
			continue
		}
		got := up.one(t)
		if told := identityOf(got, "x-user-id", "x-user-scopes", "x-client-tier"); fmt.Sprint(told) != fmt.Sprint(orNone(c.identity)) {
			t.Errorf("%s: the upstream was told %v, want %v", c.intent, told, c.identity)
		}
		if shown := identityOf(got, "authorization", "x-api-key"); fmt.Sprint(shown) != fmt.Sprint(orNone(c.credentials)) {
			t.Errorf("%s: the upstream was shown %v, want %v", c.intent, shown, c.credentials)
		}
		if !got.fields.has("X-Request-ID") {
			t.Errorf("%s: Connection took the request id away", c.intent)
		}
	}
}

func orNone(m map[string][]string) map[string][]string {
	if m == nil {
		return map[string][]string{}
	}
	return m
}

// The fields have the names that the configuration gives them; one without a name is not sent.
func TestIdentityRenamed(t *testing.T) {
	t.Parallel()
	up, s := startAnswering(t, ok), newSigner(t, "1")
	i := startIssuer(t, s)
	g := startWithKeys(t, upstreamTable(up.url())+i.table("main", `header = "X-Token"`)+`
[auth.keys]
header = "Api-Token"
[auth.identity]
user = "Remote-User"
scopes = ""
tier = "Remote-Tier"
`+guarded("open", `"none"`, "")+guarded("token", `"jwt:main"`, "")+guarded("key", `"keys"`, ""), keyRecord(goodKey, "mobile", ""))
	spoof := []string{"Remote-User: evil", "remote_user: evil", "REMOTE-TIER: evil"}
	for _, c := range []struct{ path, credential, want string }{
		{"/open/x", "Api-Token: evil", "map[]"},
		{"/open/x", "api_token: evil", "map[]"},
		{"/token/x", "X-Token: Bearer " + s.token(nil), "map[remote-tier:[Remote-Tier=gold] remote-user:[Remote-User=alice]]"},
		{"/key/x", "API-TOKEN: " + goodKey, "map[remote-user:[Remote-User=mobile]]"},
	} {
		if r := g.with(t, c.path, append([]string{c.credential}, spoof...)...); r.status != 200 {
			t.Errorf("%s: status %d\n%s", c.path, r.status, r.body)
			continue
		}
		got := up.one(t)
		names := []string{"remote-user", "remote-tier", "x-user-id", "x-user-scopes", "x-client-tier", "x-token", "api-token"}
		if told := fmt.Sprint(identityOf(got, names...)); told != c.want {
			t.Errorf("%s: the upstream was told %v, want %v", c.path, told, c.want)
		}
		if strings.Contains(got.raw, "evil") {
			t.Errorf("%s: the upstream got\n%s", c.path, got.raw)
		}
	}
	for path, line := range map[string]string{"/token/x": bearer(s.token(nil)), "/key/x": "X-API-Key: " + goodKey} {
		g.with(t, path, line).expectProblem(t, 401, "credentials_missing")
	}
	r := g.with(t, "/key/x")
	if got := r.fields.get("WWW-Authenticate"); got != `ApiKey realm="sluice", header="Api-Token"` {
		t.Errorf("challenge %q", got)
	}
}

// A browser's preflight carries no credentials and passes; nothing else does that is nearly one.
func TestPreflight(t *testing.T) {
	t.Parallel()
	g, up, s := startIdentity(t, "")
	const origin, method = "Origin: https://app.test", "Access-Control-Request-Method: PUT"
	for _, c := range []struct {
		intent, method string
		lines          []string
		status         int
	}{
		{"a preflight", "OPTIONS", []string{origin, method, "Access-Control-Request-Headers: authorization"}, 200},
		{"a preflight that lies", "OPTIONS", []string{origin, method, "X-User-ID: evil", "X_User_Scopes: evil", "X-API-Key: evil", "Authorization: evil"}, 200},
		{"no Origin", "OPTIONS", []string{method}, 401},
		{"no method asked for", "OPTIONS", []string{origin}, 401},
		{"neither", "OPTIONS", nil, 401},
		{"two Origins", "OPTIONS", []string{origin, origin, method}, 401},
		{"two methods", "OPTIONS", []string{origin, method, method}, 401},
		{"another method", "GET", []string{origin, method}, 401},
		{"another method's case", "options", []string{origin, method}, 401},
		{"another method with a trick", "POST", []string{origin, method, "X-HTTP-Method-Override: OPTIONS"}, 401},
		{"with underscores", "OPTIONS", []string{origin, "Access_Control_Request_Method: PUT"}, 401},
		{"OPTIONS with a token", "OPTIONS", []string{bearer(s.token(nil))}, 200},
	} {
		for _, path := range []string{"/token/x", "/mixed/x"} {
			mark := up.size()
			head := c.method + " " + path + " HTTP/1.1\r\nHost: h\r\n" + strings.Join(append(c.lines, ""), "\r\n") + "\r\n"
			conn, r := g.exchange(t, head)
			conn.Close()
			if r.status != c.status {
				t.Errorf("%s: status %d, want %d\n%s", c.intent, r.status, c.status, r.body)
			}
			if r.status != 200 {
				up.expectNothing(t, mark)
			} else if got := up.one(t); strings.Contains(got.raw, "evil") {
				t.Errorf("%s: the upstream got\n%s", c.intent, got.raw)
			}
		}
	}
}
