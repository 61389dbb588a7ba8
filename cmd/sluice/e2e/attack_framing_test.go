package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// public is a configuration that forwards everything to one upstream, without authentication.
func public(url string) string {
	return fmt.Sprintf(`
[upstream.a]
targets = [%q]
[[route]]
name = "all"
path = "/*"
auth = ["none"]
to   = "a"
`, url)
}

// smuggled is what an attacker hopes to have read as a request of its own.
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"

// Every one of these is refused before a byte of it goes upstream, and takes its connection with it, so
// that nothing behind it is ever read as a request.
func TestAmbiguousRequestsAreRefused(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, public(up.url()))

	post := func(fields string) string { return "POST /x HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n\r\n" }
	get := func(line string) string { return line + "\r\nHost: h\r\n\r\n" }
	chunks := "5\r\nhello\r\n0\r\n\r\n"

	for _, c := range []struct {
		intent, raw string
		status      int // 0: 400
		reason      string
	}{
		// Two ends of one body: request smuggling, CL.TE and TE.CL.
		{intent: "TE behind CL", raw: post("Content-Length: 5\r\nTransfer-Encoding: chunked") + chunks},
		{intent: "CL behind TE", raw: post("Transfer-Encoding: chunked\r\nContent-Length: 5") + chunks},
		{intent: "CL of 0 with TE", raw: post("Content-Length: 0\r\nTransfer-Encoding: chunked") + chunks},
		{intent: "two CLs that differ", raw: post("Content-Length: 5\r\nContent-Length: 6") + "hello!"},
		{intent: "two CLs that agree: nobody sends that in good faith", raw: post("Content-Length: 5\r\nContent-Length: 5") + "hello"},
		{intent: "CL as a list", raw: post("Content-Length: 5, 5") + "hello"},
		{intent: "CL with a sign", raw: post("Content-Length: +5") + "hello"},
		{intent: "negative CL", raw: post("Content-Length: -5") + "hello"},
		{intent: "hexadecimal CL", raw: post("Content-Length: 0x5") + "hello"},
		{intent: "CL beyond 64 bits", raw: post("Content-Length: 18446744073709551621") + "hello"},
		{intent: "CL beyond 63 bits", raw: post("Content-Length: 9223372036854775808") + "hello"},
		{intent: "CL with a space inside", raw: post("Content-Length: 5 5") + "hello"},
		{intent: "CL with an underscore", raw: post("Content-Length: 1_0") + "hello"},
		{intent: "CL with a fraction", raw: post("Content-Length: 5.0") + "hello"},
		{intent: "empty CL", raw: post("Content-Length:") + "hello"},
		{intent: "CL in other digits", raw: post("Content-Length: \u0665") + "hello"},
		{intent: "CL on a GET is framing too", raw: "GET /x HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n"},

		// Codings that one reader unwraps and another does not.
		{intent: "unknown coding", raw: post("Transfer-Encoding: xchunked") + chunks},
		{intent: "chunked is not last", raw: post("Transfer-Encoding: chunked, identity") + chunks},
		{intent: "chunked is not alone", raw: post("Transfer-Encoding: gzip, chunked") + chunks},
		{intent: "not chunked at all", raw: post("Transfer-Encoding: gzip") + chunks},
		{intent: "identity", raw: post("Transfer-Encoding: identity") + "hello"},
		{intent: "chunked twice", raw: post("Transfer-Encoding: chunked, chunked") + chunks},
		{intent: "two TE lines", raw: post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked") + chunks},
		{intent: "two TE lines, the other unknown", raw: post("Transfer-Encoding: chunked\r\nTransfer-Encoding: x") + chunks},
		{intent: "vertical tab before the coding", raw: post("Transfer-Encoding: \x0bchunked") + chunks},
		{intent: "form feed behind the coding", raw: post("Transfer-Encoding: chunked\x0c") + chunks},
		{intent: "trailing comma", raw: post("Transfer-Encoding: chunked,") + chunks},
		{intent: "leading comma", raw: post("Transfer-Encoding: ,chunked") + chunks},
		{intent: "quoted coding", raw: post("Transfer-Encoding: \"chunked\"") + chunks},
		{intent: "coding with a parameter", raw: post("Transfer-Encoding: chunked;q=1") + chunks},
		{intent: "empty TE", raw: post("Transfer-Encoding:") + chunks},
		{intent: "TE in HTTP/1.0, which has no chunks", raw: "POST /x HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks},

		// Lines that end where only some think they do.
		{intent: "bare LF behind the request line", raw: "GET /x HTTP/1.1\nHost: h\r\n\r\n"},
		{intent: "bare LF behind a field", raw: "GET /x HTTP/1.1\r\nHost: h\nX: y\r\n\r\n"},
		{intent: "bare LF as the empty line", raw: "GET /x HTTP/1.1\r\nHost: h\r\n\n"},
		{intent: "nothing but LFs", raw: "GET /x HTTP/1.1\nHost: h\n\n"},
		{intent: "bare CR in the request line", raw: "GET /x\r HTTP/1.1\r\nHost: h\r\n\r\n"},
		{intent: "bare CR ends the request line", raw: "GET /x HTTP/1.1\rHost: h\r\n\r\n"},
		{intent: "bare CR in a value", raw: "GET /x HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n"},
		{intent: "bare CR hides a field", raw: "GET /x HTTP/1.1\r\nHost: h\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n"},
		{intent: "CR CR LF", raw: "GET /x HTTP/1.1\r\nHost: h\r\nX: a\r\r\n\r\n"},
		{intent: "CR CR LF as the empty line", raw: "GET /x HTTP/1.1\r\nHost: h\r\n\r\r\n\r\n"},
		{intent: "two empty lines first", raw: "\r\n\r\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n"},
		{intent: "an LF first", raw: "\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n"},

		// Fields that are read under another name, or not at all.
		{intent: "space before the colon", raw: post("Content-Length : 5") + "hello"},
		{intent: "tab before the colon", raw: post("Transfer-Encoding\t: chunked") + chunks},
		{intent: "folded value", raw: post("X: a\r\n b") + ""},
		{intent: "folded coding", raw: post("Transfer-Encoding:\r\n chunked") + chunks},
		{intent: "first field is indented", raw: "GET /x HTTP/1.1\r\n Host: h\r\n\r\n"},
		{intent: "a line of spaces", raw: "GET /x HTTP/1.1\r\nHost: h\r\n \r\n\r\n"},
		{intent: "NUL in a value", raw: post("X: a\x00b")},
		{intent: "escape character in a value", raw: post("X: a\x1bb")},
		{intent: "DEL in a value", raw: post("X: a\x7fb")},
		{intent: "NUL in a name", raw: post("X\x00Y: a")},
		{intent: "space in a name", raw: post("X-User-ID Foo: a")},
		{intent: "8-bit byte in a name", raw: post("X-\xffY: a")},
		{intent: "empty name", raw: post(": a")},
		{intent: "no colon", raw: post("Whatever")},
		{intent: "a name of separators", raw: post("(a): b")},

		// Whose request is it?
		{intent: "no Host", raw: "GET /x HTTP/1.1\r\nX: y\r\n\r\n"},
		{intent: "two Hosts", raw: "GET /x HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n"},
		{intent: "two Hosts that agree", raw: "GET /x HTTP/1.1\r\nHost: h\r\nhost: h\r\n\r\n"},
		{intent: "empty Host", raw: "GET /x HTTP/1.1\r\nHost:\r\n\r\n"},
		{intent: "Host with userinfo, which fasthttp turns into Authorization", raw: "GET /x HTTP/1.1\r\nHost: u:p@h\r\n\r\n"},
		{intent: "Host with a space", raw: "GET /x HTTP/1.1\r\nHost: a b\r\n\r\n"},
		{intent: "Host with a slash", raw: "GET /x HTTP/1.1\r\nHost: h/x\r\n\r\n"},
		{intent: "Host with a query", raw: "GET /x HTTP/1.1\r\nHost: h?x\r\n\r\n"},
		{intent: "Host with a fragment", raw: "GET /x HTTP/1.1\r\nHost: h#x\r\n\r\n"},
		{intent: "Host with a backslash", raw: "GET /x HTTP/1.1\r\nHost: h\\x\r\n\r\n"},
		{intent: "Host is a list", raw: "GET /x HTTP/1.1\r\nHost: h,i\r\n\r\n"},
		{intent: "Host with an escape", raw: "GET /x HTTP/1.1\r\nHost: h%2e\r\n\r\n"},
		{intent: "Host with an 8-bit byte", raw: "GET /x HTTP/1.1\r\nHost: h\xff\r\n\r\n"},
		{intent: "Host with a bad port", raw: "GET /x HTTP/1.1\r\nHost: h:99999\r\n\r\n"},
		{intent: "Host with two ports", raw: "GET /x HTTP/1.1\r\nHost: h:80:80\r\n\r\n"},
		{intent: "Host is a port", raw: "GET /x HTTP/1.1\r\nHost: :80\r\n\r\n"},
		{intent: "Host is an open bracket", raw: "GET /x HTTP/1.1\r\nHost: [::1\r\n\r\n"},
		{intent: "two Hosts in HTTP/1.0", raw: "GET /x HTTP/1.0\r\nHost: h\r\nHost: i\r\n\r\n"},

		// Request lines.
		{intent: "HTTP/1.2", raw: get("GET /x HTTP/1.2"), status: 505, reason: "http_version"},
		{intent: "HTTP/2.0", raw: get("GET /x HTTP/2.0"), status: 505, reason: "http_version"},
		{intent: "HTTP/0.9 with a version", raw: get("GET /x HTTP/0.9"), status: 505, reason: "http_version"},
		{intent: "two digits", raw: get("GET /x HTTP/1.10"), status: 505, reason: "http_version"},
		{intent: "HTTP/2 preface", raw: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", status: 505, reason: "http_version"},
		{intent: "HTTP/0.9", raw: "GET /x\r\n\r\n"},
		{intent: "lower-case http", raw: get("GET /x http/1.1")},
		{intent: "another protocol", raw: get("GET /x ICY/1.1")},
		{intent: "no version number", raw: get("GET /x HTTP")},
		{intent: "two spaces before the target", raw: get("GET  /x HTTP/1.1")},
		{intent: "two spaces before the version", raw: get("GET /x  HTTP/1.1")},
		{intent: "space behind the version", raw: get("GET /x HTTP/1.1 ")},
		{intent: "space before the method", raw: get(" GET /x HTTP/1.1")},
		{intent: "tab for a space", raw: get("GET\t/x HTTP/1.1")},
		{intent: "a space in the target", raw: get("GET /x y HTTP/1.1")},
		{intent: "a request line in the target", raw: get("GET /x HTTP/1.1 /y HTTP/1.1")},
		{intent: "no target", raw: get("GET HTTP/1.1")},
		{intent: "a method that is no token", raw: get("G(T /x HTTP/1.1")},
		{intent: "no method", raw: get("/x HTTP/1.1")},
		{intent: "control in the target", raw: get("GET /\x01x HTTP/1.1")},
		{intent: "NUL in the target", raw: get("GET /\x00x HTTP/1.1")},
		{intent: "fragment", raw: get("GET /x#y HTTP/1.1")},
		{intent: "fragment in the query (CVE-2023-45539)", raw: get("GET /x?y#z.png HTTP/1.1")},
		{intent: "another scheme", raw: get("GET ftp://h/x HTTP/1.1")},
		{intent: "scheme without authority", raw: get("GET http:///x HTTP/1.1")},
		{intent: "absolute form with userinfo", raw: get("GET http://u:p@h/x HTTP/1.1")},
		{intent: "absolute form with a bad host", raw: get("GET http://h\\x/ HTTP/1.1")},
		{intent: "absolute form, backslashes", raw: get("GET http:\\\\h\\x HTTP/1.1")},
		{intent: "authority form outside of CONNECT", raw: get("GET h:80 HTTP/1.1")},
		{intent: "a target that is relative", raw: get("GET x HTTP/1.1")},
		{intent: "a query for a target", raw: get("GET ?x HTTP/1.1")},
		{intent: "asterisk outside of OPTIONS", raw: get("GET * HTTP/1.1")},
		{intent: "asterisk: no route is meant", raw: get("OPTIONS * HTTP/1.1")},
		{intent: "a TLS handshake", raw: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			mark := up.size()
			client := g.dial(t)
			client.send(c.raw + smuggled)
			r := client.receive("GET")
			if c.status == 0 {
				c.status, c.reason = 400, "bad_request"
			}
			r.expectProblem(t, c.status, c.reason)
			if got := r.fields.get("Connection"); !strings.EqualFold(got, "close") {
				t.Errorf("Connection: %q, want close", got)
			}
			client.expectClosed()
			up.expectNothing(t, mark)
		})
	}
	up.take()
	g.dial(t).expectOpen()
	if r := up.one(t); r.path != "/canary" {
		t.Errorf("after all that the upstream got %q", r.line)
	}
}

// CONNECT and TRACE are understood and not allowed. There is no body, so the connection may stay, and
// what follows is a request.
func TestMethodsThatAreNotForwarded(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, public(up.url()))
	for _, raw := range []string{
		"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n",
		"CONNECT /x HTTP/1.1\r\nHost: h\r\n\r\n",
		"TRACE /x HTTP/1.1\r\nHost: h\r\n\r\n",
	} {
		c, r := g.exchange(t, raw)
		r.expectProblem(t, 405, "method_not_allowed")
		if !r.fields.has("Allow") {
			t.Errorf("%q: a 405 without Allow", raw)
		}
		if allow := r.fields.get("Allow"); strings.Contains(allow, "TRACE") || strings.Contains(allow, "CONNECT") {
			t.Errorf("Allow: %q", allow)
		}
		up.expectNothing(t, 0)
		c.Close()
	}
}

// What is unusual and clear is understood: strictness is not an end in itself.
func TestUnusualRequestsThatAreClear(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, public(up.url()))
	for _, c := range []struct{ intent, raw, line, host, body string }{
		{"one empty line first, as old clients send", "\r\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n", "GET /x HTTP/1.1", "h", ""},
		{"absolute form; its authority replaces Host", "GET http://real/x?q HTTP/1.1\r\nHost: fake\r\n\r\n", "GET /x?q HTTP/1.1", "real", ""},
		{"absolute form without a path", "GET http://real HTTP/1.1\r\nHost: fake\r\n\r\n", "GET / HTTP/1.1", "real", ""},
		{"absolute form without a path, with a query", "GET HTTP://real:80?q=/a HTTP/1.1\r\nHost: fake\r\n\r\n", "GET /?q=/a HTTP/1.1", "real:80", ""},
		{"an IPv6 host", "GET /x HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET /x HTTP/1.1", "[::1]:80", ""},
		{"a method nobody knows", "PURGE /x HTTP/1.1\r\nHost: h\r\n\r\n", "PURGE /x HTTP/1.1", "h", ""},
		{"CL with leading zeros is one number", "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 005\r\n\r\nhello", "POST /x HTTP/1.1", "h", "hello"},
		{"TE in capitals", "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "POST /x HTTP/1.1", "h", "hello"},
		{"chunk extensions end here", "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b;c\"\r\nhello\r\n0;z\r\n\r\n", "POST /x HTTP/1.1", "h", "hello"},
		{"padded chunk sizes", "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0005\r\nhello\r\n000\r\n\r\n", "POST /x HTTP/1.1", "h", "hello"},
		{"a GET with a body", "GET /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", "GET /x HTTP/1.1", "h", "hello"},
		{"empty values and no space behind the colon", "GET /x HTTP/1.1\r\nHost:h\r\nX:\r\n\r\n", "GET /x HTTP/1.1", "h", ""},
	} {
		t.Run(c.intent, func(t *testing.T) {
			up.take()
			client, r := g.exchange(t, c.raw)
			got := up.one(t)
			if r.status != 200 || got.line != c.line || got.fields.get("Host") != c.host || got.body != c.body {
				t.Errorf("status %d, upstream got %q", r.status, got.raw)
			}
			if strings.Count(got.raw, ";") > 0 && got.body != "" {
				t.Errorf("extensions were passed on: %q", got.raw)
			}
			client.expectOpen()
		})
	}
}

// HTTP/1.0 clients get what they understand.
func TestHTTP10Clients(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, func(r *request) string {
		if r.path == "/chunked" {
			return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
		}
		return answerOK
	})
	g := startGateway(t, public(up.url()))

	c, r := g.exchange(t, "GET /x HTTP/1.0\r\n\r\n"+smuggled)
	if got := up.one(t); r.status != 200 || got.line != "GET /x HTTP/1.1" || len(got.fields.values("Host")) != 1 {
		t.Errorf("status %d, upstream got %q", r.status, got.raw)
	}
	c.expectClosed()

	c, r = g.exchange(t, "GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
	if r.status != 200 || !strings.EqualFold(r.fields.get("Connection"), "keep-alive") {
		t.Errorf("kept alive: status %d, %v", r.status, r.fields)
	}
	c.expectOpen()

	c, r = g.exchange(t, "GET /chunked HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
	if r.status != 200 || r.fields.has("Transfer-Encoding") || r.body != "hello" {
		t.Errorf("chunks for an HTTP/1.0 client: %v %q", r.fields, r.body)
	}
	c.expectClosed()
}

// Chunks go wrong in mid-body, when the upstream is already reading: it must never see the end of the
// request, the client is told, and nobody blames the upstream.
func TestMalformedChunks(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, public(up.url()))
	long := strings.Repeat("a", 2000)
	for _, c := range []struct{ intent, chunks string }{
		{"0x in front of the size", "0x5\r\nhello\r\n0\r\n\r\n"},
		{"space before the size", " 5\r\nhello\r\n0\r\n\r\n"},
		{"space behind the size", "5 \r\nhello\r\n0\r\n\r\n"},
		{"negative size", "-1\r\nhello\r\n0\r\n\r\n"},
		{"signed size", "+5\r\nhello\r\n0\r\n\r\n"},
		{"17 digits", "00000000000000005\r\nhello\r\n0\r\n\r\n"},
		{"size beyond 63 bits", "8000000000000000\r\nhello\r\n0\r\n\r\n"},
		{"no size", "\r\nhello\r\n0\r\n\r\n"},
		{"no size but an extension", ";a\r\nhello\r\n0\r\n\r\n"},
		{"not hexadecimal", "g\r\nhello\r\n0\r\n\r\n"},
		{"underscore in the size", "1_0\r\n0123456789abcdef\r\n0\r\n\r\n"},
		{"no CRLF behind the data", "5\r\nhello0\r\n\r\n"},
		{"data longer than its size", "5\r\nhello, world\r\n0\r\n\r\n"},
		{"LF behind the size", "5\nhello\r\n0\r\n\r\n"},
		{"LF behind the data", "5\r\nhello\n0\r\n\r\n"},
		{"CR behind the size", "5\rhello\r\n0\r\n\r\n"},
		{"LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"},
		{"CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"},
		{"NUL in an extension", "5;\x00\r\nhello\r\n0\r\n\r\n"},
		{"endless extension", "5;" + long + "\r\nhello\r\n0\r\n\r\n"},
		{"LF ends the last chunk", "5\r\nhello\r\n0\n\r\n"},
		{"LF ends the body", "5\r\nhello\r\n0\r\n\n"},
		{"bad trailer name", "5\r\nhello\r\n0\r\nX Y: z\r\n\r\n"},
		{"folded trailer", "5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n"},
		{"control in a trailer", "5\r\nhello\r\n0\r\nX: \x01\r\n\r\n"},
		{"LF in a trailer", "5\r\nhello\r\n0\r\nX: y\n\r\n"},
		{"framing in a trailer", "5\r\nhello\r\n0\r\nContent-Length: 7\r\n\r\n"},
		{"coding in a trailer", "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"Host in a trailer", "5\r\nhello\r\n0\r\nHost: i\r\n\r\n"},
		{"credentials in a trailer", "5\r\nhello\r\n0\r\nAuthorization: Bearer x\r\n\r\n"},
		{"endless trailers", "5\r\nhello\r\n0\r\n" + strings.Repeat("X: "+long+"\r\n", 10) + "\r\n"},
		{"one byte in each chunk, a kilobyte of extension", strings.Repeat("1;"+long[:1000]+"\r\na\r\n", 100) + "0\r\n\r\n"},
		{"good chunks first", "5\r\nhello\r\n5\r\nhello\r\nz\r\n\r\n"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			known := len(up.conns())
			client := g.dial(t)
			// A chunk of its own first, which the upstream has when the bad one comes.
			client.send("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
			eventually(t, "the upstream has the first chunk", func() bool {
				conns := up.conns()
				return len(conns) > known && strings.Contains(conns[known].received(), "first")
			})
			client.send(c.chunks + smuggled)
			r := client.receive("POST")
			r.expectProblem(t, 400, "bad_request")
			if !strings.EqualFold(r.fields.get("Connection"), "close") {
				t.Errorf("Connection: %q, want close", r.fields.get("Connection"))
			}
			client.expectClosed()
			eventually(t, "the upstream's connection is closed", up.conns()[known].isClosed)
			if got := up.take(); len(got) > 0 {
				t.Errorf("the upstream saw a whole request: %q", got[0].raw)
			}
			if got := up.conns()[known].received(); strings.Contains(got, "0\r\n\r\n") || strings.Contains(got, "smuggled") {
				t.Errorf("the upstream got %q", got)
			}
		})
	}
	if log := g.log.String(); strings.Contains(log, "forwarding failed") {
		t.Error("the upstream was blamed")
	}
}

// Bodies that are malformed and had arrived whole with the head are no different.
func TestMalformedChunksAtOnce(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, public(up.url()))
	for _, chunks := range []string{"x\r\n", "5\r\nhelloX\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\nBad Name: x\r\n\r\n", "0\r\n\n"} {
		c, r := g.exchange(t, "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"+chunks+smuggled)
		r.expectProblem(t, 400, "bad_request")
		c.expectClosed()
		if got := up.take(); len(got) > 0 {
			t.Errorf("the upstream saw a whole request: %q", got[0].raw)
		}
	}
}

// Requests that are pipelined are answered in their order, each from its own bytes.
func TestPipelinedRequests(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, func(r *request) string {
		text := r.path + " " + r.body
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	})
	g := startGateway(t, public(up.url()))
	c := g.dial(t)
	const n = 50
	var all strings.Builder
	for i := range n {
		switch i % 3 {
		case 0:
			fmt.Fprintf(&all, "GET /%d HTTP/1.1\r\nHost: h\r\n\r\n", i)
		case 1:
			fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: 34\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r", i)
		case 2:
			fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", i)
		}
	}
	c.send(all.String())
	for i := range n {
		want := []string{"", "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r", "abc"}[i%3]
		if r := c.receive("GET"); r.body != fmt.Sprintf("/%d %s", i, want) {
			t.Fatalf("answer %d: %q", i, r.body)
		}
	}
	if got := up.take(); len(got) != n {
		t.Errorf("the upstream got %d requests", len(got))
	}
}
