package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/auth/revocation"
	"github.com/sluice-gateway/sluice/engine"
)

// revocationEnd is what fakeGateway gives to entries without an end.
func revocationEnd() time.Time { return time.Date(2036, 1, 2, 3, 4, 5, 0, time.UTC) }

func (g *fakeGateway) Revoke(_ context.Context, e revocation.Entry) (revocation.Entry, error) {
	if g.revokeErr != nil {
		return e, g.revokeErr
	}
	g.revokes.Add(1)
	if e.Expires.IsZero() {
		e.Expires = revocationEnd()
	}
	return e, nil
}

func (g *fakeGateway) Revocations(most int, now time.Time) (int, []revocation.Entry) {
	all := []revocation.Entry{{Kind: revocation.Subject, ID: "user-42", Issuer: "jwt:main", Before: revocationEnd(), Expires: revocationEnd()}}
	return 70_000, all[:min(most, 1)]
}

// post sends a body to the admin side of g.
func post(t *testing.T, g Gateway, body string) (*http.Response, []byte) {
	t.Helper()
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, g, l)
	request, err := http.NewRequest("POST", "http://"+l.Addr().String()+"/revocations", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, answer
}

func TestRevoke(t *testing.T) {
	padded := func(n int) string {
		const begin, end = `{"client":"a"`, `}`
		return begin + strings.Repeat(" ", n-len(begin)-len(end)) + end
	}
	tests := []struct {
		intent string
		body   string
		fail   error
		status int
		want   string // in the answer
	}{
		{"a token", `{"jti":"9f3c"}`, nil, 201, `{"jti":"9f3c","expires":"2036-01-02T03:04:05Z"}`},
		{"all that can be said", ` { "sub" : "user-42", "issuer":"main", "before":"2026-11-23T12:00:00+01:00", "expires":"2027-01-31T00:00:00.5Z" } `, nil, 201,
			`{"sub":"user-42","issuer":"main","before":"2026-11-23T11:00:00Z","expires":"2027-01-31T00:00:00.5Z"}`},
		{"a client", `{"client":"M\u00fcller & Co"}`, nil, 201, `{"client":"Müller \u0026 Co",`},
		{"a key", `{"key":"key_0123456789abcdef"}`, nil, 201, `{"key":"key_0123456789abcdef",`},
		{"the largest body", padded(maxRevocation), nil, 201, `"client":"a"`},
		{"one byte more", padded(maxRevocation + 1), nil, 413, `"reason":"body_too_large"`},
		{"no body", ``, nil, 400, "want one JSON object"},
		{"nothing in it", `{}`, nil, 400, "want one of jti, sub, client and key"},
		{"two things", `{"jti":"a","sub":"b"}`, nil, 400, "want one of jti, sub, client and key"},
		{"only where", `{"issuer":"main"}`, nil, 400, "want one of jti"},
		{"one twice", `{"jti":"a","jti":"b"}`, nil, 400, `\"jti\" is there twice`},
		{"a misspelt bound", `{"client":"a","befor":"2026-11-23T12:00:00Z"}`, nil, 400, `there is no \"befor\"`},
		{"another case", `{"Client":"a"}`, nil, 400, `there is no \"Client\"`},
		{"what only the gateway says", `{"client":"a","created":"2026-11-23T12:00:00Z"}`, nil, 400, `there is no \"created\"`},
		{"a number", `{"client":42}`, nil, 400, `\"client\": want a string`},
		{"null", `{"client":"a","before":null}`, nil, 400, `\"before\": want a string`},
		{"an empty bound", `{"client":"a","before":""}`, nil, 400, `\"before\": want a string`},
		{"a list", `{"client":["a"]}`, nil, 400, `\"client\": want a string`},
		{"a table", `{"client":{"a":"b"}}`, nil, 400, `\"client\": want a string`},
		{"a list of them", `[{"client":"a"}]`, nil, 400, "want one JSON object"},
		{"something after it", `{"client":"a"}{"client":"b"}`, nil, 400, "want one JSON object"},
		{"an open end", `{"client":"a"`, nil, 400, "want one JSON object"},
		{"a trailing comma", `{"client":"a",}`, nil, 400, "want one JSON object"},
		{"no JSON", `client=a`, nil, 400, "want one JSON object"},
		{"a byte that is not UTF-8", "{\"client\":\"a\xff\"}", nil, 400, "want one JSON object"},
		{"half a character", `{"client":"a\ud800"}`, nil, 400, "broken"},
		{"a date", `{"client":"a","before":"2026-11-23"}`, nil, 400, "before: want a time"},
		{"a time that stands for none", `{"client":"a","before":"0001-01-01T00:00:00Z"}`, nil, 400, "before: want a time"},
		{"an end that is none", `{"client":"a","expires":"tomorrow"}`, nil, 400, "expires: want a time"},
		{"what the engine does not take", `{"client":"a"}`, fmt.Errorf("%w: it ended already", revocation.ErrInvalid), 400, `"detail":"it ended already"`},
		{"nobody is authenticated", `{"client":"a"}`, engine.ErrNoAuth, 409, `"reason":"no_auth"`},
		{"the store is away", `{"client":"a"}`, errors.New("cannot connect to Redis"), 503, `"reason":"not_revoked"`},
		{"the store is full", `{"client":"a"}`, revocation.ErrFull, 503, `the list is full`},
	}
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			g := &fakeGateway{state: "serving", revokeErr: test.fail}
			response, body := post(t, g, test.body)
			if response.StatusCode != test.status || !strings.Contains(string(body), test.want) {
				t.Errorf("status %d, want %d with %q: %s", response.StatusCode, test.status, test.want, body)
			}
			if revoked := g.revokes.Load() > 0; revoked != (test.status == 201) {
				t.Errorf("revoked: %v", revoked)
			}
			checkHeaders(t, response, body)
		})
	}
}

func TestRevocations(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, &fakeGateway{state: "serving"}, l)
	response, body := ask(t, l, request{method: "GET", path: "/revocations"})
	const want = `{"count":70000,"revocations":[{"sub":"user-42","issuer":"jwt:main","before":"2036-01-02T03:04:05Z","expires":"2036-01-02T03:04:05Z"}]}` + "\n"
	if response.StatusCode != 200 || string(body) != want {
		t.Errorf("%d %s, want %s", response.StatusCode, body, want)
	}
	if response, body := ask(t, l, request{method: "DELETE", path: "/revocations"}); response.StatusCode != 405 || response.Header.Get("Allow") != "GET, HEAD, POST" {
		t.Errorf("nobody takes a revocation back: %d %s", response.StatusCode, body)
	}
}

// What is accepted names one thing, in the words of the body, and reads the same when it is written again.
func FuzzDecodeRevocation(f *testing.F) {
	f.Add(`{"sub":"user-42","issuer":"main","before":"2026-11-23T12:00:00+01:00","expires":"2027-01-31T00:00:00.5Z"}`)
	f.Add(`{"key":"key_0123456789abcdef"}`)
	f.Add(`{"jti":"\ud83d\ude00","client":1}`)
	f.Fuzz(func(t *testing.T, body string) {
		e, err := decodeRevocation(strings.NewReader(body))
		if err != nil {
			return
		}
		if e.ID == "" || e.Kind == 0 {
			t.Errorf("%q is accepted as %+v", body, e)
		}
		text, err := json.Marshal(NewRevocation(e))
		if err != nil {
			return // a year beyond 9999
		}
		again, err := decodeRevocation(strings.NewReader(string(text)))
		if err != nil || !reflect.DeepEqual(again, e) {
			t.Errorf("%q is %+v, written as %s, which is %+v: %v", body, e, text, again, err)
		}
	})
}
