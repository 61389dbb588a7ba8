package engine_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/telemetry"
)

// explainTables has one route for each thing that shapes what is sent upstream; %[1]s is a target.
const explainTables = `
[upstream.stable]
targets = ["http://%[1]s"]
[upstream.canary]
targets = ["http://%[1]s"]
host    = "canary.internal"
[upstream.old]
targets = ["http://%[1]s", { url = "http://127.0.0.1:9", weight = 3 }]

[split.drawn]
weights = { stable = 3, canary = 1 }
[split.sticky]
weights = { stable = 1, canary = 1 }
sticky  = "cookie:session"
[split.nested]
weights = { drawn = 1, stable = 1 }
[switch.version]
header = "X-API-Version"
cases  = { v1 = "old", v2 = "sticky" }

[defaults]
auth = ["none"]

[[route]]
name         = "strip"
path         = "/users/*"
strip_prefix = true
to           = "stable"
[[route]]
name    = "rewrite"
path    = "/orders/{id}/items/{item}"
rewrite = "/v2/{item}/of/{id}"
to      = "canary"
[[route]]
name    = "edits"
path    = "/edits"
methods = ["POST", "PUT"]
to      = "stable"
max_body_bytes  = "1KiB"
request_headers = { set = { X-Gateway = "sluice" }, remove = ["Cookie"] }
[[route]]
name    = "admin"
hosts   = ["admin.example.com"]
path    = "/*"
to      = "stable"
[[route]]
name = "versions"
path = "/versions"
to   = "version"
[[route]]
name = "canary"
path = "/canary"
to   = "nested"
`

func writeExplainConfig(t *testing.T, listen, target string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "gateway.toml")
	text := fmt.Sprintf("[server]\nlisten = [%q]\ntrusted_proxies = [\"10.0.0.0/8\"]\n[admin]\nlisten = \"\"\n", listen) +
		fmt.Sprintf(explainTables, target)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// headServer keeps the head of every request and answers with 204.
func headServer(t *testing.T) (address string, heads <-chan []string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	seen := make(chan []string, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var head []string
				in := bufio.NewScanner(c)
				for in.Scan() && in.Text() != "" {
					head = append(head, in.Text())
				}
				seen <- head
				io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
			}()
		}
	}()
	return l.Addr().String(), seen
}

// startEngine runs a gateway in which chance always says 0.
func startEngine(t *testing.T, path string) *engine.Engine {
	t.Helper()
	e, err := engine.New(engine.Options{
		Path: path, Version: "test", Random: func() uint64 { return 0 }, Log: telemetry.NewLog(io.Discard, "json", false),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		e.Drain(ctx)
	})
	return e
}

func TestExplainIsWhatTargetsGet(t *testing.T) {
	tests := []struct {
		intent  string
		method  string
		target  string
		headers []string
		body    int
	}{
		{"the prefix goes, and is told", "GET", "/users/42?a=%20b", nil, 0},
		{"nothing is left of the path", "DELETE", "/users", nil, 0},
		{"captures make the path", "GET", "/orders/7/items/x%2Dy", nil, 0},
		{"the upstream has a Host of its own", "HEAD", "/orders/7/items/1", nil, 0},
		{"the path is normalised", "GET", "/users/./a//b/../c", nil, 0},
		{"edits, and a body", "POST", "/edits", []string{"Cookie: a=b", "X-Gateway: spoofed", "Content-Type: text/plain"}, 5},
		{"a PUT without a body says so", "PUT", "/edits", nil, 0},
		{"what only the gateway may say", "GET", "/users/1", []string{"X-User-ID: root", "X-Forwarded-For: 1.2.3.4", "X_User_ID: root"}, 0},
		{"what concerns one hop", "GET", "/users/1", []string{"Connection: keep-alive, X-Hop", "X-Hop: 1", "TE: trailers"}, 0},
		{"an upgrade", "GET", "/users/ws", []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"}, 0},
		{"a sticky split", "GET", "/versions", []string{"X-API-Version: v2", "Cookie: session=a"}, 0},
		{"a sticky split without its cookie", "GET", "/versions", []string{"X-API-Version: v2"}, 0},
	}
	address, heads := headServer(t)
	listen := filepath.Join(t.TempDir(), "gateway.sock")
	path := writeExplainConfig(t, "unix:"+listen, address)
	startEngine(t, path)
	quiet := startEngine(t, writeExplainConfig(t, "unix:"+filepath.Join(t.TempDir(), "gateway.sock"), address))
	before := quiet.Status(time.Time{})
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			headers := append([]string{"X-Request-ID: fixed"}, test.headers...)
			request := engine.ExplainRequest{
				Method: test.method, URL: "http://api.example.com" + test.target, Header: headers, BodySize: int64(test.body),
			}
			explained, err := engine.Explain(path, request)
			if err != nil {
				t.Fatal(err)
			}
			if said, err := quiet.Explain(request); err != nil || !reflect.DeepEqual(said, explained) {
				t.Errorf("a live gateway says %+v (%v), and offline it is %+v", said, err, explained)
			}
			if test.body > 0 {
				headers = append(headers, fmt.Sprintf("Content-Length: %d", test.body))
			}
			c, err := net.Dial("unix", listen)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: api.example.com\r\n%s\r\n\r\n%s",
				test.method, test.target, strings.Join(headers, "\r\n"), strings.Repeat("x", test.body))
			select {
			case got := <-heads:
				if !slices.Equal(got, explained.Forwarded) {
					t.Errorf("the target got\n%s\nexplained was\n%s", strings.Join(got, "\n"), strings.Join(explained.Forwarded, "\n"))
				}
			case <-time.After(10 * time.Second):
				t.Fatal("no request came to the target")
			}
		})
	}
	if after := quiet.Status(time.Time{}); !reflect.DeepEqual(after, before) {
		t.Errorf("to explain changes the status from %+v to %+v", before, after)
	}
}

// requestTo is a request of a table, from a client that is no proxy.
func requestTo(method, url string, header ...string) engine.ExplainRequest {
	return engine.ExplainRequest{Method: method, URL: url, Header: header, Client: netip.MustParseAddr("198.51.100.7")}
}

func TestExplainRefusals(t *testing.T) {
	large := requestTo("POST", "/edits")
	large.BodySize = 1025
	tests := []struct {
		intent  string
		request engine.ExplainRequest
		status  int
		reason  string
		allow   string
	}{
		{"no such path", requestTo("GET", "http://api.example.com/nothing"), 404, "no_route", ""},
		{"the path of another host", requestTo("GET", "http://api.example.com/"), 404, "no_route", ""},
		{"a method the path does not have", requestTo("GET", "/edits"), 405, "method_not_allowed", "POST, PUT"},
		{"CONNECT is never served", requestTo("CONNECT", "api.example.com:443"), 405, "method_not_allowed", ""},
		{"a body above the route's limit", large, 413, "body_too_large", ""},
		{"a switch without that case", requestTo("GET", "/versions", "X-API-Version: v9"), 404, "no_variant", ""},
		{"an escape that is none", requestTo("GET", "/users/%zz"), 400, "bad_path", ""},
		{"an encoded slash", requestTo("GET", "/users/a%2Fb"), 400, "bad_path", ""},
		{"dots that leave the root", requestTo("GET", "/../users"), 400, "bad_path", ""},
		{"a space in the target", requestTo("GET", "/users/a b"), 400, "bad_request", ""},
		{"a host that is none", requestTo("GET", "http://a!b/users/1"), 400, "bad_request", ""},
		{"two hosts", requestTo("GET", "/users/1", "Host: a", "Host: b"), 400, "bad_request", ""},
		{"a body of two lengths", requestTo("POST", "/edits", "Content-Length: 1", "Transfer-Encoding: chunked"), 400, "bad_request", ""},
		{"a head that is too large", requestTo("GET", "/users/1", "X-Fill: "+strings.Repeat("x", 17<<10)), 431, "header_too_large", ""},
		{"a target that is too long", requestTo("GET", "/users/"+strings.Repeat("x", 17<<10)), 414, "uri_too_long", ""},
	}
	path := writeExplainConfig(t, ":8080", "127.0.0.1:1")
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			e, err := engine.Explain(path, test.request)
			if err != nil {
				t.Fatal(err)
			}
			r := e.Refusal
			if r == nil || r.Status != test.status || r.Reason != test.reason || r.Allow != test.allow {
				t.Errorf("refusal %+v, want %d %s, Allow %q", r, test.status, test.reason, test.allow)
			}
			if len(e.Forwarded) > 0 {
				t.Errorf("forwarded all the same: %q", e.Forwarded)
			}
		})
	}
}

func TestExplainErrors(t *testing.T) {
	tests := []struct {
		intent  string
		request engine.ExplainRequest
		want    string
	}{
		{"two words", requestTo("GET /x", "/"), "it is not a token"},
		{"no scheme that is served", requestTo("GET", "ftp://a/b"), "want http://HOST/PATH"},
		{"no scheme at all", requestTo("GET", "api.example.com/users"), "want http://HOST/PATH"},
		{"no host", requestTo("GET", "http:///users"), "names no host"},
		{"a password", requestTo("GET", "http://a:b@c/"), "Authorization"},
		{"a second line", requestTo("GET", "/a\r\nHost: b"), "line break"},
		{"a header without a colon", requestTo("GET", "/", "Accept"), `cannot send header "Accept"`},
		{"a space before the colon", requestTo("GET", "/", "Accept : x"), `cannot send header`},
		{"two headers in one", requestTo("GET", "/", "A: b\r\nC: d"), "cannot send header"},
		{"CONNECT to a URL", requestTo("CONNECT", "https://a/"), "HOST:PORT"},
	}
	path := writeExplainConfig(t, ":8080", "127.0.0.1:1")
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			_, err := engine.Explain(path, test.request)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
	var faults config.Faults
	if _, err := engine.Explain(filepath.Join(t.TempDir(), "none.toml"), requestTo("GET", "/")); !errors.As(err, &faults) {
		t.Errorf("a file that is not there: %v, want config.Faults", err)
	}
}

func TestExplainHost(t *testing.T) {
	tests := []struct {
		intent string
		url    string
		header []string
		host   string
		proto  string
	}{
		{"of the URL", "http://api.example.com:8080/users/1", nil, "api.example.com:8080", "http"},
		{"over TLS", "https://api.example.com/users/1", nil, "api.example.com", "https"},
		{"of a header, as with curl", "http://127.0.0.1/users/1", []string{"Host: api.example.com"}, "api.example.com", "http"},
		{"of nothing", "/users/1", nil, "localhost", "http"},
		{"a URL without a path", "http://admin.example.com?a=b#c", nil, "admin.example.com", "http"},
	}
	path := writeExplainConfig(t, ":8080", "127.0.0.1:1")
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			e, err := engine.Explain(path, requestTo("GET", test.url, test.header...))
			if err != nil {
				t.Fatal(err)
			}
			if e.Host != test.host || !slices.Contains(e.Forwarded, "X-Forwarded-Proto: "+test.proto) {
				t.Errorf("host %q, head %q", e.Host, e.Forwarded)
			}
		})
	}
}

func TestExplainChoices(t *testing.T) {
	tests := []struct {
		intent    string
		request   engine.ExplainRequest
		choices   []engine.Choice
		upstreams map[string]float64
		first     string
	}{
		{"one upstream", requestTo("GET", "/users/1"), nil, map[string]float64{"stable": 1}, "stable"},
		{"chance upon chance adds up", requestTo("GET", "/canary"),
			[]engine.Choice{{Name: "nested", By: "random", Share: 1}, {Name: "drawn", By: "random", Share: 0.5}},
			map[string]float64{"stable": 0.875, "canary": 0.125}, "stable"},
		{"a switch decides", requestTo("GET", "/versions", "X-API-Version: v1"),
			[]engine.Choice{{Name: "version", By: "header X-API-Version", Value: "v1", To: "old", Share: 1}},
			map[string]float64{"old": 1}, "old"},
		{"so does a cookie", requestTo("GET", "/versions", "X-API-Version: v2", "Cookie: session=a"),
			[]engine.Choice{
				{Name: "version", By: "header X-API-Version", Value: "v2", To: "sticky", Share: 1},
				{Name: "sticky", By: "cookie session", Value: "a", To: "canary", Share: 1},
			}, map[string]float64{"canary": 1}, "canary"},
		{"without it, the client's address", requestTo("GET", "/versions", "X-API-Version: v2"),
			[]engine.Choice{
				{Name: "version", By: "header X-API-Version", Value: "v2", To: "sticky", Share: 1},
				{Name: "sticky", By: "client", Value: "198.51.100.7", To: "stable", Share: 1},
			}, map[string]float64{"stable": 1}, "stable"},
	}
	path := writeExplainConfig(t, ":8080", "127.0.0.1:1")
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			e, err := engine.Explain(path, test.request)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(e.Choices, test.choices) {
				t.Errorf("choices %+v, want %+v", e.Choices, test.choices)
			}
			if len(e.Upstreams) != len(test.upstreams) || e.Upstreams[0].Name != test.first {
				t.Fatalf("upstreams %+v, want %v, %s first", e.Upstreams, test.upstreams, test.first)
			}
			for _, u := range e.Upstreams {
				if math.Abs(u.Share-test.upstreams[u.Name]) > 1e-9 {
					t.Errorf("%s gets %v, want %v", u.Name, u.Share, test.upstreams[u.Name])
				}
			}
		})
	}
}

func TestExplainNearMisses(t *testing.T) {
	path := writeExplainConfig(t, ":8080", "127.0.0.1:1")
	e, err := engine.Explain(path, requestTo("GET", "http://api.example.com/edits"))
	if err != nil {
		t.Fatal(err)
	}
	want := engine.NearMiss{Route: "edits", Pattern: "/edits", Reason: "method GET is not in POST, PUT"}
	if len(e.NearMisses) != 6 || e.NearMisses[0] != want {
		t.Errorf("near misses %+v, want all 6 routes and first %+v", e.NearMisses, want)
	}
}
