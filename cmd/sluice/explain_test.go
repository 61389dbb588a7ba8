package main

import (
	"strings"
	"testing"
)

// accessConfig has a route for clients that are known, and one for everybody.
const accessConfig = `
[server]
listen = ["127.0.0.1:18080"]
[auth.keys]
[auth.jwt.main]
issuer    = "https://issuer.example/"
audiences = ["api"]
jwks      = "http://127.0.0.1:9/jwks.json"
[[limit]]
name  = "per-client"
key   = ["client"]
rate  = "10/s"
burst = 20
cost  = 2
tiers = { gold = "50/s", free = "1/s" }
[[limit]]
name        = "guard"
key         = ["ip", "route"]
algorithm   = "sliding_window"
rate        = "60/min"
before_auth = true
hidden      = true
[[limit]]
name      = "paced"
key       = []
algorithm = "leaky_bucket"
rate      = "2/s"
mode      = "shadow"
[upstream.a]
targets = ["http://127.0.0.1:19001"]
[upstream.b]
targets = ["http://127.0.0.1:19002"]
[split.halves]
weights = { a = 1, b = 1 }
sticky  = "client"
[[route]]
name   = "orders"
path   = "/orders"
auth   = ["jwt:main", "keys"]
scopes = ["write:orders", "read:orders"]
limits = ["per-client", "guard", "paced"]
to     = "halves"
[[route]]
name   = "open"
path   = "/open"
auth   = ["none"]
limits = ["per-client"]
to     = "a"
`

func TestExplainAccess(t *testing.T) {
	path := writeConfig(t, accessConfig)
	cases := []struct {
		intent string
		args   []string
		want   []string
		never  string
	}{
		{"a key", []string{"/orders", "-H", "X-API-Key: hush", "--client", "192.0.2.1"}, []string{
			"verdict    forwarded by route orders\n",
			"provided   its credential is good, it has the scopes read:orders and write:orders and no limit refuses it\n",
			"auth       jwt:main in Authorization Bearer: there is none\n",
			"auth       keys in X-API-Key: there is one, and nobody was asked whether it is good\n",
			"scopes     write:orders and read:orders\n",
			"limit      guard: sliding_window 60/min; ip = 192.0.2.1, route = orders; before authentication; clients are not told\n" +
				"limit      per-client: token_bucket 10/s, burst 20, cost 2, free 1/s, gold 50/s, or the API key's own rate; " +
				"client = (the authenticated client)\n" +
				"limit      paced: leaky_bucket 2/s, waits up to 1s; one bucket for all; counts only\n",
			"choice     halves: client (the authenticated client), the same side every time\n",
			"upstream   50% a: ", "upstream   50% b: ",
			"  X-User-ID: (the user)\n  X-User-Scopes: (its scopes)\n  X-Client-Tier: (its tier, if it has one)\n  without X-API-Key: it is for the gateway\n",
		}, "hush"},
		{"nothing", []string{"/orders"}, []string{"verdict    401 credentials_missing: ", "\nsent to a, with good credentials:\n  GET /orders"}, "provided"},
		{"two tokens", []string{"/orders", "-H", "Authorization: Bearer x", "-H", "Authorization: Bearer y"}, []string{
			"verdict    401 credentials_invalid: ", "auth       jwt:main in Authorization Bearer: there are several\n",
			"  without Authorization: it is for the gateway\n"}, "Bearer x"},
		{"a password", []string{"/orders", "-H", "Authorization: Basic YTpi"}, []string{
			"auth       jwt:main in Authorization Bearer: what is there cannot be one\n"}, "YTpi"},
		{"everybody", []string{"/open", "--client", "192.0.2.1"}, []string{
			"provided   no limit refuses it\n", "auth       none: everybody may pass\n", "; client = 192.0.2.1\n"}, "X-User-ID"},
		{"for machines", []string{"/orders", "-H", "X-API-Key: hush", "--format", "json"}, []string{
			`"shown": "a credential"`, `"guard": true`, `"note": "the authenticated client"`, `"withheld": [`}, "hush"},
	}
	for _, c := range cases {
		code, out, errOut := sluice(append([]string{"explain", "-c", path, "GET"}, c.args...)...)
		if code != exitOK {
			t.Errorf("%s: exit code %d: %s", c.intent, code, errOut)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: want %q in:\n%s", c.intent, want, out)
			}
		}
		if strings.Contains(out, c.never) {
			t.Errorf("%s: %q is in:\n%s", c.intent, c.never, out)
		}
	}
	preflight := []string{"explain", "-c", path, "OPTIONS", "/orders", "-H", "Origin: https://a.example", "-H", "Access-Control-Request-Method: GET"}
	if _, out, _ := sluice(preflight...); !strings.Contains(out, "auth       not for this request") || !strings.Contains(out, "forwarded") {
		t.Errorf("a preflight:\n%s", out)
	}
}
