package engine

import (
	"testing"

	"github.com/sluice-gateway/sluice/engine/wire"
)

func TestParseTarget(t *testing.T) {
	f := newFaults()
	for _, c := range []struct {
		intent, method, target, host string
		fault                        string
		wantHost, wantPath, query    string
	}{
		{"origin form", "GET", "/a?b=c", "h", "", "h", "/a", "?b=c"},
		{"the query is kept as it is", "GET", "/a?%2e%2E/../?x", "h", "", "h", "/a", "?%2e%2E/../?x"},
		{"absolute form: its authority replaces Host", "GET", "http://other:80/a?b", "h", "", "other:80", "/a", "?b"},
		{"absolute form without a path", "GET", "http://other", "h", "", "other", "/", ""},
		{"absolute form with a query only", "GET", "https://other?x=1", "h", "", "other", "/", "?x=1"},
		{"userinfo would become credentials", "GET", "http://u:p@other/", "h", f.badRequest.Reason, "", "", ""},
		{"userinfo in Host", "GET", "/", "u@h", f.badRequest.Reason, "", "", ""},
		{"another scheme", "GET", "ftp://other/", "h", f.badRequest.Reason, "", "", ""},
		{"an empty authority", "GET", "http:///x", "h", f.badRequest.Reason, "", "", ""},
		{"a fragment", "GET", "/a#b", "h", f.badRequest.Reason, "", "", ""},
		{"the server-wide asterisk", "OPTIONS", "*", "h", f.badRequest.Reason, "", "", ""},
		{"no tunnels", "CONNECT", "h:443", "h:443", f.method.Reason, "", "", ""},
		{"no echo of credentials", "TRACE", "/", "h", f.method.Reason, "", "", ""},
		{"an empty Host on HTTP/1.1", "GET", "/", "", f.badRequest.Reason, "", "", ""},
		{"IPv6", "GET", "/", "[2001:db8::1]:80", "", "[2001:db8::1]:80", "/", ""},
		{"an ambiguous path", "GET", "/a%2fb", "h", f.badPath.Reason, "", "", ""},
	} {
		t.Run(c.intent, func(t *testing.T) {
			x := loose("203.0.113.9", "")
			x.host = []byte(c.host)
			x.method = []byte(c.method)
			x.line = wire.RequestLine{Method: x.method, Target: []byte(c.target), Minor: 1}
			fault := x.parse()
			if fault != nil {
				if fault.Reason != c.fault {
					t.Errorf("refused as %s, want %q", fault.Reason, c.fault)
				}
				return
			}
			if c.fault != "" {
				t.Errorf("accepted, want %s", c.fault)
			}
			if string(x.host) != c.wantHost || string(x.path) != c.wantPath || string(x.query) != c.query {
				t.Errorf("got host %q path %q query %q", x.host, x.path, x.query)
			}
		})
	}
}

func TestAuthority(t *testing.T) {
	for authority, want := range map[string]bool{
		"example.com": true, "example.com:8080": true, "10.0.0.1:1": true, "a_b.internal": true, "xn--bcher-kva.example": true,
		"[::1]": true, "[::1]:80": true,
		"": false, ":80": false, "a:": false, "a:b": false, "a:99999": false, "a:000080": false, "a b": false, "a/b": false,
		"a@b": false, "[::1": false, "[]": false, "[::1]x": false, "[g::]": false, "a,b": false, "a\\b": false, "a%00": false,
		"a:1:2": false,
	} {
		if got := validAuthority([]byte(authority), false); got != want {
			t.Errorf("%q: valid is %v", authority, got)
		}
	}
}

func TestRequestID(t *testing.T) {
	next := uint64(0)
	for _, c := range []struct {
		intent, head string
		kept         bool
	}{
		{"the client's", "x-request-id: 01ARZ3NDEKTSV4RRFFQ69G5FAV\r\n", true},
		{"none", "", false},
		{"one that would break out of JSON", "X-Request-ID: \"}\r\n", false},
		{"one that is too long", "X-Request-ID: " + string(make65()) + "\r\n", false},
		{"an empty one", "X-Request-ID: \r\n", false},
	} {
		t.Run(c.intent, func(t *testing.T) {
			x := loose("203.0.113.9", c.head)
			x.conn.engine.random = func() uint64 { next++; return next }
			x.identify()
			if kept := len(x.fields) > 0 && string(x.requestID) == string(x.fields[0].Value); kept != c.kept {
				t.Errorf("id is %q", x.requestID)
			}
			if !validRequestID(x.requestID) {
				t.Errorf("%q is no id that we would accept ourselves", x.requestID)
			}
		})
	}
}

func make65() []byte {
	b := make([]byte, 65)
	for i := range b {
		b[i] = 'a'
	}
	return b
}
