package e2e

import (
	"fmt"
	"net/url"
	"path"
	"strings"
	"testing"
)

// A path is brought into one form, which is what is matched and, byte for byte, what is forwarded. What
// has two readings is refused.
func TestPathsAreForwardedInOneForm(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	reject := startGateway(t, public(up.url()))
	keep := startGateway(t, "[server]\nlisten = [\"$LISTEN\"]\nencoded_slash = \"keep\"\n"+public(up.url()))

	for _, c := range []struct {
		raw, rejecting string // "": 400 bad_path
		keeping        string // "=": as rejecting
	}{
		{"/a/b", "/a/b", "="},
		{"/", "/", "="},
		{"/a/", "/a/", "="},

		// Dot segments are resolved, in every disguise that decodes to them.
		{"/a/../b", "/b", "="},
		{"/a/./b", "/a/b", "="},
		{"/a/b/..", "/a/", "="},
		{"/a/b/.", "/a/b/", "="},
		{"/a/%2e%2e/b", "/b", "="},
		{"/a/%2E%2e/b", "/b", "="},
		{"/a/.%2e/b", "/b", "="},
		{"/a/%2e./b", "/b", "="},
		{"/a/%2e/b", "/a/b", "="},
		{"/a/b/../../c", "/c", "="},
		{"/a/...", "/a/...", "="},
		{"/a/..b", "/a/..b", "="},
		{"/a/b..", "/a/b..", "="},

		// Above the root there is nothing that both sides could mean.
		{"/..", "", "="},
		{"/../a", "", "="},
		{"/a/../../b", "", "="},
		{"/%2e%2e/a", "", "="},
		{"/%2e%2e%2fa", "", "="},

		// Dot segments that only some servers see.
		{"/a/..;/b", "", "="},
		{"/a/..;x=y/b", "", "="},
		{"/a/.;/b", "", "="},
		{"/a/%2e%2e;/b", "", "="},
		{"/a/..%3b/b", "", "="},
		{"/a/..%2fb", "", "="},
		{"/a/..%2Fb", "", "="},
		{"/a%2f../b", "", "="},
		{"/a%2f..", "", "="},
		{"/a/..%5cb", "", "="},
		{"/a%5c..%5cb", "", "="},
		{`/a\..\b`, "", "="},
		{`/a/..\b`, "", "="},
		{`/\host/a`, "", "="},
		{`/a\b`, "", "="},

		// Repeated slashes are one; no target is ever told "//host".
		{"//a", "/a", "="},
		{"/a//b", "/a/b", "="},
		{"///", "/", "="},
		{"//evil.example/a", "/evil.example/a", "="},
		{"/.//evil.example/a", "/evil.example/a", "="},
		{"/a/..//evil.example", "/evil.example", "="},

		// Encoded slashes: as configured.
		{"/a%2fb", "", "/a%2Fb"},
		{"/a%2Fb", "", "/a%2Fb"},
		{"/a%5cb", "", "/a%5Cb"},
		{"/%2f%2fevil.example", "", "/%2F%2Fevil.example"},
		{"/%2fa", "", "/%2Fa"},

		// Escapes: decoded once where they change nothing, otherwise kept.
		{"/%41", "/A", "="},
		{"/%61dmin", "/admin", "="},
		{"/%7Euser", "/~user", "="},
		{"/a%20b", "/a%20b", "="},
		{"/a%3fb", "/a%3Fb", "="},
		{"/a%23b", "/a%23b", "="},
		{"/a%3bb", "/a%3Bb", "="},
		{"/a%25b", "/a%25b", "="},
		{"/%252e%252e/a", "/%252e%252e/a", "="}, // decoded twice it would be "..": we decode once
		{"/a%252fb", "/a%252fb", "="},
		{"/%2561dmin", "/%2561dmin", "="},
		{"/!$&'()*+,;=:@-._~", "/!$&'()*+,;=:@-._~", "="},
		{"/%21%24%26%27%28%29", "/%21%24%26%27%28%29", "="},
		{"/caf\xc3\xa9", "/caf%C3%A9", "="},
		{"/caf%c3%a9", "/caf%C3%A9", "="},
		{"/%ff", "/%FF", "="},
		{"/\xff", "/%FF", "="},
		{"/%c0%ae%c0%ae/a", "/%C0%AE%C0%AE/a", "="}, // overlong UTF-8 is no dot
		{"/%e0%80%ae", "/%E0%80%AE", "="},
		{"/a|b^c`d{e}\"<f>", "/a%7Cb%5Ec%60d%7Be%7D%22%3Cf%3E", "="},

		// Escapes that are none, and bytes that end strings.
		{"/%", "", "="},
		{"/%4", "", "="},
		{"/%zz", "", "="},
		{"/%u002e", "", "="},
		{"/% 41", "BAD", "="},
		{"/a%00", "", "="},
		{"/a%00.html", "", "="},
		{"/a%0d%0aX:y", "", "="}, // CVE-2023-25690
		{"/a%0a", "", "="},
		{"/a%09b", "", "="},
		{"/a%7f", "", "="},
		{"/a%1b", "", "="},

		// Queries pass verbatim, whatever they hold (CVE-2022-2880).
		{"/a?", "/a?", "="},
		{"/a?b=../c", "/a?b=../c", "="},
		{"/a?b=%2e%2e%2f&c=%zz;d&&=", "/a?b=%2e%2e%2f&c=%zz;d&&=", "="},
		{"/a?b?c//d\\e", "/a?b?c//d\\e", "="},
		{"/a?\xff", "/a?\xff", "="},
		{"/b/../a?x", "/a?x", "="},
		{"/?/../x", "/?/../x", "="},
	} {
		for name, g := range map[string]*gateway{"reject": reject, "keep": keep} {
			want := c.rejecting
			if name == "keep" && c.keeping != "=" {
				want = c.keeping
			}
			up.take()
			mark := up.size()
			_, r := g.exchange(t, "GET "+c.raw+" HTTP/1.1\r\nHost: h\r\n\r\n")
			switch want {
			case "BAD":
				r.expectProblem(t, 400, "bad_request")
				up.expectNothing(t, mark)
			case "":
				r.expectProblem(t, 400, "bad_path")
				up.expectNothing(t, mark)
			default:
				got := up.take()
				if r.status != 200 || len(got) != 1 || got[0].line != "GET "+want+" HTTP/1.1" {
					t.Errorf("%s: %q: status %d, upstream got %v, want %q", name, c.raw, r.status, lines(got), want)
				}
			}
			if t.Failed() {
				t.Fatalf("%s: %q", name, c.raw)
			}
		}
	}
}

func lines(requests []*request) (all []string) {
	for _, r := range requests {
		all = append(all, r.line)
	}
	return all
}

// A catch-all to another upstream must not lead to what a stricter route guards, by whatever name.
func TestGuardedPathHasOneName(t *testing.T) {
	t.Parallel()
	guarded, open := startAnswering(t, ok), startAnswering(t, ok)
	for _, slashes := range []string{"reject", "keep"} {
		g := startGateway(t, fmt.Sprintf(`
[server]
listen = ["$LISTEN"]
encoded_slash = %q
[upstream.guarded]
targets = [%q]
[upstream.open]
targets = [%q]
[[route]]
name = "keys"
path = "/admin/keys"
auth = ["none"]
to   = "guarded"
[[route]]
name = "rest"
path = "/*"
auth = ["none"]
to   = "open"
`, slashes, guarded.url(), open.url()))
		for _, raw := range []string{
			"/admin/keys", "//admin/keys", "/admin//keys", "/./admin/keys", "/x/../admin/keys", "/admin/./keys",
			"/admin/x/../keys", "/%61dmin/keys", "/admin/%6beys", "/%61%64%6d%69%6e/keys", "/admin/%2e/keys", "/x/%2e%2e/admin/keys",
			"/admin%2fkeys", "/admin%2Fkeys", "/admin%5ckeys", `/admin\keys`, `\admin\keys`, "/x/..%2fadmin/keys", "/x/..;/admin/keys",
			"/admin;/keys", "/admin/keys;", "/admin/keys;x=y", "/admin/keys%3b", "/admin/keys%00", "/admin/keys%20", "/admin/keys%0a",
			"/admin/keys?", "/admin/keys?x", "/admin/keys#", "/admin/keys%23", "/admin/keys%3f", "/admin/keys/.", "/admin/keys/x/..",
			"/admin/keys/..;/keys", "/../admin/keys", "/%2fadmin/keys", "/%2e%2fadmin/keys", "http://h/admin/keys", "http://h//admin/keys",
			"/admin\xc0\xafkeys", "/admin/keys\xc2\xa0", "/admin/keys.", "/admin/keys..", "/admin/.keys", "/admin/k%65ys/", "/admin/keys//",
		} {
			open.take()
			guarded.take()
			_, r := g.exchange(t, "GET "+raw+" HTTP/1.1\r\nHost: h\r\n\r\n")
			for _, got := range open.take() {
				if plainly(got.path) == "/admin/keys" {
					t.Errorf("%s: %q went through the catch-all as %q", slashes, raw, got.path)
				}
			}
			for _, got := range guarded.take() {
				if p, _, _ := strings.Cut(got.path, "?"); p != "/admin/keys" {
					t.Errorf("%s: %q reached the guarded upstream as %q", slashes, raw, got.path)
				}
			}
			if r.status != 200 && r.status != 400 {
				t.Errorf("%s: %q: status %d", slashes, raw, r.status)
			}
		}
	}
}

// plainly is how a usual server reads a path: decoded once, dots and slashes resolved. A trailing slash
// makes another name.
func plainly(raw string) string {
	raw, _, _ = strings.Cut(raw, "?")
	decoded, err := url.PathUnescape(strings.ReplaceAll(strings.ReplaceAll(raw, "%2F", "/-/"), "%5C", "/-/"))
	if err != nil {
		return raw
	}
	clean := path.Clean(decoded)
	if strings.HasSuffix(decoded, "/") {
		clean += "/"
	}
	return clean
}

// strip_prefix forwards what "*" stands for, cut from the bytes that were matched.
func TestStripPrefix(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, fmt.Sprintf(`
[server]
listen = ["$LISTEN"]
encoded_slash = "keep"
trusted_proxies = ["127.0.0.0/8"]
[upstream.a]
targets = [%q]
[[route]]
name = "api"
path = "/api/*"
strip_prefix = true
auth = ["none"]
to   = "a"
[[route]]
name = "deep"
path = "/t/{tenant}/v1/*"
strip_prefix = true
auth = ["none"]
to   = "a"
[[route]]
name = "plain"
path = "/plain/*"
auth = ["none"]
to   = "a"
`, up.url()))

	for _, c := range []struct{ raw, forwarded, prefix string }{
		{"/api", "/", "/api"},
		{"/api/", "/", "/api"},
		{"/api?q", "/?q", "/api"},
		{"/api/?q", "/?q", "/api"},
		{"/api/x", "/x", "/api"},
		{"/api/x/", "/x/", "/api"},
		{"/api/api", "/api", "/api"},
		{"/api//x", "/x", "/api"},
		{"/api//evil.example/x", "/evil.example/x", "/api"}, // never "//evil.example"
		{"/api///", "/", "/api"},
		{"/api/%2Fevil.example", "/%2Fevil.example", "/api"},
		{"/api/%252e%252e/x", "/%252e%252e/x", "/api"}, // cut, not decoded again
		{"/%61pi/x", "/x", "/api"},
		{"/api/x%3Fy", "/x%3Fy", "/api"},
		{"/api/a/../b", "/b", "/api"},
		{"/x/../api/b", "/b", "/api"},
		{"/t/acme/v1", "/", "/t/acme/v1"},
		{"/t/acme/v1/x/y", "/x/y", "/t/acme/v1"},
		{"/t/a%20b/v1/x", "/x", "/t/a%20b/v1"},
		{"/plain/x", "/plain/x", ""},

		{"/apix", "", ""}, // a prefix ends at a segment's end
		{"/api.x", "", ""},
		{"/api%2Fx", "", ""},
		{"/api;x/y", "", ""},
		{"/API/x", "", ""},
		{"/ap", "", ""},
		{"/api/../x", "", ""},
		{"/t//v1/x", "", ""},
	} {
		up.take()
		mark := up.size()
		_, r := g.exchange(t, "GET "+c.raw+" HTTP/1.1\r\nHost: h\r\n\r\n")
		if c.forwarded == "" {
			if r.expectProblem(t, 404, "no_route"); t.Failed() {
				t.Fatal(c.raw)
			}
			up.expectNothing(t, mark)
			continue
		}
		got := up.one(t)
		if got.path != c.forwarded || got.fields.get("X-Forwarded-Prefix") != c.prefix {
			t.Errorf("%q: forwarded %q with prefix %q", c.raw, got.path, got.fields.values("X-Forwarded-Prefix"))
		}
		if len(got.fields.values("X-Forwarded-Prefix")) > 1 {
			t.Errorf("%q: more than one prefix", c.raw)
		}
	}

	// The prefixes of gateways in a row add up.
	g.exchange(t, "GET /api/x HTTP/1.1\r\nHost: h\r\nX-Forwarded-Prefix: /outer/\r\n\r\n")
	if got := up.one(t).fields.get("X-Forwarded-Prefix"); got != "/outer/api" {
		t.Errorf("prefix behind a proxy with a prefix: %q", got)
	}
}

// rewrite makes the path to forward out of captures, as they stand in the matched path.
func TestRewrite(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, fmt.Sprintf(`
[upstream.a]
targets = [%q]
[[route]]
name = "posts"
path = "/users/{id}/posts/{post}"
rewrite = "/v2/posts/{post}/{id}"
auth = ["none"]
to   = "a"
[[route]]
name = "old"
path = "/old/*"
rewrite = "/new/sub/*"
auth = ["none"]
to   = "a"
[[route]]
name = "root"
path = "/root/*"
rewrite = "/*"
auth = ["none"]
to   = "a"
[[route]]
name = "fixed"
path = "/fixed/{any}"
rewrite = "/"
auth = ["none"]
to   = "a"
`, up.url()))
	for _, c := range []struct{ raw, forwarded string }{
		{"/users/7/posts/9", "/v2/posts/9/7"},
		{"/users/a%20b/posts/%41?q=/x", "/v2/posts/A/a%20b?q=/x"},
		{"/users/%252e%252e/posts/9", "/v2/posts/9/%252e%252e"},
		{"/users/{id}/posts/{post}", "/v2/posts/%7Bpost%7D/%7Bid%7D"}, // values are no templates
		{"/users/7/posts/9/", ""},
		{"/users//posts/9", ""},
		{"/users/../posts/9", ""},
		{"/old/x/y", "/new/sub/x/y"},
		{"/old/", "/new/sub/"},
		{"/old", "/new/sub"},
		{"/old//x", "/new/sub/x"},
		{"/root/x", "/x"},
		{"/root/", "/"},
		{"/root", "/"},
		{"/root//evil.example", "/evil.example"},
		{"/fixed/x?y", "/?y"},
	} {
		up.take()
		mark := up.size()
		_, r := g.exchange(t, "GET "+c.raw+" HTTP/1.1\r\nHost: h\r\n\r\n")
		if c.forwarded == "" {
			if r.expectProblem(t, 404, "no_route"); t.Failed() {
				t.Fatal(c.raw)
			}
			up.expectNothing(t, mark)
			continue
		}
		if got := up.one(t); got.path != c.forwarded {
			t.Errorf("%q: forwarded %q, want %q", c.raw, got.path, c.forwarded)
		}
	}
}
