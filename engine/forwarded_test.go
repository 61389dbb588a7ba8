package engine

import (
	"net/netip"
	"testing"

	"github.com/sluice-gateway/sluice/engine/wire"
	"github.com/sluice-gateway/sluice/router"
)

// loose is an exchange without a connection behind it, for what needs only its head.
func loose(peer string, head string) *exchange {
	fields, err := wire.ParseFields(nil, []byte(head+"\r\n"))
	if err != nil {
		panic(err)
	}
	return &exchange{
		conn: &conn{engine: &Engine{faults: newFaults()}, peer: netip.MustParseAddr(peer)},
		snap: &snapshot{
			server: serverSettings{
				trustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
				ipv6Prefix:     64, slashes: router.RejectEncodedSlash,
				requestIDHeader: "X-Request-ID", requestIDLower: "x-request-id",
			},
			headers:   requestHeaders("X-Request-ID", "X-User-ID", "X-User-Scopes", "X-Client-Tier"),
			responses: responseHeaders("X-Request-ID"),
		},
		route:  &route{},
		fields: fields,
		line:   wire.RequestLine{Minor: 1},
	}
}

func TestLocate(t *testing.T) {
	for _, c := range []struct{ intent, peer, head, want string }{
		{"a stranger is who the socket says", "203.0.113.9", "X-Forwarded-For: 1.2.3.4\r\n", "203.0.113.9"},
		{"a proxy is believed", "10.0.0.1", "X-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4"},
		{"what the client made up stands left of what proxies saw", "10.0.0.1", "X-Forwarded-For: 6.6.6.6, 1.2.3.4\r\n", "1.2.3.4"},
		{"proxies in the list are walked over", "10.0.0.1", "X-Forwarded-For: 1.2.3.4, 10.0.0.2,10.0.0.3\r\n", "1.2.3.4"},
		{"lines are one list", "10.0.0.1", "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 10.0.0.2\r\n", "1.2.3.4"},
		{"a list of proxies alone ends at the first", "10.0.0.1", "X-Forwarded-For: 10.0.0.9\r\n", "10.0.0.9"},
		{"a hop that is no address ends the walk", "10.0.0.1", "X-Forwarded-For: 1.2.3.4, unknown, 10.0.0.2\r\n", "10.0.0.2"},
		{"ports and brackets are read", "10.0.0.1", "X-Forwarded-For: [2001:db8::1]:443\r\n", "2001:db8::1"},
		{"a port behind an IPv4 address", "10.0.0.1", "X-Forwarded-For: 1.2.3.4:5678\r\n", "1.2.3.4"},
		{"an IPv4 address in IPv6 clothes is IPv4", "10.0.0.1", "X-Forwarded-For: ::ffff:1.2.3.4\r\n", "1.2.3.4"},
		{"a zone is no part of an identity", "10.0.0.1", "X-Forwarded-For: fe80::1%eth0\r\n", "fe80::1"},
		{"Forwarded is read the same way", "10.0.0.1", "Forwarded: for=6.6.6.6, for=1.2.3.4;proto=https\r\n", "1.2.3.4"},
		{"Forwarded quotes IPv6", "10.0.0.1", "Forwarded: for=\"[2001:db8::1]:47\"\r\n", "2001:db8::1"},
		{"X-Forwarded-For goes first", "10.0.0.1", "Forwarded: for=6.6.6.6\r\nX-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4"},
		{"no list: the proxy itself", "10.0.0.1", "", "10.0.0.1"},
		{"an empty list: the proxy itself", "10.0.0.1", "X-Forwarded-For: \r\n", "10.0.0.1"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			x := loose(c.peer, c.head)
			x.locate()
			if got := x.client.String(); got != c.want {
				t.Errorf("client is %s, want %s", got, c.want)
			}
		})
	}
}

func TestForwardedFields(t *testing.T) {
	for _, c := range []struct{ intent, peer, head, path, pattern, want string }{
		{
			"a stranger's words are replaced", "203.0.113.9",
			"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Prefix: /x\r\nForwarded: for=1.2.3.4\r\n",
			"/users/42", "",
			"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n",
		},
		{
			"a proxy's words are continued", "10.0.0.1",
			"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: public\r\nX-Forwarded-Prefix: /api/\r\nForwarded: for=1.2.3.4\r\n",
			"/users/42", "/users/*",
			"X-Forwarded-For: 1.2.3.4, 10.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: public\r\nX-Forwarded-Prefix: /api/users\r\n" +
				"Forwarded: for=1.2.3.4, for=10.0.0.1;host=\"h\";proto=http\r\n",
		},
		{
			"a scheme that is none is not repeated", "10.0.0.1", "X-Forwarded-Proto: gopher\r\n", "/", "",
			"X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n",
		},
		{
			"the prefix of a path that is nothing else", "203.0.113.9", "", "/users", "/users/*",
			"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\nX-Forwarded-Prefix: /users\r\n",
		},
		{
			"stripping nothing adds no prefix", "203.0.113.9", "", "/users", "/*",
			"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n",
		},
	} {
		t.Run(c.intent, func(t *testing.T) {
			x := loose(c.peer, c.head)
			x.host, x.path = []byte("h"), []byte(c.path)
			if c.pattern != "" {
				x.route.strip = true
				table, err := router.Compile([]router.Route{{Name: "r", Path: c.pattern}})
				if err != nil {
					t.Fatal(err)
				}
				if _, outcome := table.Match([]byte("GET"), x.host, x.path, &x.captures); outcome != router.Found {
					t.Fatal("the test's path does not match its pattern")
				}
			}
			x.locate()
			if got := string(x.appendForwarded(nil)); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func FuzzParseHop(f *testing.F) {
	for _, s := range []string{"1.2.3.4", "[::1]:80", "::1", "1.2.3.4:80", "unknown", "", "[", "[]", "_hidden", "fe80::1%eth0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if a, ok := parseHop([]byte(s)); ok && (!a.IsValid() || a.Is4In6() || a.Zone() != "") {
			t.Errorf("%q gives %v", s, a)
		}
		parseForwardedElement([]byte(s))
	})
}
