package introspection

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sluice-gateway/sluice/auth"
)

func scopes(t testing.TB, names ...string) auth.Scopes {
	t.Helper()
	s, err := auth.NewScopes(names)
	must(t, err)
	return s
}

// at is the time of the tests that judge answers.
func at() time.Time { return time.Unix(1_800_000_000, 0) }

func TestPrincipal(t *testing.T) {
	const method = "introspection:partner"
	tests := []struct {
		intent string
		answer string
		want   auth.Principal
	}{
		{"all that RFC 7662 has", `{"active":true,"client_id":"app","sub":"jane","username":"j","scope":"write read","token_type":"Bearer",
			"exp":1800000100.5,"iat":1799999000,"nbf":1799999000,"iss":"https://a.example/","jti":"id-1","aud":["x"]}`,
			auth.Principal{Method: method, Client: "app", User: "jane", Subject: "jane", Scopes: scopes(t, "read", "write"), Credential: "id-1",
				Issuer: "https://a.example/", IssuedAt: time.Unix(1799999000, 0), Expires: time.Unix(1800000100, 5e8)}},
		{"a client for itself", `{"active":true,"client_id":"app"}`, auth.Principal{Method: method, Client: "app", User: "app"}},
		{"no client is named: the user is", `{"active":true,"sub":"jane"}`, auth.Principal{Method: method, Client: "jane", User: "jane", Subject: "jane"}},
		{"a client that is no string", `{"active":true,"client_id":7,"sub":"jane"}`,
			auth.Principal{Method: method, Client: "jane", User: "jane", Subject: "jane"}},
		{"spaces around scopes", `{"active":true,"client_id":"c","scope":"  a  b "}`,
			auth.Principal{Method: method, Client: "c", User: "c", Scopes: scopes(t, "a", "b")}},
		{"scopes that are no list allow nothing", `{"active":true,"client_id":"c","scope":["a"]}`, auth.Principal{Method: method, Client: "c", User: "c"}},
		{"nor do those with a name that is none", `{"active":true,"client_id":"c","scope":"a \"b\""}`, auth.Principal{Method: method, Client: "c", User: "c"}},
		{"null is absent", `{"active":true,"client_id":"c","sub":null,"exp":null,"jti":null,"scope":null}`,
			auth.Principal{Method: method, Client: "c", User: "c"}},
		{"a date far away", `{"active":true,"client_id":"c","exp":253402300799}`,
			auth.Principal{Method: method, Client: "c", User: "c", Expires: time.Unix(253402300799, 0)}},
		{"our clock is a little behind", `{"active":true,"client_id":"c","nbf":1800000029}`, auth.Principal{Method: method, Client: "c", User: "c"}},
	}
	for _, test := range tests {
		i, s := newIntrospector(t)
		s.does(says(http.StatusOK, test.answer))
		p, err := i.Authenticate(t.Context(), []byte("token"), at())
		if err != nil || !reflect.DeepEqual(*p, test.want) {
			t.Errorf("%s: principal %+v, error %v\nwant %+v", test.intent, p, err, test.want)
		}
	}
}

func TestTierAndClaims(t *testing.T) {
	i, s := newIntrospector(t, func(c *Config) {
		c.TierClaim, c.ClaimNames = "plan", []string{"email", "age", "vip", "groups", "note", "none"}
	})
	s.does(says(http.StatusOK, `{"active":true,"client_id":"c","plan":"gold","email":"j@x.example","age":7,"vip":true,"groups":["a"],"note":"a\r\nb"}`))
	p, err := i.Authenticate(t.Context(), []byte("token"), at())
	must(t, err)
	want := map[string]string{"email": "j@x.example", "age": "7", "vip": "true"}
	if p.Tier != "gold" || !reflect.DeepEqual(p.Claims, want) {
		t.Errorf("tier %q, claims %v; want gold and %v", p.Tier, p.Claims, want)
	}
}

func TestAnswersThatLetNobodyPass(t *testing.T) {
	long := strings.Repeat("x", nameMax+1)
	tests := []struct {
		intent string
		status int
		answer string
		want   error
	}{
		{"not active", 200, `{"active":false,"client_id":"c"}`, auth.ErrInvalid},
		{"expired", 200, `{"active":true,"client_id":"c","exp":1800000000}`, auth.ErrInvalid},
		{"not valid yet", 200, `{"active":true,"client_id":"c","nbf":1800000031}`, auth.ErrInvalid},
		{"exp is no number", 200, `{"active":true,"client_id":"c","exp":"1900000000"}`, auth.ErrInvalid},
		{"exp is out of bounds", 200, `{"active":true,"client_id":"c","exp":1e300}`, auth.ErrInvalid},
		{"exp is before 1970", 200, `{"active":true,"client_id":"c","exp":-1}`, auth.ErrInvalid},
		{"exp is zero, which is a date", 200, `{"active":true,"client_id":"c","exp":0}`, auth.ErrInvalid},
		{"iat is no date: it could not be revoked by it", 200, `{"active":true,"client_id":"c","iat":true}`, auth.ErrInvalid},
		{"jti is no name", 200, `{"active":true,"client_id":"c","jti":{}}`, auth.ErrInvalid},
		{"nobody", 200, `{"active":true}`, auth.ErrInvalid},
		{"nobody by an empty name", 200, `{"active":true,"client_id":"","sub":""}`, auth.ErrInvalid},
		{"a name that would split a header", 200, `{"active":true,"sub":"a\r\nX-Admin: 1"}`, auth.ErrInvalid},
		{"a name that is too long", 200, `{"active":true,"sub":"` + long + `"}`, auth.ErrInvalid},
		{"half of a surrogate pair", 200, `{"active":true,"sub":"a\ud800"}`, auth.ErrInvalid},
		{"a refresh token", 200, `{"active":true,"client_id":"c","token_type":"refresh_token"}`, auth.ErrInvalid},
		{"a refresh token, as Hydra says it", 200, `{"active":true,"client_id":"c","token_use":"refresh_token"}`, auth.ErrInvalid},
		{"a refresh token, as Keycloak says it", 200, `{"active":true,"client_id":"c","typ":"Refresh"}`, auth.ErrInvalid},

		{"nothing", 200, ``, auth.ErrUnavailable},
		{"no JSON", 200, `active=true`, auth.ErrUnavailable},
		{"no object", 200, `[true]`, auth.ErrUnavailable},
		{"null", 200, `null`, auth.ErrUnavailable},
		{"half an answer", 200, `{"active":true,"client_id":"c"`, auth.ErrUnavailable},
		{"two answers", 200, `{"active":true,"client_id":"c"}{"active":true}`, auth.ErrUnavailable},
		{"active is missing", 200, `{"client_id":"c"}`, auth.ErrUnavailable},
		{"active is text", 200, `{"active":"true","client_id":"c"}`, auth.ErrUnavailable},
		{"active is a number", 200, `{"active":1,"client_id":"c"}`, auth.ErrUnavailable},
		{"active in another case", 200, `{"Active":true,"client_id":"c"}`, auth.ErrUnavailable},
		{"too much", 200, `{"active":true,"client_id":"c","x":"` + strings.Repeat("x", answerMax) + `"}`, auth.ErrUnavailable},
		{"a good answer with status 500", 500, `{"active":true,"client_id":"c"}`, auth.ErrUnavailable},
		{"a good answer with status 201", 201, `{"active":true,"client_id":"c"}`, auth.ErrUnavailable},
		{"our credentials are wrong", 401, `{"active":true,"client_id":"c"}`, auth.ErrUnavailable},
		{"we may not ask", 403, `{"active":true,"client_id":"c"}`, auth.ErrUnavailable},
		{"our request is wrong", 400, `{"error":"invalid_request"}`, auth.ErrUnavailable},
	}
	for _, test := range tests {
		i, s := newIntrospector(t)
		s.does(says(test.status, test.answer))
		p, err := i.Authenticate(t.Context(), []byte("token-canary"), at())
		if p != nil || !errors.Is(err, test.want) {
			t.Errorf("%s: principal %v, error %v, want %v", test.intent, p, err, test.want)
		} else if strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v gives something away", test.intent, err)
		}
	}
}

// FuzzAnswer holds what every principal keeps to, whatever the authority said.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"active":true,"client_id":"app","sub":"jane","scope":"a b","exp":1800000100,"iat":1,"nbf":1,"iss":"i","jti":"j","tier":"t","c":1}`))
	f.Add([]byte(`{"active":false}`))
	f.Add([]byte(`{"active":true,"sub":"\u0000","exp":1e9,"jti":null,"active":true}`))
	i, err := New(Config{Name: "n", URL: "http://a.example/", ClientID: "c", TierClaim: "tier", ClaimNames: []string{"c", "sub"}})
	must(f, err)
	f.Cleanup(i.Close)
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := decode(data)
		if err != nil {
			return
		}
		p, err := i.judge(a, at())
		if err != nil {
			if !errors.Is(err, auth.ErrInvalid) {
				t.Errorf("error %v, want %v", err, auth.ErrInvalid)
			}
			return
		}
		if !a.active || p.Client == "" || p.User == "" || p.Expired(at()) {
			t.Errorf("%+v passes", p)
		}
		names := []string{p.Client, p.User, p.Tier, p.Subject, p.Issuer, p.Credential}
		for _, claim := range p.Claims {
			names = append(names, claim)
		}
		for _, name := range names {
			if len(name) > nameMax || !utf8.ValidString(name) || strings.ContainsAny(name, "\r\n\x00\x7f") {
				t.Errorf("%q passes as a name", name)
			}
		}
		if len(p.Scopes.List()) > scopesMax {
			t.Errorf("%d scopes", len(p.Scopes.List()))
		}
		_ = fmt.Sprint(p.Expires, p.IssuedAt)
	})
}
