package engine_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/auth"
	"github.com/sluice-gateway/sluice/engine"
)

// accessTables is routes with every way to authenticate and to be counted. Nobody listens at the issuer's and
// the authority's addresses, and the keys are in a file.
const accessTables = `
[server]
listen = [%[1]q]
[admin]
listen = ""
[auth.keys]
[auth.jwt.main]
issuer    = "https://issuer.example/"
audiences = ["api"]
jwks      = "http://127.0.0.1:9/jwks.json"
[auth.jwt.aside]
issuer        = "https://issuer.example/"
audiences     = ["api"]
jwks          = "http://127.0.0.1:9/jwks.json"
header        = "X-Token"
forward_token = true
[auth.introspection.partner]
url           = "http://127.0.0.1:9/introspect"
client_id     = "gateway"
client_secret = "secret"

[redis]
url = "redis://127.0.0.1:1"
[[limit]]
name      = "per-client"
key       = ["client"]
rate      = "100/s"
burst     = 200
tiers     = { gold = "1000/s" }
[[limit]]
name        = "guard"
key         = ["ip", "header:X-Device"]
rate        = "60/min"
algorithm   = "sliding_window"
before_auth = true
hidden      = true
[[limit]]
name      = "odd"
key       = ["route", "host", "method", "header:X-API-Key", "claim:org"]
rate      = "2/s"
algorithm = "leaky_bucket"
mode      = "shadow"
scope     = "redis"
on_store_error = "allow"

[upstream.a]
targets = ["http://%[2]s"]
[upstream.b]
targets = ["http://%[2]s"]
host    = "b.internal"
[split.halves]
weights = { a = 1, b = 3 }
sticky  = "client"

[[route]]
name   = "keyed"
path   = "/keyed"
auth   = ["keys"]
scopes = ["write", "read"]
limits = ["per-client", "guard"]
to     = "a"
[[route]]
name = "any"
path = "/any"
auth = ["introspection:partner", "keys", "jwt:main", "jwt:aside"]
to   = "halves"
[[route]]
name   = "public"
path   = "/public"
auth   = ["none"]
limits = ["odd", "per-client"]
to     = "halves"
`

func writeAccessConfig(t *testing.T, listen, target string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "gateway.toml")
	if err := os.WriteFile(path, fmt.Appendf(nil, accessTables, listen, target), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func explainAccess(t *testing.T, path string, r engine.ExplainRequest) *engine.Explanation {
	t.Helper()
	e, err := engine.Explain(path, r)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestExplainMethods(t *testing.T) {
	const good, scopes, limits = "its credential is good", "it has the scopes read and write", "no limit refuses it"
	tests := []struct {
		intent   string
		request  engine.ExplainRequest
		reason   string
		shown    []engine.Shown
		provided []string
		withheld []string
	}{
		{"nothing shown", requestTo("GET", "/keyed"), "credentials_missing",
			[]engine.Shown{engine.ShownNothing}, []string{good, scopes, limits}, []string{}},
		{"a key, good or not", requestTo("GET", "/keyed", "X-API-Key: abc"), "",
			[]engine.Shown{engine.ShownCredential}, []string{good, scopes, limits}, []string{"X-API-Key"}},
		{"no key could look so", requestTo("GET", "/keyed", "X-API-Key: a c"), "credentials_invalid",
			[]engine.Shown{engine.ShownOther}, []string{good, scopes, limits}, []string{"X-API-Key"}},
		{"two keys", requestTo("GET", "/keyed", "X-API-Key: a", "x-api-key: b"), "credentials_invalid",
			[]engine.Shown{engine.ShownSeveral}, []string{good, scopes, limits}, []string{"X-API-Key", "x-api-key"}},
		{"a credential of another method", requestTo("GET", "/keyed", "Authorization: Bearer abc"), "credentials_missing",
			[]engine.Shown{engine.ShownNothing}, []string{good, scopes, limits}, []string{}},
		{"one token that two methods could know", requestTo("GET", "/any", "Authorization: bearer abc"), "",
			[]engine.Shown{engine.ShownCredential, engine.ShownNothing, engine.ShownCredential, engine.ShownNothing},
			[]string{good}, []string{"Authorization"}},
		{"a password is no token", requestTo("GET", "/any", "Authorization: Basic YTpi", "X-API-Key: abc"), "credentials_invalid",
			[]engine.Shown{engine.ShownOther, engine.ShownCredential, engine.ShownOther, engine.ShownNothing},
			[]string{good}, []string{"Authorization", "X-API-Key"}},
		{"a token that the upstream wants", requestTo("GET", "/any", "X-Token: Bearer abc"), "",
			[]engine.Shown{engine.ShownNothing, engine.ShownNothing, engine.ShownNothing, engine.ShownCredential},
			[]string{good}, []string{}},
		{"a public route keeps keys, and lets pass what it does not know", requestTo("GET", "/public", "X-API-Key: a", "Authorization: Basic YTpi"), "",
			nil, []string{limits}, []string{"X-API-Key"}},
		{"a preflight", requestTo("OPTIONS", "/keyed", "Origin: https://a.example", "Access-Control-Request-Method: GET"), "",
			[]engine.Shown{engine.ShownNothing}, []string{limits}, []string{}},
	}
	path := writeAccessConfig(t, ":8080", "127.0.0.1:1")
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			e := explainAccess(t, path, test.request)
			reason := ""
			if e.Refusal != nil {
				reason = e.Refusal.Reason
			}
			var shown []engine.Shown
			for _, m := range e.Methods {
				shown = append(shown, m.Shown)
			}
			if reason != test.reason || !slices.Equal(shown, test.shown) {
				t.Errorf("refusal %q, shown %q", reason, shown)
			}
			if !slices.Equal(e.Provided, test.provided) || !slices.Equal(e.Withheld, test.withheld) {
				t.Errorf("provided %q, withheld %q", e.Provided, e.Withheld)
			}
			if len(e.Forwarded) == 0 {
				t.Error("nothing is told of what the upstream would get")
			}
		})
	}
	want := []engine.ExplainedMethod{
		{Name: "introspection:partner", Header: "Authorization", Scheme: "Bearer", Shown: engine.ShownNothing},
		{Name: "keys", Header: "X-API-Key", Shown: engine.ShownNothing},
		{Name: "jwt:main", Header: "Authorization", Scheme: "Bearer", Shown: engine.ShownNothing},
		{Name: "jwt:aside", Header: "X-Token", Scheme: "Bearer", Shown: engine.ShownNothing, Upstream: true},
	}
	if e := explainAccess(t, path, requestTo("GET", "/any")); !slices.Equal(e.Methods, want) {
		t.Errorf("methods %+v, want %+v", e.Methods, want)
	}
}

func TestExplainLimits(t *testing.T) {
	perClient := engine.ExplainedLimit{
		Name: "per-client", Algorithm: "token_bucket", Rate: "100/s", Burst: 200, Cost: 1, Mode: "enforce",
		Tiers: map[string]string{"gold": "1000/s"}, OwnRate: true,
		Key: []engine.ExplainedPart{{Part: "client", Note: "the authenticated client"}},
	}
	guard := engine.ExplainedLimit{
		Name: "guard", Guard: true, Algorithm: "sliding_window", Rate: "60/min", Cost: 1, Mode: "enforce", Hidden: true,
		Key: []engine.ExplainedPart{{Part: "ip", Value: "198.51.100.7"}, {Part: "header:x-device", Value: "a, b"}},
	}
	anonymous := perClient
	anonymous.OwnRate, anonymous.Key = false, []engine.ExplainedPart{{Part: "client", Value: "198.51.100.7"}}
	odd := engine.ExplainedLimit{
		Name: "odd", Algorithm: "leaky_bucket", Rate: "2/s", Cost: 1, Mode: "shadow", MaxWait: "1s", Scope: "redis", OnStoreError: "allow",
		Key: []engine.ExplainedPart{
			{Part: "route", Value: "public"}, {Part: "host", Value: "api.example.com"}, {Part: "method", Value: "PUT"},
			{Part: "header:x-api-key", Note: "a credential"}, {Part: "claim:org", Note: "not there"},
		},
	}
	path := writeAccessConfig(t, ":8080", "127.0.0.1:1")
	tests := []struct {
		intent  string
		request engine.ExplainRequest
		want    []engine.ExplainedLimit
	}{
		{"guards come first, whatever the order", requestTo("GET", "/keyed", "X-API-Key: a", "X-Device: a", "X-Device: b"),
			[]engine.ExplainedLimit{guard, perClient}},
		{"nobody is known, keys are not shown, and Redis is asked last",
			requestTo("PUT", "http://API.example.com:8080/public", "X-API-Key: hush"), []engine.ExplainedLimit{anonymous, odd}},
		{"no limits", requestTo("GET", "/any"), []engine.ExplainedLimit{}},
	}
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			if e := explainAccess(t, path, test.request); !reflect.DeepEqual(e.Limits, test.want) {
				t.Errorf("limits\n%+v, want\n%+v", e.Limits, test.want)
			}
		})
	}
}

// A side that is kept by client is open when it is not known who that is, and not where nobody is asked.
func TestExplainSticksToClients(t *testing.T) {
	path := writeAccessConfig(t, ":8080", "127.0.0.1:1")
	e := explainAccess(t, path, requestTo("GET", "/any"))
	if want := (engine.Choice{Name: "halves", By: "client", Share: 1}); len(e.Choices) != 1 || e.Choices[0] != want {
		t.Errorf("choices %+v", e.Choices)
	}
	if len(e.Upstreams) != 2 || e.Upstreams[0].Name != "b" || !slices.Contains(e.Forwarded, "Host: b.internal") {
		t.Errorf("upstreams %+v, head %q", e.Upstreams, e.Forwarded)
	}
	if e := explainAccess(t, path, requestTo("GET", "/public")); len(e.Upstreams) != 1 || e.Choices[0].Value != "198.51.100.7" {
		t.Errorf("public: choices %+v, upstreams %+v", e.Choices, e.Upstreams)
	}
}

// What is told of the head is what the target gets, with the client in the place of the words that stand for one.
func TestExplainIsWhatTargetsGetOfClients(t *testing.T) {
	address, heads := headServer(t)
	listen := filepath.Join(t.TempDir(), "gateway.sock")
	path := writeAccessConfig(t, "unix:"+listen, address)
	key, id, err := auth.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	scopes, err := auth.NewScopes([]string{"read", "write"})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := engine.KeyFile(filepath.Join(filepath.Dir(path), "keys.toml"))
	if err != nil {
		t.Fatal(err)
	}
	record := auth.KeyRecord{ID: id, Digest: auth.DigestKey([]byte(key)), Client: "ada", Tier: "gold", Scopes: scopes}
	if err := keys.Put(context.Background(), record); err != nil {
		t.Fatal(err)
	}
	startEngine(t, path)
	headers := []string{"X-Request-ID: fixed", "X-API-Key: " + key, "X-User-ID: root", "x_client_tier: gold"}
	e, err := engine.Explain(path, engine.ExplainRequest{Method: "GET", URL: "http://api.example.com/keyed", Header: headers})
	if err != nil {
		t.Fatal(err)
	}
	client := strings.NewReplacer("(the user)", "ada", "(its scopes)", "read write", "(its tier, if it has one)", "gold")
	want := strings.Split(client.Replace(strings.Join(e.Forwarded, "\n")), "\n")
	c, err := net.Dial("unix", listen)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /keyed HTTP/1.1\r\nHost: api.example.com\r\n%s\r\n\r\n", strings.Join(headers, "\r\n"))
	select {
	case got := <-heads:
		if !slices.Equal(got, want) {
			t.Errorf("the target got\n%s\nexplained was\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no request came to the target")
	}
}
