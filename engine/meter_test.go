package engine

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/sluice-gateway/sluice/engine/wire"
	"github.com/sluice-gateway/sluice/limiter"
)

// startLimited runs an engine with what [server] says beside its address, and the tables given.
func startLimited(t testing.TB, server, tables string) *gateway {
	t.Helper()
	return startLimitedWith(t, server, tables, rand.Uint64)
}

func startLimitedWith(t testing.TB, server, tables string, random func() uint64) *gateway {
	t.Helper()
	g := &gateway{path: filepath.Join(t.TempDir(), "gateway.toml"), address: freeAddress(t)}
	text := fmt.Sprintf("[server]\nlisten = [%q]\n%s\n[admin]\nlisten = \"\"\n%s", g.address, server, tables)
	if err := os.WriteFile(g.path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g.launch(t, random)
	return g
}

// pass lets time go by for the limits: their clock counts from the start, which is moved into the past.
// No request may be under way.
func (g *gateway) pass(d time.Duration) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	g.started = g.started.Add(-d)
}

// bucket is how a limit's bucket stands that all requests share.
func (g *gateway) bucket(t testing.TB, name string) limiter.State {
	t.Helper()
	rule := g.snapshot.Load().meters[name].rule
	states := g.limiter.Inspect(rule, rule.Key(), time.Since(g.started))
	if len(states) != 1 {
		t.Fatalf("limit %q has %d buckets", name, len(states))
	}
	return states[0]
}

// limitedRoutes is one upstream, limits, and two routes that have all of these: "all", and "users" below
// /users/.
func limitedRoutes(target, limits string, names ...string) string {
	list := fmt.Sprintf(`["%s"]`, strings.Join(names, `", "`))
	return fmt.Sprintf(`
[upstream.origin]
targets = ["http://%s"]
%s
[defaults]
auth = ["none"]
limits = %s
[[route]]
name = "all"
path = "/*"
to   = "origin"
timeout = "3h"
[[route]]
name = "users"
path = "/users/*"
to   = "origin"
timeout = "3h"
`, target, limits, list)
}

// limitTable is a [[limit]].
func limitTable(name, rest string) string {
	return fmt.Sprintf("[[limit]]\nname = %q\n%s\n", name, rest)
}

// answer is what a client got.
type answer struct {
	status int
	fields http.Header
	body   string
}

// try sends a request without a body, and reads the answer. It may be used on any goroutine.
func (c *rawClient) try(line string, fields ...string) (*answer, error) {
	var text strings.Builder
	text.WriteString(line + " HTTP/1.1\r\n")
	if !strings.Contains(strings.ToLower(strings.Join(fields, "\n")), "host:") {
		text.WriteString("Host: h\r\n")
	}
	for _, f := range fields {
		text.WriteString(f + "\r\n")
	}
	text.WriteString("\r\n")
	if _, err := io.WriteString(c, text.String()); err != nil {
		return nil, err
	}
	method, _, _ := strings.Cut(line, " ")
	return readAnswer(c.in, method)
}

func readAnswer(in *bufio.Reader, method string) (*answer, error) {
	r, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	return &answer{r.StatusCode, r.Header, string(body)}, nil
}

// ask is try for the test's own goroutine.
func (c *rawClient) ask(t testing.TB, line string, fields ...string) *answer {
	t.Helper()
	a, err := c.try(line, fields...)
	if err != nil {
		t.Fatalf("no answer to %s: %v", line, err)
	}
	return a
}

// expect checks a status.
func (a *answer) expect(t testing.TB, status int) *answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d; %v\n%s", a.status, status, a.fields, a.body)
	}
	return a
}

// crowd sends requests on connections of their own, all at once, and hands each answer to see, one at a
// time.
func (g *gateway) crowd(t testing.TB, clients, requests int, see func(client int, a *answer)) {
	t.Helper()
	var mu sync.Mutex
	var running sync.WaitGroup
	begin := make(chan struct{})
	for i := range clients {
		c := dial(t, g.address)
		running.Go(func() {
			<-begin
			for range requests {
				a, err := c.try("GET /")
				if err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				mu.Lock()
				see(i, a)
				mu.Unlock()
			}
		})
	}
	close(begin)
	running.Wait()
}

// A limit that is met once is met again by exactly those requests that agree in all parts of its key.
func TestBuckets(t *testing.T) {
	target := rawServer(t, smallAnswer)
	type request []string
	from := func(address string) string { return "X-Forwarded-For: " + address }
	for _, c := range []struct {
		intent, key   string
		first, second request
		shared        bool
	}{
		{"one bucket for all", ``, request{"GET /", from("192.0.2.1")}, request{"PUT /users/1", from("192.0.2.2"), "Host: i"}, true},
		{"the same address", `"ip"`, request{"GET /", from("192.0.2.1")}, request{"GET /users/1", from("192.0.2.1")}, true},
		{"another address", `"ip"`, request{"GET /", from("192.0.2.1")}, request{"GET /", from("192.0.2.2")}, false},
		{"IPv4 in IPv6 clothes", `"ip"`, request{"GET /", from("192.0.2.1")}, request{"GET /", from("::ffff:192.0.2.1")}, true},
		{"IPv6 of one network", `"ip"`, request{"GET /", from("2001:db8:1:2::1")}, request{"GET /", from("[2001:db8:1:2:3::4]:5")}, true},
		{"IPv6 of another network", `"ip"`, request{"GET /", from("2001:db8:1:2::1")}, request{"GET /", from("2001:db8:1:3::1")}, false},
		{"what lies beyond the first hop that is not trusted", `"ip"`, request{"GET /", from("192.0.2.9, 192.0.2.1")}, request{"GET /", from("192.0.2.1")}, true},
		{"an anonymous client is its address", `"client"`, request{"GET /", from("192.0.2.1")}, request{"GET /users/1", from("192.0.2.1")}, true},
		{"anonymous clients are told apart", `"client"`, request{"GET /", from("192.0.2.1")}, request{"GET /", from("192.0.2.2")}, false},
		{"one route, two paths", `"route"`, request{"GET /users/1"}, request{"PUT /users/2"}, true},
		{"two routes", `"route"`, request{"GET /users/1"}, request{"GET /1"}, false},
		{"address and route, both the same", `"ip", "route"`, request{"GET /users/1"}, request{"GET /users/2"}, true},
		{"address and route, another route", `"ip", "route"`, request{"GET /users/1"}, request{"GET /2"}, false},
		{"address and route, another address", `"ip", "route"`, request{"GET /users/1", from("192.0.2.1")}, request{"GET /users/1", from("192.0.2.2")}, false},
		{"host in capitals", `"host"`, request{"GET /", "Host: api.example.com"}, request{"GET /", "Host: API.Example.COM"}, true},
		{"host with a port", `"host"`, request{"GET /", "Host: api.example.com"}, request{"GET /", "Host: api.example.com:8080"}, true},
		{"host with a final dot", `"host"`, request{"GET /", "Host: api.example.com"}, request{"GET /", "Host: api.example.com."}, true},
		{"host with all of these", `"host"`, request{"GET /", "Host: api.example.com"}, request{"GET /", "Host: API.example.com.:80"}, true},
		{"host in the request's target", `"host"`, request{"GET /", "Host: api.example.com"}, request{"GET http://API.example.com/", "Host: api.example.com"}, true},
		{"another host", `"host"`, request{"GET /", "Host: api.example.com"}, request{"GET /", "Host: www.example.com"}, false},
		{"IPv6 hosts and ports", `"host"`, request{"GET /", "Host: [2001:db8::1]"}, request{"GET /", "Host: [2001:DB8::1]:80"}, true},
		{"IPv6 hosts that differ where a port would be", `"host"`, request{"GET /", "Host: [2001:db8::1]"}, request{"GET /", "Host: [2001:db8::2]"}, false},
		{"one method", `"method"`, request{"GET /"}, request{"GET /users/1"}, true},
		{"two methods", `"method"`, request{"GET /"}, request{"DELETE /"}, false},
		{"a header's name in capitals", `"header:X-Tenant"`, request{"GET /", "X-Tenant: a"}, request{"GET /", "x-TENANT: a"}, true},
		{"a header's value in capitals", `"header:X-Tenant"`, request{"GET /", "X-Tenant: a"}, request{"GET /", "X-Tenant: A"}, false},
		{"another value", `"header:X-Tenant"`, request{"GET /", "X-Tenant: a"}, request{"GET /", "X-Tenant: b"}, false},
		{"white space around a value", `"header:X-Tenant"`, request{"GET /", "X-Tenant: a"}, request{"GET /", "X-Tenant: \t a  "}, true},
		{"no such header, twice", `"header:X-Tenant"`, request{"GET /"}, request{"GET /users/1"}, true},
		{"no such header and an empty one", `"header:X-Tenant"`, request{"GET /"}, request{"GET /", "X-Tenant:"}, false},
		{"the same two fields", `"header:X-Tenant"`, request{"GET /", "X-Tenant: a", "X-Tenant: b"}, request{"GET /", "X-Tenant: a", "X-Tenant: b"}, true},
		{"two fields are not their sum", `"header:X-Tenant"`, request{"GET /", "X-Tenant: a", "X-Tenant: b"}, request{"GET /", "X-Tenant: ab"}, false},
		{"a field in front does not take the bucket of its own", `"header:X-Tenant"`, request{"GET /", "X-Tenant: a"}, request{"GET /", "X-Tenant: b", "X-Tenant: a"}, false},
		{"a field behind does not hide", `"header:X-Tenant"`, request{"GET /", "X-Tenant: b"}, request{"GET /", "X-Tenant: b", "X-Tenant: a"}, false},
		{"values do not move between headers", `"header:A", "header:B"`, request{"GET /", "A: x"}, request{"GET /", "B: x"}, false},
		{"a header that names an address is not the client there", `"ip"`, request{"GET /", from("192.0.2.1")}, request{"GET /", from("192.0.2.2"), "X-Real-IP: 192.0.2.1"}, false},
	} {
		for _, guard := range []string{"false", "true"} {
			if guard == "true" && c.key == `"client"` {
				continue
			}
			t.Run(c.intent+", before_auth "+guard, func(t *testing.T) {
				expectBuckets(t, target, "key = ["+c.key+"]\nbefore_auth = "+guard, c.first, c.second, c.shared)
			})
		}
	}
}

// expectBuckets empties the bucket of the first request and tells whether the second one meets it.
func expectBuckets(t *testing.T, target, rule string, first, second []string, shared bool) {
	t.Helper()
	tables := limitedRoutes(target, limitTable("one", "rate = \"1/d\"\nburst = 1\n"+rule), "one") + "[limits]\ncapacity = 1024\n"
	g := startLimited(t, `trusted_proxies = ["127.0.0.1/32"]`, tables)
	client := dial(t, g.address)
	client.ask(t, first[0], first[1:]...).expect(t, 200)
	client.ask(t, first[0], first[1:]...).expect(t, 429)
	want := 200
	if shared {
		want = 429
	}
	client.ask(t, second[0], second[1:]...).expect(t, want)
}

// Values that anybody can make to collide under XXH64, whatever its seed, do not share a bucket, wherever
// they come from.
func TestBucketsOfCollidingValues(t *testing.T) {
	const victim, partner = "wqs8g57k-0sw12ro", "\x97dr\xa0i\x80\xbf\x8b-0sw\xe0}\xff\x85" // hosts have no capitals
	if xxhash.Sum64String(victim) != xxhash.Sum64String(partner) {
		t.Fatal("the test proves nothing: the two do not collide")
	}
	target := rawServer(t, smallAnswer)
	expectBuckets(t, target, `key = ["header:X-Tenant"]`, []string{"GET /", "X-Tenant: " + victim}, []string{"GET /", "X-Tenant: " + partner}, false)
	g := startLimited(t, "", limitedRoutes(target, limitTable("one", `rate = "1/d"`), "one"))
	source := func(kind keyKind, value string) keySource {
		switch kind {
		case keyClient:
			return keySource{client: value}
		case keyHost:
			return keySource{host: []byte(value)}
		case keyMethod:
			return keySource{method: []byte(value)}
		case keyHeader:
			return keySource{fields: []wire.Field{{Name: []byte("n"), Value: []byte(value)}}}
		}
		return keySource{claims: map[string]string{"n": value}}
	}
	for _, part := range []keyPart{{kind: keyClient}, {kind: keyHost}, {kind: keyMethod}, {keyHeader, "n"}, {keyClaim, "n"}} {
		m := &meter{rule: g.snapshot.Load().meters["one"].rule, parts: []keyPart{part}}
		one, two := source(part.kind, victim), source(part.kind, partner)
		if m.bucket(g.limiter, &one) == m.bucket(g.limiter, &two) {
			t.Errorf("%s: the two share a bucket", part)
		}
	}
}

// Who is not trusted cannot choose his bucket, nor empty that of another.
func TestBucketsOfUntrustedPeers(t *testing.T) {
	rule := limitTable("one", "rate = \"1/d\"\nburst = 1\nkey = [\"ip\"]")
	g := startLimited(t, "", limitedRoutes(rawServer(t, smallAnswer), rule, "one"))
	client := dial(t, g.address)
	client.ask(t, "GET /", "X-Forwarded-For: 192.0.2.1").expect(t, 200)
	for _, field := range []string{
		"X-Forwarded-For: 192.0.2.2", "X-Forwarded-For: 127.0.0.2", "Forwarded: for=192.0.2.3", "X-Real-IP: 192.0.2.4", "X-Other: 1",
	} {
		client.ask(t, "GET /", field).expect(t, 429)
	}
}

// The width of IPv6 networks is the configuration's.
func TestBucketsByPrefix(t *testing.T) {
	rule := limitTable("one", "rate = \"1/d\"\nburst = 1\nkey = [\"ip\"]\nbefore_auth = true")
	g := startLimited(t, "trusted_proxies = [\"127.0.0.1/32\"]\nipv6_prefix = 48", limitedRoutes(rawServer(t, smallAnswer), rule, "one"))
	client := dial(t, g.address)
	client.ask(t, "GET /", "X-Forwarded-For: 2001:db8:1:2::3").expect(t, 200)
	client.ask(t, "GET /", "X-Forwarded-For: 2001:db8:1:ffff::").expect(t, 429)
	client.ask(t, "GET /", "X-Forwarded-For: 2001:db8:2:2::3").expect(t, 200)
}

// A bucket belongs to its limit: two limits with the same key do not share one.
func TestBucketsByLimit(t *testing.T) {
	rules := limitTable("few", "rate = \"1/d\"\nburst = 2\nkey = []") + limitTable("many", "rate = \"1/d\"\nburst = 5\nkey = []")
	g := startLimited(t, "", limitedRoutes(rawServer(t, smallAnswer), rules, "few", "many"))
	client := dial(t, g.address)
	client.ask(t, "GET /").expect(t, 200)
	if few, many := g.bucket(t, "few").Remaining, g.bucket(t, "many").Remaining; few != 1 || many != 4 {
		t.Errorf("%d and %d are left, want 1 and 4", few, many)
	}
}
