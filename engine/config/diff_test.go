package config

import (
	"slices"
	"strings"
	"testing"
)

const beforeDiff = `
[admin]
token = "old secret"
[server.tls]
certificates = [{ cert = "a.pem", key = "a.key" }]
[upstream.users]
targets = ["http://10.0.0.1:8080"]
[upstream.gone]
targets = ["http://10.0.0.9"]
[split.canary]
weights = { users = 90, gone = 10 }
[[route]]
name = "users"
path = "/users"
auth = ["none"]
to = "users"
request_headers = { set = { X-A = "1" } }
[[route]]
name = "other"
path = "/other"
auth = ["none"]
to = "users"
`

func TestDiff(t *testing.T) {
	for _, row := range []struct {
		intent, old, new string // what is put in place of what
		want             []Change
	}{
		{"nothing changed", "", "", nil},
		{"a comment is no change", "[admin]", "[admin] # here", nil},
		{"a default that is spelled out is no change", "[admin]", "[log]\nlevel = \"info\"\n[admin]", nil},
		{"a value", `path = "/users"`, `path = "/people"`, []Change{{"route.users.path", Changed, `"/users"`, `"/people"`}}},
		{"a route goes by its name", "name = \"users\"", "name = \"people\"", []Change{{"route.people", Added, "", ""}, {"route.users", Removed, "", ""}}},
		{"a secret is not shown, but its change is", "old secret", "new secret", []Change{{"admin.token", Changed, `"(secret)"`, `"(secret)"`}}},
		{"a new secret", "token = \"old secret\"", "", []Change{{"admin.token", Changed, `"(secret)"`, `""`}}},
		{"a list is shown whole", `["http://10.0.0.1:8080"]`, `["http://10.0.0.1:8080", { url = "http://b", weight = 2 }]`, []Change{{
			"upstream.users.targets", Changed,
			`[{ url = "http://10.0.0.1:8080", weight = 1 }]`,
			`[{ url = "http://10.0.0.1:8080", weight = 1 }, { url = "http://b", weight = 2 }]`,
		}}},
		{"an entry of a map", "gone = 10", "", []Change{{"split.canary.weights.gone", Removed, "10", ""}}},
		{"a header", `X-A = "1"`, `X-B = "2"`, []Change{
			{"route.users.request_headers.set.X-A", Removed, `"1"`, ""},
			{"route.users.request_headers.set.X-B", Added, "", `"2"`},
		}},
		{"a table that may be absent", "[server.tls]\ncertificates = [{ cert = \"a.pem\", key = \"a.key\" }]", "", []Change{{"server.tls", Removed, "", ""}}},
		{"a file's name", "a.pem", "tls/b.pem", []Change{{
			"server.tls.certificates", Changed, `[{ cert = "a.pem", key = "a.key" }]`, `[{ cert = "tls/b.pem", key = "a.key" }]`,
		}}},
		{"what routes inherit", "[admin]", "[server]\nmax_body_bytes = \"1MiB\"\n[admin]", []Change{
			{"server.max_body_bytes", Changed, `"10MiB"`, `"1MiB"`},
			{"route.other.max_body_bytes", Changed, `"10MiB"`, `"1MiB"`},
			{"route.users.max_body_bytes", Changed, `"10MiB"`, `"1MiB"`},
		}},
		{"a duration", "[admin]", "[server]\ndrain = \"2h\"\n[admin]", []Change{{"server.drain", Changed, `"30s"`, `"2h"`}}},
	} {
		before, faults := Parse("/old/gateway.toml", []byte(beforeDiff), Environment{})
		after, more := Parse("/new/place/gateway.toml", []byte(strings.Replace(beforeDiff, row.old, row.new, 1)), Environment{})
		if before == nil || after == nil {
			t.Fatalf("%s: %v %v", row.intent, faults, more)
		}
		if got := Diff(before, after); !slices.Equal(got, row.want) {
			t.Errorf("%s: got\n%q\nwant\n%q", row.intent, got, row.want)
		}
	}
}
