package engine

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/upstream"
	"github.com/sluice-gateway/sluice/engine/wire"
)

func TestPasses(t *testing.T) {
	for _, c := range []struct {
		intent, name string
		stranger     bool // passes from anyone
		proxy        bool // passes from a trusted proxy
	}{
		{"an ordinary field", "Accept", true, true},
		{"credentials are the target's until the gateway checks them", "Authorization", true, true},
		{"hop-by-hop", "Keep-Alive", false, false},
		{"hop-by-hop, of another time", "Proxy-Connection", false, false},
		{"framing is ours", "Transfer-Encoding", false, false},
		{"framing is ours, any case", "cOnTeNt-LeNgTh", false, false},
		{"Host is written anew", "Host", false, false},
		{"the expectation is met here", "Expect", false, false},
		{"httpoxy", "Proxy", false, false},
		{"h2c smuggling", "HTTP2-Settings", false, false},
		{"identity is ours", "X-User-ID", false, false},
		{"identity by another case", "x-USER-scopes", false, false},
		{"identity by an underscore", "X_User_ID", false, false},
		{"identity by other signs", "X.User!ID", false, false},
		{"a sign in a name that nobody poses with", "X.Fine", true, true},
		{"any underscore", "a_b", false, false},
		{"an underscore in a name longer than any of ours", strings.Repeat("a", 200) + "_", false, false},
		{"a name longer than any of ours", strings.Repeat("a", 200), true, true},
		{"the request id is ours", "X-Request-Id", false, false},
		{"the trace is written anew", "Traceparent", false, false},
		{"so is B3", "X-B3-TraceId", false, false},
		{"a trace's state without a trace", "tracestate", false, false},
		{"baggage is between services", "baggage", true, true},
		{"the way a request came is written anew", "X-Forwarded-For", false, false},
		{"what proxies alone may say", "X-Real-IP", false, true},
		{"what Connection names", "X-Hop", false, false},
	} {
		t.Run(c.intent, func(t *testing.T) {
			x := loose("203.0.113.9", "Connection: close, X-Hop\r\n")
			if got := x.passes([]byte(c.name)); got != c.stranger {
				t.Errorf("from a stranger %q passes: %v", c.name, got)
			}
			x.trusted = true
			if got := x.passes([]byte(c.name)); got != c.proxy {
				t.Errorf("from a proxy %q passes: %v", c.name, got)
			}
		})
	}
}

func TestRouteEdits(t *testing.T) {
	set := map[string]string{"X-Set": "ours", "Accept": "text/plain"}
	x := loose("203.0.113.9", "")
	x.route.requestDrop = dropTable([]string{"X-Gone"}, set)
	x.route.requestSet = fieldLines(set)
	for name, want := range map[string]bool{"x-gone": false, "x-set": false, "ACCEPT": false, "X-Stays": true} {
		if x.passes([]byte(name)) != want {
			t.Errorf("%s passes: %v", name, !want)
		}
	}
	if got, want := string(x.route.requestSet), "Accept: text/plain\r\nX-Set: ours\r\n"; got != want {
		t.Errorf("set as %q, want %q", got, want)
	}
}

func TestResponseHead(t *testing.T) {
	fields, err := wire.ParseFields(nil, []byte(strings.ReplaceAll(`date: Mon, 02 Jan 2006 15:04:05 GMT
ETag: "x"
Connection: X-Hop
X-Hop: 1
Keep-Alive: timeout=5
Set-Cookie: a=1
set-cookie: a=2
X-Request-ID: theirs
X_Odd: kept
Content-Length: 7

`, "\n", "\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	x := loose("203.0.113.9", "")
	x.requestID = []byte("id")
	got := string(x.appendResponseHead(nil, &upstream.Response{
		Status: wire.StatusLine{Minor: 1, Code: 200, Reason: []byte("Fine")}, Fields: fields,
		Framing: wire.Framing{Kind: wire.Length, Length: 7},
	}))
	want := strings.ReplaceAll(`HTTP/1.1 200 Fine
date: Mon, 02 Jan 2006 15:04:05 GMT
ETag: "x"
Set-Cookie: a=1
set-cookie: a=2
X_Odd: kept
X-Request-ID: id
`, "\n", "\r\n")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestHopByHopIsLowerCase(t *testing.T) {
	for table, names := range map[string][]string{"hop by hop": hopByHop()} {
		if i := slices.IndexFunc(names, func(n string) bool { return n != strings.ToLower(n) }); i >= 0 {
			t.Errorf("%s: %q could never be found", table, names[i])
		}
	}
	for name := range requestHeaders("X-Request-ID", "X-User-ID").classes {
		if name != strings.ToLower(name) {
			t.Errorf("%q could never be found", name)
		}
	}
}

// TestHeaderClasses holds the table to what it says of names, however they are written and whatever they share with
// those that are in it.
func TestHeaderClasses(t *testing.T) {
	t.Parallel()
	table := requestHeaders("X-Request-ID", "X-User-ID")
	want := func(name string) headerClass {
		plain := strings.ToLower(name)
		class := table.classes[plain]
		posing := strings.Map(func(r rune) rune {
			if isAlphanumeric(byte(r)) {
				return r
			}
			return '-'
		}, plain)
		switch {
		case strings.Contains(name, "_"):
			return headerDropped
		case class == headerPlain && table.classes[posing] != headerPlain:
			return headerDropped
		}
		return class
	}
	names := []string{"", "x", strings.Repeat("x", longestHeader)}
	for known := range table.classes {
		names = append(names, known, known+"-", known[1:], "x"+known[1:], known[:len(known)-1]+"x")
	}
	for _, name := range names {
		for _, sign := range []string{"-", "_", ".", "~", "!"} {
			for _, edit := range []func(string) string{strings.ToUpper, strings.ToLower, http.CanonicalHeaderKey} {
				if spelt := edit(strings.ReplaceAll(name, "-", sign)); table.class([]byte(spelt)) != want(spelt) {
					t.Errorf("%q is of class %d, want %d", spelt, table.class([]byte(spelt)), want(spelt))
				}
			}
		}
	}
}

// BenchmarkPasses is what a usual request's fields cost to judge.
func BenchmarkPasses(b *testing.B) {
	x := loose("203.0.113.9", "Host: api.example.com\r\nUser-Agent: test/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip, br\r\n"+
		"Cookie: session=0123456789abcdef\r\nX-API-Version: v1\r\nContent-Type: text/plain\r\nConnection: keep-alive\r\n")
	b.ReportAllocs()
	passed := 0
	for b.Loop() {
		for _, f := range x.fields {
			if x.passes(f.Name) {
				passed++
			}
		}
	}
}

// TestRemovedFieldsDoNotTrail: what a route takes away, or says itself, does not follow the body instead.
func TestRemovedFieldsDoNotTrail(t *testing.T) {
	t.Parallel()
	target := rawServer(t, "HTTP/1.1 200 OK\r\nTrailer: X-Sum, X-Inner, X-Said\r\nTransfer-Encoding: chunked\r\n\r\n"+
		"5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Inner: 2\r\nX-Said: 3\r\n\r\n")
	g := startGateway(t, publicRoute(target)+"response_headers = { set = { X-Said = \"us\" }, remove = [\"X-Inner\"] }\n")
	response, err := http.Get("http://" + g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Fatal(err)
	}
	if got := response.Header.Get("X-Said"); got != "us" {
		t.Errorf("X-Said: %q", got)
	}
	if got := response.Trailer; len(got) != 1 || got.Get("X-Sum") != "1" {
		t.Errorf("trailers %v", got)
	}
}
