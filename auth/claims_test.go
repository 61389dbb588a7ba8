package auth

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"
)

func TestPrincipalOfClaims(t *testing.T) {
	config := jwtConfig(t)
	config.Client, config.Tier, config.Claims = "client_id", "plan", []string{"tenant", "level", "beta", "gone"}
	i := newTestIssuer(t, config)
	p, err := i.Authenticate(t.Context(), []byte(rs256(with(`"client_id":"Mobile App","plan":"gold","jti":"t-1","iat":1799999000,"nbf":1799999000,`+
		`"scope":"write:orders read:orders","scp":["admin"],"tenant":"acme","level":1.50,"beta":true,"gone":null`))), jwtNow())
	if err != nil {
		t.Fatal(err)
	}
	want := Principal{
		Method: "jwt:main", Client: "Mobile App", User: "alice", Tier: "gold", Credential: "t-1", Issuer: jwtIssuer, Subject: "alice",
		IssuedAt: time.Unix(1799999000, 0), Expires: time.Unix(1800000630, 0),
	}
	if p.Scopes.String() != "admin read:orders write:orders" {
		t.Errorf("scopes %q", p.Scopes)
	}
	if claims := map[string]string{"tenant": "acme", "level": "1.50", "beta": "true"}; !maps.Equal(p.Claims, claims) {
		t.Errorf("claims %q, want %q", p.Claims, claims)
	}
	got := *p
	got.Scopes, got.Claims = Scopes{}, nil
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestPrincipalWithoutExtras(t *testing.T) {
	config := jwtConfig(t)
	config.Client, config.Tier, config.Require = "client_id", "plan", nil
	i := newTestIssuer(t, config)
	for _, sub := range []string{`1`, `""`, `null`, `"a\nb"`, `["root"]`} {
		claims := fmt.Sprintf(`{"iss":%q,"aud":"api","client_id":"app","sub":%s,"plan":["gold"]}`, jwtIssuer, sub)
		p, err := i.Authenticate(t.Context(), []byte(rs256(claims)), jwtNow())
		if err != nil {
			t.Errorf("sub %s: %v", sub, err)
			continue
		}
		if p.User != "app" || p.Subject != "" || p.Tier != "" || !p.Expires.IsZero() || !p.IssuedAt.IsZero() || p.Expired(jwtNow().AddDate(1000, 0, 0)) {
			t.Errorf("sub %s: %+v", sub, p)
		}
	}
}

func TestScopesOfClaims(t *testing.T) {
	many := func(n int) string {
		var names []string
		for i := range n {
			names = append(names, fmt.Sprintf("s%03d", i))
		}
		return strings.Join(names, " ")
	}
	tests := []struct {
		intent string
		claims string
		want   string
	}{
		{"none", `{}`, ""},
		{"scope", `{"scope":"b a"}`, "a b"},
		{"scope empty", `{"scope":""}`, ""},
		{"scope twice the same", `{"scope":"a a"}`, "a"},
		{"scp as an array", `{"scp":["b","a"]}`, "a b"},
		{"scp as a string", `{"scp":"b a"}`, "a b"},
		{"both", `{"scope":"c a","scp":["b","a"]}`, "a b c"},
		{"scope as an array", `{"scope":["a"]}`, ""},
		{"scope of any other type does no harm to scp", `{"scope":{"a":1},"scp":["b"]}`, "b"},
		{"scp with a number in it does no harm to scope", `{"scope":"a","scp":["b",1]}`, "a"},
		{"scp with an array in it", `{"scp":[["admin"]]}`, ""},
		{"scp null", `{"scp":null}`, ""},
		{"one element is one name", `{"scp":["a b"]}`, ""},
		{"two spaces", `{"scope":"a  b"}`, ""},
		{"space before", `{"scope":" a"}`, ""},
		{"space after", `{"scope":"a "}`, ""},
		{"a tab", `{"scope":"a\tb"}`, ""},
		{"a comma is part of a name", `{"scope":"a,b"}`, "a,b"},
		{"a quote", `{"scope":"a \"b"}`, ""},
		{"a backslash", `{"scope":"a\\b"}`, ""},
		{"not ASCII", `{"scope":"\u00e4"}`, ""},
		{"a NUL", `{"scope":"a\u0000"}`, ""},
		{"as many as there may be", `{"scope":"` + many(maxClaimScopes) + `"}`, many(maxClaimScopes)},
		{"one more", `{"scope":"` + many(maxClaimScopes+1) + `"}`, ""},
		{"one more in an array", `{"scp":["` + strings.ReplaceAll(many(maxClaimScopes+1), " ", `","`) + `"]}`, ""},
	}
	for _, test := range tests {
		m, ok := parseMembers([]byte(test.claims))
		if !ok {
			t.Fatalf("%s: %s is no object", test.intent, test.claims)
		}
		if got := m.scopes().String(); got != test.want {
			t.Errorf("%s: %q, want %q", test.intent, got, test.want)
		}
	}
}

func TestKeptClaims(t *testing.T) {
	tests := []struct{ intent, value, want string }{
		{"a string", `"acme"`, "acme"},
		{"a number as it is written", `1.50e1`, "1.50e1"},
		{"a negative number", `-1`, "-1"},
		{"a boolean", `false`, "false"},
		{"null is absent", `null`, ""},
		{"an object is absent", `{"a":1}`, ""},
		{"an array is absent", `["a"]`, ""},
		{"an empty string is absent", `""`, ""},
		{"what could end a header field is absent", `"a\r\nb"`, ""},
		{"half a surrogate pair is absent", `"\udc00"`, ""},
		{"a long string is absent", `"` + strings.Repeat("a", maxClaim+1) + `"`, ""},
		{"a long number is absent", strings.Repeat("1", maxClaim+1), ""},
	}
	for _, test := range tests {
		m, ok := parseMembers([]byte(`{"c":` + test.value + `}`))
		if !ok {
			t.Fatalf("%s: %s is no value", test.intent, test.value)
		}
		got, found := m.kept([]string{"c", "other"})["c"]
		if got != test.want || found != (test.want != "") {
			t.Errorf("%s: %q, want %q", test.intent, got, test.want)
		}
	}
}
