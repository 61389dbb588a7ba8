package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// startVariants runs upstreams that answer with their names, and gives the tables that configure them.
func startVariants(t testing.TB, names ...string) (tables string) {
	t.Helper()
	for _, name := range names {
		tables += fmt.Sprintf("[upstream.%s]\ntargets = [%q]\n", name, startNamed(t, name).url())
	}
	return tables
}

// startNamed is an upstream that answers with its name, and with the target and host it was asked for.
func startNamed(t testing.TB, name string) *recorder {
	t.Helper()
	return startAnswering(t, func(r *request) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Target: %s\r\nX-Host: %s\r\nContent-Length: %d\r\n\r\n%s",
			r.path, r.fields.get("Host"), len(name), name)
	})
}

// routeTo is a public route.
func routeTo(path, destination, more string) string {
	name := strings.Trim(strings.NewReplacer("/", "-", "*", "any", "{", "", "}", "").Replace(path), "-")
	return fmt.Sprintf("[[route]]\nname = %q\npath = %q\nauth = [\"none\"]\nto = %q\n%s\n", name+destination, path, destination, more)
}

// ask sends a GET with header lines and returns the answer.
func (c *client) ask(target string, lines ...string) *response {
	c.t.Helper()
	raw := "GET " + target + " HTTP/1.1\r\n" + strings.Join(append(lines, "\r\n"), "\r\n")
	if !strings.Contains(raw, "\r\nHost: ") {
		raw = strings.Replace(raw, "\r\n", "\r\nHost: h\r\n", 1)
	}
	return c.do(strings.TrimRight(raw, "\r\n") + "\r\n\r\n")
}

// A switch goes by the value of one header, whose name has no case and whose value has.
func TestSwitch(t *testing.T) {
	t.Parallel()
	g := startGateway(t, startVariants(t, "one", "two", "other")+`
[switch.with]
header = "X-API-Version"
cases = { v1 = "one", v2 = "shared" }
default = "other"
[switch.without]
header = "X-API-Version"
cases = { v1 = "one", "" = "two" }
[switch.nested]
header = "X-Tenant"
cases = { acme = "without" }
default = "with"
[split.shared]
weights = { two = 1, other = 0 }
`+routeTo("/with", "with", "")+routeTo("/without", "without", "")+routeTo("/nested", "nested", ""))
	client := g.dial(t)
	for _, c := range []struct {
		intent, target string
		lines          []string
		want           string // "": no_variant
	}{
		{"a case", "/with", []string{"X-API-Version: v1"}, "one"},
		{"a name without case", "/with", []string{"x-api-VERSION: v1"}, "one"},
		{"whitespace is no part of a value", "/with", []string{"X-API-Version: \t v1 \t"}, "one"},
		{"a case that is a split", "/with", []string{"X-API-Version: v2"}, "two"},
		{"a value has a case", "/with", []string{"X-API-Version: V1"}, "other"},
		{"an unknown value", "/with", []string{"X-API-Version: v3"}, "other"},
		{"no header", "/with", nil, "other"},
		{"another header", "/with", []string{"X-API-Versions: v1"}, "other"},
		{"the first of two", "/with", []string{"X-API-Version: v1", "X-API-Version: v2"}, "one"},
		{"no default, a case", "/without", []string{"X-API-Version: v1"}, "one"},
		{"no default, an unknown value", "/without", []string{"X-API-Version: v3"}, ""},
		{"a switch in a switch", "/nested", []string{"X-Tenant: acme", "X-API-Version: v1"}, "one"},
		{"a switch in a switch, without a default", "/nested", []string{"X-Tenant: acme", "X-API-Version: v2"}, ""},
		{"a switch as the default", "/nested", []string{"X-API-Version: v2"}, "two"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			r := client.ask(c.target, c.lines...)
			if c.want == "" {
				r.expectProblem(t, 404, "no_variant")
			} else if r.status != 200 || r.body != c.want {
				t.Errorf("%d from %q, want %q", r.status, r.body, c.want)
			}
		})
	}
}

// Each side of a split gets its share, as the weights of an upstream's targets say exactly.
func TestShares(t *testing.T) {
	t.Parallel()
	light, heavy := startNamed(t, "light"), startNamed(t, "heavy")
	g := startGateway(t, startVariants(t, "one", "two")+fmt.Sprintf(`
[upstream.weighted]
targets = [%q, { url = %q, weight = 3 }]
balance = "round_robin"
[split.canary]
weights = { one = 80, two = 20 }
[split.drained]
weights = { one = 0, two = 1 }
`, light.url(), heavy.url())+routeTo("/canary", "canary", "")+routeTo("/drained", "drained", "")+routeTo("/weighted", "weighted", ""))
	client := g.dial(t)
	for _, c := range []struct {
		intent, target string
		of             int
		name           string // whose share is counted
		least, most    int    // a fair split is outside in one of ten million runs
	}{
		{"by chance", "/canary", 1000, "two", 130, 270},
		{"a weight of 0 drains", "/drained", 200, "one", 0, 0},
		{"targets by weight", "/weighted", 400, "heavy", 300, 300},
	} {
		n := 0
		for range c.of {
			r := client.ask(c.target)
			if r.status != 200 {
				t.Fatalf("%s: status %d", c.intent, r.status)
			}
			if r.body == c.name {
				n++
			}
		}
		if n < c.least || n > c.most {
			t.Errorf("%s: %s got %d of %d, want %d to %d", c.intent, c.name, n, c.of, c.least, c.most)
		}
	}
}

// A sticky split sends the same client to the same side every time, on every connection, and different
// clients to both sides.
func TestStickySplits(t *testing.T) {
	t.Parallel()
	text := "[server]\nlisten = [\"$LISTEN\"]\ntrusted_proxies = [\"127.0.0.1/32\"]\n" + startVariants(t, "one", "two")
	kinds := map[string]string{"client": "client", "ip": "ip", "header": "header:X-User", "cookie": "cookie:session"}
	for name, sticky := range kinds {
		text += fmt.Sprintf("[split.%s]\nweights = { one = 1, two = 1 }\nsticky = %q\n", name, sticky) + routeTo("/"+name, name, "")
	}
	g := startGateway(t, text)
	for _, c := range []struct {
		intent, target, line string
	}{
		{"by client", "/client", "X-Forwarded-For: 10.1.1.$USER"},
		{"by address", "/ip", "X-Forwarded-For: 10.1.1.$USER"},
		{"by header", "/header", "X-User: user-$USER"},
		{"by header, whatever the address", "/header", "X-Forwarded-For: 10.1.1.$NOISE\r\nX-User: user-$USER"},
		{"by cookie", "/cookie", "Cookie: a=b; session=$USER; z=1"},
		{"by cookie, in its own line", "/cookie", "Cookie: session2=x\r\nCookie: session=$USER"},
		{"without the header, by address", "/header", "X-Forwarded-For: 10.1.1.$USER"},
		{"without the cookie, by address", "/cookie", "X-Forwarded-For: 10.1.1.$USER\r\nCookie: sessions=1"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			sides := map[string]int{}
			a, b := g.dial(t), g.dial(t)
			for user := range 40 {
				line := func(noise int) string {
					return strings.NewReplacer("$USER", fmt.Sprint(user), "$NOISE", fmt.Sprint(noise)).Replace(c.line)
				}
				side := a.ask(c.target, line(1)).body
				sides[side]++
				for i, client := range []*client{a, b, b, a} {
					if again := client.ask(c.target, line(i+2)).body; again != side {
						t.Fatalf("user %d went to %q and then to %q", user, side, again)
					}
				}
			}
			if sides["one"] == 0 || sides["two"] == 0 || len(sides) != 2 {
				t.Errorf("sides %v of 40 users", sides)
			}
		})
	}
}

// Hosts choose routes by name: port and case do not matter, an exact name goes first, then a wildcard.
func TestHosts(t *testing.T) {
	t.Parallel()
	g := startGateway(t, startVariants(t, "exact", "wild", "any", "only")+
		routeTo("/x", "exact", `hosts = ["api.example.com"]`)+
		routeTo("/x", "wild", `hosts = ["*.example.com"]`)+
		routeTo("/x", "any", "")+
		routeTo("/only", "only", `hosts = ["api.example.com", "*.example.org"]`))
	client := g.dial(t)
	for _, c := range []struct{ intent, target, host, want string }{
		{"a name", "/x", "api.example.com", "exact"},
		{"with a port", "/x", "api.example.com:8443", "exact"},
		{"in upper case", "/x", "API.Example.COM", "exact"},
		{"in upper case with a port", "/x", "API.Example.COM:80", "exact"},
		{"a wildcard", "/x", "www.example.com", "wild"},
		{"a wildcard with a port", "/x", "www.example.com:8080", "wild"},
		{"a wildcard in upper case with a port", "/x", "WWW.EXAMPLE.COM:8080", "wild"},
		{"a wildcard for more than one label", "/x", "a.b.example.com", "wild"},
		{"a wildcard is not the domain itself", "/x", "example.com", "any"},
		{"a wildcard ends at a label's border", "/x", "evilexample.com", "any"},
		{"a name with something behind it", "/x", "api.example.com.evil", "any"},
		{"an unknown name", "/x", "elsewhere", "any"},
		{"an address", "/x", "127.0.0.1:80", "any"},
		{"an IPv6 address", "/x", "[::1]:80", "any"},
		{"an absolute target goes before Host", "http://API.example.com:80/x", "elsewhere", "exact"},
		{"one of several", "/only", "a.example.org:1", "only"},
		{"no route for this host", "/only", "elsewhere", ""},
	} {
		t.Run(c.intent, func(t *testing.T) {
			r := client.ask(c.target, "Host: "+c.host)
			if c.want == "" {
				r.expectProblem(t, 404, "no_route")
			} else if r.status != 200 || r.body != c.want {
				t.Errorf("%d from %q, want %q", r.status, r.body, c.want)
			}
		})
	}
}

// What no route takes is 404; what one would take by another method is 405, with all methods of the path.
func TestNoRoute(t *testing.T) {
	t.Parallel()
	g := startGateway(t, startVariants(t, "read", "write", "deep")+
		routeTo("/items/{id}", "read", `methods = ["GET", "HEAD"]`)+
		routeTo("/items/{id}", "write", `methods = ["PUT"]`)+
		routeTo("/items/*", "deep", `methods = ["DELETE"]`))
	for _, c := range []struct {
		intent, method, target string
		status                 int
		detail                 string // reason, or who answered
		allow                  []string
	}{
		{"the first method's route", "GET", "/items/1", 200, "read", nil},
		{"the second's", "PUT", "/items/1", 200, "write", nil},
		{"a less exact path's", "DELETE", "/items/1", 200, "deep", nil},
		{"nobody's method", "PATCH", "/items/1", 405, "method_not_allowed", []string{"DELETE", "GET", "HEAD", "PUT"}},
		{"methods have a case", "get", "/items/1", 405, "method_not_allowed", []string{"DELETE", "GET", "HEAD", "PUT"}},
		{"the longer path has one method", "GET", "/items/1/2", 405, "method_not_allowed", []string{"DELETE"}},
		{"no path", "GET", "/other", 404, "no_route", nil},
		{"a path that goes on within a segment", "GET", "/itemsx", 404, "no_route", nil},
		{"the root", "GET", "/", 404, "no_route", nil},
	} {
		t.Run(c.intent, func(t *testing.T) {
			client, r := g.exchange(t, c.method+" "+c.target+" HTTP/1.1\r\nHost: h\r\n\r\n")
			if c.status == 200 {
				if r.status != 200 || r.body != c.detail {
					t.Errorf("%d from %q", r.status, r.body)
				}
				return
			}
			r.expectProblem(t, c.status, c.detail)
			allow := strings.FieldsFunc(r.fields.get("Allow"), func(c rune) bool { return c == ',' || c == ' ' })
			if slices.Sort(allow); !slices.Equal(allow, c.allow) {
				t.Errorf("Allow: %q, want %q", r.fields.get("Allow"), c.allow)
			}
			client.expectOpen()
		})
	}
}

// A route may change the path, the host and the headers on the way, whatever its destination.
func TestEditsOfARoute(t *testing.T) {
	t.Parallel()
	const edits = `
request_headers = { set = { X-Tenant = "acme" }, remove = ["Cookie"] }
response_headers = { set = { X-Frame-Options = "DENY" }, remove = ["X-Target"] }`
	up := startNamed(t, "up")
	g := startGateway(t, fmt.Sprintf("[upstream.up]\ntargets = [%q]\nhost = \"internal\"\n[split.half]\nweights = { up = 1 }\n", up.url())+
		routeTo("/strip/*", "half", "strip_prefix = true"+edits)+
		routeTo("/users/{id}/*", "half", "rewrite = \"/v2/{id}/all\""+edits)+
		routeTo("/plain/*", "up", edits[1:]))
	client := g.dial(t)
	for _, c := range []struct{ intent, target, want, prefix string }{
		{"a prefix is stripped", "/strip/a/b?q=1", "/a/b?q=1", "/strip"},
		{"all of a path is the prefix", "/strip", "/", "/strip"},
		{"rewritten", "/users/42/x?q=%2f", "/v2/42/all?q=%2f", ""},
		{"rewritten, with an escape", "/users/a%20b/x", "/v2/a%20b/all", ""},
		{"as it is", "/plain/a?b", "/plain/a?b", ""},
	} {
		t.Run(c.intent, func(t *testing.T) {
			r := client.ask(c.target, "Cookie: a=b", "X-Tenant: evil", "X-Forwarded-Prefix: /evil")
			got := up.one(t)
			if got.path != c.want || got.fields.get("X-Forwarded-Prefix") != c.prefix || got.fields.get("Host") != "internal" {
				t.Errorf("the upstream got %q", got.raw)
			}
			if got.fields.get("X-Tenant") != "acme" || got.fields.has("Cookie") {
				t.Errorf("the upstream got %q", got.raw)
			}
			if r.fields.get("X-Frame-Options") != "DENY" || r.fields.has("X-Target") || r.fields.get("X-Host") != "internal" {
				t.Errorf("the client got %v", r.fields)
			}
		})
	}
}
