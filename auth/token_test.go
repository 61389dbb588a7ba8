package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestBearerToken(t *testing.T) {
	long := strings.Repeat("a", maxToken)
	tests := []struct {
		intent string
		value  string
		want   string // empty: not ok
	}{
		{"as everyone writes it", "Bearer abc.def-_~+/", "abc.def-_~+/"},
		{"in lower case", "bearer abc", "abc"},
		{"in any case", "bEaReR abc", "abc"},
		{"padding is part of a token68", "Bearer abc==", "abc=="},
		{"several spaces", "Bearer   abc", "abc"},
		{"the longest", "Bearer " + long, long},
		{"one byte longer", "Bearer " + long + "a", ""},
		{"more space than anyone needs", "Bearer " + strings.Repeat(" ", 2*maxToken) + "a", ""},
		{"nothing", "", ""},
		{"only the scheme", "Bearer", ""},
		{"only the scheme and a space", "Bearer ", ""},
		{"only spaces", "Bearer    ", ""},
		{"only padding", "Bearer ==", ""},
		{"padding inside", "Bearer a=b", ""},
		{"a tab", "Bearer\tabc", ""},
		{"a tab after the space", "Bearer \tabc", ""},
		{"no space", "Bearerabc", ""},
		{"space before", " Bearer abc", ""},
		{"space after", "Bearer abc ", ""},
		{"two tokens", "Bearer abc def", ""},
		{"two credentials", "Bearer abc, Bearer def", ""},
		{"a parameter", `Bearer token="abc"`, ""},
		{"a comma", "Bearer abc,", ""},
		{"in quotes", `Bearer "abc"`, ""},
		{"another scheme", "Basic YWxpY2U6c2VjcmV0", ""},
		{"a scheme that begins alike", "Bearers abc", ""},
		{"the Kelvin sign is no k, and the long s no s", "Bearer \u212a", ""},
		{"a line end", "Bearer abc\r\n", ""},
		{"a NUL", "Bearer abc\x00", ""},
		{"not ASCII", "Bearer \u00e4", ""},
		{"the bare token", "abc.def.ghi", ""},
	}
	for _, test := range tests {
		token, ok := BearerToken([]byte(test.value))
		if string(token) != test.want || ok != (test.want != "") {
			t.Errorf("%s: %q is %q, %t, want %q", test.intent, test.value, token, ok, test.want)
		}
	}
}

func FuzzBearer(f *testing.F) {
	for _, seed := range []string{"Bearer abc", "bearer  a.b.c==", "Basic x", "Bearer", "Bearer a,b", "BEARER \xff"} {
		f.Add([]byte(seed))
	}
	grammar := regexp.MustCompile(`^(?i:bearer) +([A-Za-z0-9._~+/-]+=*)$`)
	f.Fuzz(func(t *testing.T, value []byte) {
		token, ok := BearerToken(value)
		match := grammar.FindSubmatch(value)
		if bytes.HasSuffix(value, []byte("\n")) {
			match = nil // "$" would let it pass
		}
		switch {
		case ok && (match == nil || !bytes.Equal(match[1], token)):
			t.Errorf("%q is %q, which the grammar does not have", value, token)
		case !ok && match != nil && len(value) <= maxToken:
			t.Errorf("%q is refused, and the grammar has it", value)
		case !ok && token != nil:
			t.Errorf("%q is refused, and yet %q", value, token)
		}
	})
}

// FuzzToken seals any header and any claims, so that claims are reached, and also tries them as they are.
// What is accepted must be what a reader of its own, which knows only the simplest tokens, makes of it.
func FuzzToken(f *testing.F) {
	config := jwtConfig(f)
	config.Keys, config.Algorithms, config.Secret = nil, []string{"HS256"}, []byte(jwtSecret)
	config.Tier, config.Claims = "tier", []string{"a", "b"}
	i := newTestIssuer(f, config)
	config.Cache = 16
	cached := newTestIssuer(f, config)
	for _, header := range []string{`{"alg":"HS256"}`, `{"alg":"none"}`, `{"alg":"HS256","typ":"at+jwt","kid":"k"}`, `{"alg":"HS256","crit":[]}`} {
		f.Add([]byte(header), []byte(jwtClaims), []byte(nil))
	}
	for _, member := range []string{
		`"scope":"a b"`, `"scp":["a","b"]`, `"nbf":1,"iat":2.5`, `"jti":"x","tier":"gold"`, `"a":1,"b":true`, `"x":{"y":[1,null]}`, `"iat":1e9`, `"\u0061":"\ud83d\ude00"`,
	} {
		f.Add([]byte(`{"alg":"HS256"}`), []byte(with(member)), []byte("x"))
	}
	f.Fuzz(func(t *testing.T, header, claims, raw []byte) {
		if p, err := i.Authenticate(t.Context(), raw, jwtNow()); p != nil || !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %+v, %v, and nobody sealed it", raw, p, err)
		}
		token := []byte(seal("HS256", string(header), string(claims)))
		p, err := i.Authenticate(t.Context(), token, jwtNow())
		again, cachedErr := cached.Authenticate(t.Context(), token, jwtNow())
		if (err == nil) != (cachedErr == nil) || err == nil && again.Client != p.Client {
			t.Errorf("%v, and with a cache %v", err, cachedErr)
		}
		if err != nil {
			if p != nil || !errors.Is(err, ErrInvalid) {
				t.Errorf("%+v, %v", p, err)
			}
			return
		}
		judgeAccepted(t, p, header, claims)
	})
}

func judgeAccepted(t *testing.T, p *Principal, header, claims []byte) {
	t.Helper()
	var head, body map[string]any
	if err := json.Unmarshal(header, &head); err != nil || head["alg"] != "HS256" {
		t.Fatalf("the header %q is accepted: %v", header, err)
	}
	for _, name := range []string{"crit", "b64", "zip", "enc", "jwk", "jku", "x5u", "x5c"} {
		if _, found := head[name]; found {
			t.Errorf("the header %q is accepted", header)
		}
	}
	if err := json.Unmarshal(claims, &body); err != nil || body["iss"] != jwtIssuer {
		t.Fatalf("the claims %q are accepted: %v", claims, err)
	}
	if body["sub"] != p.Client || p.Client == "" || len(p.Client) > maxClaim || !utf8.ValidString(p.Client) || strings.ContainsAny(p.Client, "\r\n\x00") {
		t.Errorf("%q is whom %q stands for", p.Client, claims)
	}
	if exp, ok := body["exp"].(float64); !ok || time.Unix(int64(exp), 0).Add(31*time.Second).Before(jwtNow()) {
		t.Errorf("%q is accepted past its end", claims)
	}
	for _, name := range []string{"nbf", "iat"} {
		if at, ok := body[name].(float64); body[name] != nil && (!ok || time.Unix(int64(at), 0).After(jwtNow().Add(30*time.Second))) {
			t.Errorf("%q is accepted before its time", claims)
		}
	}
	if p.Expired(jwtNow()) {
		t.Errorf("%q is accepted, and its principal expired", claims)
	}
	if _, err := NewScopes(p.Scopes.List()); err != nil {
		t.Errorf("%q has scopes %q", claims, p.Scopes)
	}
}
