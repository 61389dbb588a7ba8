package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// has tells whether a header line stands in a request, exactly as given.
func (r *request) has(line string) bool { return strings.Contains(r.raw, "\r\n"+line+"\r\n") }

// What a client says about one hop, about itself, or about its way here does not reach the upstream.
func TestRequestHeadersThatAreNotForwarded(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, `
[auth.identity]
user   = "X-User-ID"
scopes = "X-User-Scopes"
tier   = "X-Plan"
`+public(up.url()))

	for _, c := range []struct {
		intent string
		sent   []string // header lines
		absent []string // names the upstream must not see
		kept   []string // lines the upstream must see
	}{
		{"hop-by-hop", []string{"Connection: keep-alive", "Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "TE: trailers", "Trailer: X", "Proxy-Authorization: Basic eDp5", "Proxy-Authenticate: Basic"},
			[]string{"Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Proxy-Authorization", "Proxy-Authenticate"}, nil},
		{"named in Connection", []string{"Connection: X-Hop, x-other", "X-Hop: 1", "X-Other: 2", "X-Stay: 3"},
			[]string{"Connection", "X-Hop", "X-Other"}, []string{"X-Stay: 3"}},
		{"named in the second Connection line", []string{"Connection: keep-alive", "connection: ,, X-Hop ,", "X-Hop: 1"},
			[]string{"Connection", "X-Hop"}, nil},
		{"naming what the gateway adds takes nothing away (CVE-2022-31813)",
			[]string{"Connection: close, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, X-Request-ID, X-Trace-ID, traceparent, Host, Content-Length", "X-Request-ID: mine"},
			[]string{"Connection"}, []string{"X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: h", "X-Request-ID: mine", "Host: h", "Content-Length: 0"}},
		{"naming framing", []string{"Connection: Content-Length, Transfer-Encoding"}, []string{"Connection", "Transfer-Encoding"}, []string{"Content-Length: 0"}},
		{"identity", []string{"X-User-ID: admin", "x-user-id: admin", "X-USER-SCOPES: all", "X-Plan: gold"},
			[]string{"X-User-ID", "X-User-Scopes", "X-Plan"}, nil},
		{"identity in disguise", []string{"X_User_ID: admin", "X-User_ID: admin", "x_user_scopes: all", "X_Plan: gold"},
			[]string{"X_User_ID", "X-User_ID", "X_User_Scopes", "X_Plan"}, nil},
		{"identity named in Connection", []string{"Connection: X-User-ID", "X-User-ID: admin"}, []string{"X-User-ID"}, nil},
		{"a default name that is not configured is a header like others", []string{"X-Client-Tier: gold"}, nil, []string{"X-Client-Tier: gold"}},
		{"framing in disguise", []string{"Content_Length: 7", "Transfer_Encoding: chunked"}, []string{"Content_Length", "Transfer_Encoding"}, nil},
		{"any underscore", []string{"X_Custom: 1", "X-Forwarded_For: 6.6.6.6", strings.Repeat("a_", 200) + ": 1"},
			[]string{"X_Custom", "X-Forwarded_For", strings.Repeat("a_", 200)}, nil},
		{"httpoxy", []string{"Proxy: http://evil.example"}, []string{"Proxy"}, nil},
		{"Expect is answered here", []string{"Expect: 100-continue"}, []string{"Expect"}, nil},
		{"an upgrade to what we do not speak", []string{"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"},
			[]string{"Connection", "Upgrade", "HTTP2-Settings"}, nil},
		{"Upgrade without Connection", []string{"Upgrade: websocket"}, []string{"Upgrade", "Connection"}, nil},
		{"an upgrade list with h2c in it", []string{"Connection: Upgrade", "Upgrade: h2c, websocket"}, []string{"Upgrade", "Connection"}, nil},
		{"forwarding facts from a stranger", []string{"X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil", "X-Forwarded-Prefix: /x",
			"X-Forwarded-Port: 1", "X-Forwarded-Server: x", "X-Forwarded-Ssl: on", "X-Forwarded-Scheme: https", "X-Forwarded-Uri: /admin", "X-Forwarded-Method: GET",
			"X-Forwarded-Client-Cert: x", "X-Original-URL: /admin", "X-Rewrite-URL: /admin", "X-Real-IP: 6.6.6.6", "Forwarded: for=6.6.6.6"},
			[]string{"X-Forwarded-Prefix", "X-Forwarded-Port", "X-Forwarded-Server", "X-Forwarded-Ssl", "X-Forwarded-Scheme", "X-Forwarded-Uri", "X-Forwarded-Method",
				"X-Forwarded-Client-Cert", "X-Original-URL", "X-Rewrite-URL", "X-Real-IP", "Forwarded"},
			[]string{"X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: h"}},
		{"forwarding facts, twice", []string{"X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 7.7.7.7", "x-forwarded-for: 8.8.8.8"},
			nil, []string{"X-Forwarded-For: 127.0.0.1"}},
		{"what is nobody's business but theirs", []string{"Authorization: Bearer x", "Cookie: a=b", "Accept: */*", "X-API-Version: 1", "Via: 1.0 somewhere", "Range: bytes=0-1"},
			nil, []string{"Authorization: Bearer x", "Cookie: a=b", "Accept: */*", "X-API-Version: 1", "Via: 1.0 somewhere", "Range: bytes=0-1"}},
		{"order, case and repetition stay", []string{"X-b: 1", "x-A: 2", "X-B: 3", "X-Empty:", "Cookie: a", "Cookie: b"},
			nil, []string{"X-b: 1\r\nx-A: 2\r\nX-B: 3\r\nX-Empty: \r\nCookie: a\r\nCookie: b"}},
		{"8-bit bytes and inner whitespace stay", []string{"X-Latin: caf\xe9 \t  \xff", "X-Trim: \t a b \t "},
			nil, []string{"X-Latin: caf\xe9 \t  \xff", "X-Trim: a b"}},
	} {
		t.Run(c.intent, func(t *testing.T) {
			up.take()
			raw := "POST /x HTTP/1.1\r\nHost: h\r\n" + strings.Join(c.sent, "\r\n") + "\r\nContent-Length: 0\r\n\r\n"
			_, r := g.exchange(t, raw)
			got := up.one(t)
			if r.status != 200 {
				t.Errorf("status %d", r.status)
			}
			for _, name := range c.absent {
				if got.fields.has(name) {
					t.Errorf("the upstream got %s: %q", name, got.fields.values(name))
				}
			}
			for _, line := range c.kept {
				if !got.has(line) {
					t.Errorf("the upstream did not get %q", line)
				}
			}
			for _, name := range []string{"Host", "Content-Length", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Request-ID", "X-Trace-ID", "traceparent"} {
				if n := len(got.fields.values(name)); n != 1 {
					t.Errorf("%d lines of %s", n, name)
				}
			}
			if t.Failed() {
				t.Logf("the upstream got\n%s", got.raw)
			}
		})
	}

	// Nothing is made up.
	g.exchange(t, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
	got := up.one(t)
	var names []string
	for _, f := range got.fields {
		names = append(names, f.name)
	}
	if want := []string{"Host", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Request-ID", "X-Trace-ID", "traceparent"}; !slices.Equal(names, want) {
		t.Errorf("a bare request reaches the upstream with %q, want %q", names, want)
	}
}

// A trailer is not a way around what the head may not say.
func TestTrailersThatAreNotForwarded(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, public(up.url()))
	_, r := g.exchange(t, "POST /x HTTP/1.1\r\nHost: h\r\nConnection: X-Named\r\nTransfer-Encoding: chunked\r\n"+
		"Trailer: X-Sum, X-User-ID, X_User_ID, X-Forwarded-For\r\n\r\n5\r\nhello\r\n0\r\n"+
		"X-Sum: 1\r\nX-User-ID: admin\r\nX_User_ID: admin\r\nX-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Request-ID: other\r\nX-Named: 1\r\n\r\n")
	got := up.one(t)
	if r.status != 200 || got.body != "hello" {
		t.Errorf("status %d, body %q", r.status, got.body)
	}
	if len(got.trailers) != 1 || got.trailers.Get("X-Sum") != "1" {
		t.Errorf("trailers %v", got.trailers)
	}
	if announced := got.fields.get("Trailer"); announced != "X-Sum" {
		t.Errorf("announced %q", announced)
	}
}

// A trusted proxy's word about the client is believed, up to the first hop that is not trusted, read
// from right to left; what it says is passed on with the proxy appended.
func TestForwardedFromTrustedProxies(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, `
[server]
listen = ["$LISTEN"]
trusted_proxies = ["127.0.0.1/32", "10.0.0.0/8", "fd00::/8"]
`+public(up.url()))
	for _, c := range []struct {
		intent string
		sent   []string
		want   []string
		absent []string
	}{
		{"nothing said", nil, []string{"X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: h"}, []string{"Forwarded", "X-Real-IP"}},
		{"one hop", []string{"X-Forwarded-For: 6.6.6.6"}, []string{"X-Forwarded-For: 6.6.6.6, 127.0.0.1"}, nil},
		{"lines become one, in their order", []string{"X-Forwarded-For: 5.5.5.5, 6.6.6.6", "x-forwarded-for: 10.0.0.1"}, []string{"X-Forwarded-For: 5.5.5.5, 6.6.6.6, 10.0.0.1, 127.0.0.1"}, nil},
		{"scheme and host", []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: www.example.com"}, []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: www.example.com"}, nil},
		{"a scheme that is none", []string{"X-Forwarded-Proto: gopher"}, []string{"X-Forwarded-Proto: http"}, nil},
		{"two opinions of the scheme are none", []string{"X-Forwarded-Proto: https", "X-Forwarded-Proto: http"}, []string{"X-Forwarded-Proto: http"}, nil},
		{"the others pass", []string{"X-Real-IP: 6.6.6.6", "X-Forwarded-Port: 443"}, []string{"X-Real-IP: 6.6.6.6", "X-Forwarded-Port: 443"}, nil},
		{"Forwarded is passed on and added to", []string{"Forwarded: for=6.6.6.6;proto=https"}, []string{`Forwarded: for=6.6.6.6;proto=https, for=127.0.0.1;host="h";proto=http`}, nil},
		{"identity is nobody's to say", []string{"X-User-ID: admin", "X_User_ID: admin", "X_Forwarded_For: 6.6.6.6"}, nil, []string{"X-User-ID", "X_User_ID", "X_Forwarded_For"}},
	} {
		t.Run(c.intent, func(t *testing.T) {
			up.take()
			head := strings.Join(append([]string{"GET /x HTTP/1.1", "Host: h"}, c.sent...), "\r\n")
			g.exchange(t, head+"\r\n\r\n")
			got := up.one(t)
			for _, line := range c.want {
				if !got.has(line) {
					t.Errorf("the upstream did not get %q:\n%s", line, got.raw)
				}
			}
			for _, name := range c.absent {
				if got.fields.has(name) {
					t.Errorf("the upstream got %s:\n%s", name, got.raw)
				}
			}
		})
	}
}

// Who the client is, behind trusted proxies, shows in where a split that sticks to addresses sends it.
func TestClientAddressBehindProxies(t *testing.T) {
	t.Parallel()
	name := func(text string) func(*request) string {
		return func(*request) string {
			return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		}
	}
	var upstreams, weights strings.Builder
	for i := range 16 {
		up := startAnswering(t, name(fmt.Sprint(i)))
		fmt.Fprintf(&upstreams, "[upstream.u%d]\ntargets = [%q]\n", i, up.url())
		fmt.Fprintf(&weights, "u%d = 1, ", i)
	}
	text := upstreams.String() + `
[split.s]
sticky = "client"
weights = { ` + strings.TrimSuffix(weights.String(), ", ") + ` }
[[route]]
name = "all"
path = "/*"
auth = ["none"]
to   = "s"
`
	trusting := startGateway(t, "[server]\nlisten = [\"$LISTEN\"]\ntrusted_proxies = [\"127.0.0.1/32\", \"10.0.0.0/8\"]\n"+text)
	strict := startGateway(t, text)
	side := func(g *gateway, lines ...string) string {
		_, r := g.exchange(t, strings.Join(append([]string{"GET /x HTTP/1.1", "Host: h"}, lines...), "\r\n")+"\r\n\r\n")
		return r.body
	}
	// An address that lands elsewhere than the peer's own and than the liar's shows which one was taken.
	peer := side(trusting)
	var client, liar string
	for i := range 200 {
		a := fmt.Sprintf("8.8.%d.8", i)
		switch s := side(trusting, "X-Forwarded-For: "+a); {
		case client == "" && s != peer:
			client = a
		case client != "" && s != peer && s != side(trusting, "X-Forwarded-For: "+client):
			liar = a
		}
		if liar != "" {
			break
		}
	}
	if client == "" || liar == "" {
		t.Fatal("the split does not stick to X-Forwarded-For of a trusted proxy")
	}
	want := side(trusting, "X-Forwarded-For: "+client)
	for _, c := range []struct {
		intent string
		lines  []string
		want   string
	}{
		{"the rightmost that is not trusted", []string{"X-Forwarded-For: " + liar + ", " + client}, want},
		{"trusted hops are passed over", []string{"X-Forwarded-For: " + liar + ", " + client + ", 10.1.2.3, 10.0.0.1"}, want},
		{"over several lines", []string{"X-Forwarded-For: " + liar, "X-Forwarded-For: " + client, "X-Forwarded-For: 10.0.0.1"}, want},
		{"with a port", []string{"X-Forwarded-For: " + liar + ", " + client + ":1234"}, want},
		{"as IPv6", []string{"X-Forwarded-For: " + liar + ", ::ffff:" + client}, want},
		{"in brackets", []string{"X-Forwarded-For: " + liar + ", [::ffff:" + client + "]:99"}, want},
		{"Forwarded", []string{"Forwarded: for=" + liar + ", for=" + client + ";proto=http, for=10.0.0.1"}, want},
		{"Forwarded, quoted", []string{"Forwarded: proto=http;For=\"" + client + ":7\""}, want},
		{"X-Forwarded-For wins over Forwarded", []string{"Forwarded: for=" + liar, "X-Forwarded-For: " + client}, want},
		{"a hop that is no address ends the walk", []string{"X-Forwarded-For: " + liar + ", unknown"}, peer},
		{"an empty hop ends the walk", []string{"X-Forwarded-For: " + liar + ","}, peer},
		{"X-Real-IP says nothing", []string{"X-Real-IP: " + liar}, peer},
	} {
		if got := side(trusting, c.lines...); got != c.want {
			t.Errorf("%s: %q went to %s, want %s", c.intent, c.lines, got, c.want)
		}
	}
	own := side(strict)
	for i := range 20 {
		if side(strict, fmt.Sprintf("X-Forwarded-For: 8.8.%d.8", i), fmt.Sprintf("Forwarded: for=8.8.%d.8", i)) != own {
			t.Fatal("a stranger chose its own address")
		}
	}
}

// A request id is the client's if it is harmless, else a new one; upstream, client and answers agree.
func TestRequestID(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, func(r *request) string {
		return "HTTP/1.1 200 OK\r\nX-Request-ID: the-upstreams-own\r\nContent-Length: 0\r\n\r\n"
	})
	g := startGateway(t, public(up.url()))
	made := regexp.MustCompile(`^[0-9a-f]{32}$`)
	seen := map[string]bool{}
	for _, c := range []struct {
		sent string
		kept bool
	}{
		{"abc-123_X.9", true},
		{strings.Repeat("a", 64), true},
		{"", false},
		{strings.Repeat("a", 65), false},
		{`a"b`, false},
		{`a\b`, false},
		{"a b", false},
		{"a\tb", false},
		{"a,b", false},
		{"<script>", false},
		{"\xff", false},
		{"${jndi:ldap://x}", false},
		{"%0d%0aX: y", false},
	} {
		_, r := g.exchange(t, "GET /x HTTP/1.1\r\nHost: h\r\nX-Request-ID: "+c.sent+"\r\n\r\n")
		ids := append(r.fields.values("X-Request-ID"), up.one(t).fields.values("X-Request-ID")...)
		if len(ids) != 2 || ids[0] != ids[1] {
			t.Errorf("%q: client and upstream got %q", c.sent, ids)
			continue
		}
		if c.kept != (ids[0] == c.sent) || !c.kept && !made.MatchString(ids[0]) || seen[ids[0]] {
			t.Errorf("%q became %q", c.sent, ids[0])
		}
		seen[ids[0]] = true
	}

	// In an answer of the gateway's own, bad ids could break the JSON.
	_, r := g.exchange(t, "GET /%zz HTTP/1.1\r\nHost: h\r\nX-Request-ID: a\"b\r\n\r\n")
	r.expectProblem(t, 400, "bad_path")
	_, r = g.exchange(t, "GET /%zz HTTP/1.1\r\nHost: h\r\nX-Request-ID: mine\r\n\r\n")
	if r.expectProblem(t, 400, "bad_path"); r.fields.get("X-Request-ID") != "mine" {
		t.Errorf("id of a refused request: %q", r.fields.get("X-Request-ID"))
	}
	// Not even the head was read: there is an id all the same.
	_, r = g.exchange(t, "GET /x HTTP/1.1\r\nbad\r\n\r\n")
	r.expectProblem(t, 400, "bad_request")
}

// What an upstream says of its hop stays there; all else passes as it came, and nothing is made up.
func TestResponseHeaders(t *testing.T) {
	t.Parallel()
	var answer string
	up := startAnswering(t, func(*request) string { return answer })
	g := startGateway(t, public(up.url()))
	for _, c := range []struct {
		intent string
		lines  []string
		want   []string // header lines in this order and number, as the client must get them, less Date, X-Request-ID, X-Trace-ID, Content-Length
	}{
		{"nothing is invented", nil, nil},
		{"a trace id of its own", []string{"X-Trace-ID: theirs"}, nil},
		{"hop-by-hop", []string{"Connection: keep-alive", "Keep-Alive: timeout=5", "Proxy-Connection: x", "Proxy-Authenticate: Basic", "TE: x", "Upgrade: h2c"}, nil},
		{"named in Connection", []string{"Connection: X-Hop", "X-Hop: 1", "Connection: x-two", "X-Two: 2", "X-Stay: 3"}, []string{"X-Stay: 3"}},
		{"cookies stay apart", []string{"Set-Cookie: a=1; Path=/; Expires=Thu, 01 Jan 2026 00:00:00 GMT", "Set-Cookie: b=2", "Set-Cookie: a=3"},
			[]string{"Set-Cookie: a=1; Path=/; Expires=Thu, 01 Jan 2026 00:00:00 GMT", "Set-Cookie: b=2", "Set-Cookie: a=3"}},
		{"case, order, repetition", []string{"x-b: 1", "ETag: \"x\"", "WWW-Authenticate: Basic", "X-B: 2", "www-authenticate: Digest", "x_y: underscores mislead no client"},
			[]string{"x-b: 1", "ETag: \"x\"", "WWW-Authenticate: Basic", "X-B: 2", "www-authenticate: Digest", "x_y: underscores mislead no client"}},
		{"the spelling of those that libraries have special places for", []string{"server: unit", "content-type: text/x-own", "content-encoding: identity"},
			[]string{"server: unit", "content-type: text/x-own", "content-encoding: identity"}},
		{"8-bit bytes", []string{"X-Latin: caf\xe9"}, []string{"X-Latin: caf\xe9"}},
		{"empty values", []string{"X-Empty:", "X-Full: x"}, []string{"X-Empty: ", "X-Full: x"}},
		{"many headers", []string{"X-Long: " + strings.Repeat("a", 9000)}, []string{"X-Long: " + strings.Repeat("a", 9000)}},
	} {
		t.Run(c.intent, func(t *testing.T) {
			answer = "HTTP/1.1 200 OK\r\n" + strings.Join(append(slices.Clone(c.lines), "Date: Sun, 06 Nov 1994 08:49:37 GMT", "Content-Length: 2", "", "ok"), "\r\n")
			client, r := g.exchange(t, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
			if r.line != "HTTP/1.1 200 OK" || r.body != "ok" || r.cut != nil {
				t.Errorf("%q %q %v", r.line, r.body, r.cut)
			}
			if date := r.fields.values("Date"); !slices.Equal(date, []string{"Sun, 06 Nov 1994 08:49:37 GMT"}) {
				t.Errorf("Date %q", date)
			}
			var got []string
			for _, f := range r.fields {
				switch f.name {
				case "Date", "X-Request-ID", "X-Trace-ID", "Content-Length":
				default:
					got = append(got, f.name+": "+f.value)
				}
			}
			if !sameHeaders(got, c.want) {
				t.Errorf("the client got\n%q, want\n%q", got, c.want)
			}
			client.expectOpen()
		})
	}

	answer = "HTTP/1.1 299 Odd  reason, caf\xe9\r\nContent-Length: 0\r\n\r\n"
	_, r := g.exchange(t, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
	if r.line != "HTTP/1.1 299 Odd  reason, caf\xe9" || len(r.fields.values("Date")) != 1 {
		t.Errorf("%q %v", r.line, r.fields)
	}
	answer = "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"
	if _, r := g.exchange(t, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n"); r.status != 200 {
		t.Errorf("without a reason: %q", r.line)
	}
}

// sameHeaders compares header lines: those of one name in their order; the order between names is free
// (RFC 9110, section 5.3).
func sameHeaders(got, want []string) bool {
	byName := func(a, b string) int {
		a, _, _ = strings.Cut(strings.ToLower(a), ":")
		b, _, _ = strings.Cut(strings.ToLower(b), ":")
		return strings.Compare(a, b)
	}
	got, want = slices.Clone(got), slices.Clone(want)
	slices.SortStableFunc(got, byName)
	slices.SortStableFunc(want, byName)
	for i := range got {
		got[i] = strings.TrimRight(got[i], " ")
	}
	for i := range want {
		want[i] = strings.TrimRight(want[i], " ")
	}
	return slices.Equal(got, want)
}

// A route's edits are the last word, both ways.
func TestHeaderEdits(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, func(*request) string {
		return "HTTP/1.1 200 OK\r\nServer: secret/1.0\r\nserver: twice\r\nX-Powered-By: x\r\nCache-Control: no-store\r\nX-Stay: 1\r\nContent-Length: 2\r\n\r\nok"
	})
	g := startGateway(t, fmt.Sprintf(`
[upstream.a]
targets = [%q]
host = "internal.example"
[[route]]
name = "all"
path = "/*"
auth = ["none"]
to   = "a"
request_headers  = { set = { X-Tenant = "acme", Accept-Encoding = "identity" }, remove = ["Cookie", "authorization"] }
response_headers = { set = { Cache-Control = "public", Strict-Transport-Security = "max-age=1" }, remove = ["Server", "x-powered-by"] }
`, up.url()))
	_, r := g.exchange(t, "GET /x HTTP/1.1\r\nHost: h\r\nX-Tenant: evil\r\nx-tenant: evil\r\nConnection: X-Tenant\r\nAccept-Encoding: br\r\nCOOKIE: a\r\nAuthorization: x\r\nX-Stay: 1\r\n\r\n")
	got := up.one(t)
	for name, want := range map[string][]string{
		"X-Tenant": {"acme"}, "Accept-Encoding": {"identity"}, "Cookie": nil, "Authorization": nil, "X-Stay": {"1"},
		"Host": {"internal.example"}, "X-Forwarded-Host": {"h"},
	} {
		if values := got.fields.values(name); !slices.Equal(values, want) {
			t.Errorf("the upstream got %s %q, want %q", name, values, want)
		}
	}
	for name, want := range map[string][]string{
		"Cache-Control": {"public"}, "Strict-Transport-Security": {"max-age=1"}, "Server": nil, "X-Powered-By": nil, "X-Stay": {"1"},
	} {
		if values := r.fields.values(name); !slices.Equal(values, want) {
			t.Errorf("the client got %s %q, want %q", name, values, want)
		}
	}
}
