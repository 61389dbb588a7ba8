package engine

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/auth"
)

// inspectTables is a route with limits of every kind of key; each holds five requests, and gets back one in
// twelve minutes.
func inspectTables(target string) string {
	text := strings.Replace(publicRoute(target), "[[route]]", "[[route]]\nlimits = [\"per-ip\"]", 1)
	for name, key := range map[string]string{
		"per-client": `"client"`, "per-ip": `"ip"`, "per-route": `"route"`, "per-host": `"host"`, "per-method": `"method"`,
		"per-header": `"header:X-Key"`, "per-claim": `"claim:org"`, "all": ``, "both": `"client", "ip"`, "two": `"ip", "route"`,
		"twice": `"header:X-Key", "header:x-key"`,
	} {
		text += fmt.Sprintf("[[limit]]\nname = %q\nkey = [%s]\nrate = \"5/h\"\nburst = 5\n", name, key)
	}
	return text
}

// inspected is an exchange of the engine's with a request, as far as its limits see it.
func inspected(t testing.TB, e *Engine, client, head string) *exchange {
	t.Helper()
	x := e.acquireExchange(&conn{engine: e})
	x.snap = e.snapshot.Load()
	x.route = x.snap.routes[0]
	if err := x.readHead(bufio.NewReader(strings.NewReader(head)), 1<<14); err != nil {
		t.Fatal(err)
	}
	x.open(nil)
	if client != "" {
		x.client = netip.MustParseAddr(client)
	}
	return x
}

// An operator's key leads to the bucket of the requests that it tells of, and to no other's.
func TestLimitKeyIsThatOfRequests(t *testing.T) {
	g := startGateway(t, inspectTables(rawServer(t, smallAnswer)))
	const plain, four, six = "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "192.0.2.1", "2001:db8:1:2::9"
	head := func(lines string) string { return "GET / HTTP/1.1\r\nHost: h\r\n" + lines + "\r\n" }
	for _, c := range []struct {
		intent, limit string
		key           []string
		client, head  string
		same          bool
	}{
		{"one bucket for all", "all", nil, four, plain, true},
		{"an address", "per-ip", []string{"192.0.2.1"}, four, plain, true},
		{"another address", "per-ip", []string{"192.0.2.2"}, four, plain, false},
		{"an address of IPv4 in IPv6", "per-ip", []string{"::ffff:192.0.2.1"}, four, plain, true},
		{"another address of the client's network", "per-ip", []string{"2001:db8:1:2:3:4:5:6"}, six, plain, true},
		{"the same with a zone", "per-ip", []string{"2001:db8:1:2::%eth0"}, six, plain, true},
		{"another network", "per-ip", []string{"2001:db8:1:3::9"}, six, plain, false},
		{"a peer without address", "per-ip", []string{""}, "", plain, true},
		{"a client that is not authenticated", "per-client", []string{"192.0.2.1"}, four, plain, true},
		{"the same behind IPv6", "per-client", []string{"2001:db8:1:2::"}, six, plain, true},
		{"a client by name", "per-client", []string{"alice"}, four, plain, false},
		{"a client that is its ip", "both", []string{"192.0.2.1", "192.0.2.1"}, four, plain, true},
		{"a client by name, at an ip", "both", []string{"alice", "192.0.2.1"}, four, plain, false},
		{"a route", "per-route", []string{"all"}, four, plain, true},
		{"two parts", "two", []string{"192.0.2.1", "all"}, four, plain, true},
		{"a host, however it is written", "per-host", []string{"Api.Example.com.:80"}, four, "GET / HTTP/1.1\r\nHost: aPI.example.com:8080\r\n\r\n", true},
		{"another host", "per-host", []string{"api.example.org"}, four, "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n", false},
		{"no host", "per-host", []string{""}, four, "GET / HTTP/1.0\r\n\r\n", true},
		{"a method", "per-method", []string{"GET"}, four, plain, true},
		{"methods have a case", "per-method", []string{"get"}, four, plain, false},
		{"a header", "per-header", []string{"abc"}, four, head("x-KEY: abc\r\n"), true},
		{"another value", "per-header", []string{"abd"}, four, head("X-Key: abc\r\n"), false},
		{"space around it does not count", "per-header", []string{" abc\t"}, four, head("X-Key:  abc \r\n"), true},
		{"a header that is missing", "per-header", []string{""}, four, plain, true},
		{"one that is there", "per-header", []string{""}, four, head("X-Key: abc\r\n"), false},
		{"one that is there twice", "per-header", []string{"abc"}, four, head("X-Key: abc\r\nX-Key: abd\r\n"), false},
		{"a part that the key has twice", "twice", []string{"abc", "abc"}, four, head("X-Key: abc\r\n"), true},
		{"a claim that nobody has", "per-claim", []string{""}, four, plain, true},
		{"a claim", "per-claim", []string{"acme"}, four, plain, false},
	} {
		t.Run(c.intent, func(t *testing.T) {
			m, source, err := g.limitKey(c.limit, c.key)
			if err != nil {
				t.Fatal(err)
			}
			x := inspected(t, g.Engine, c.client, c.head)
			if got, want := m.bucket(g.limiter, &source), x.bucket(m); (got == want) != c.same {
				t.Errorf("the request's bucket is %x, the operator's %x", want, got)
			}
			if got, want := m.digest(&source), x.digest(m); (got == want) != c.same {
				t.Errorf("in Redis, the request's bucket is %x, the operator's %x", want, got)
			}
		})
	}
}

// Clients with a name and claims are found by them, not by where they are.
func TestLimitKeyOfTheAuthenticated(t *testing.T) {
	g := startGateway(t, inspectTables(rawServer(t, smallAnswer)))
	alice := inspected(t, g.Engine, "192.0.2.1", "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	alice.principal = &auth.Principal{Client: "alice", Claims: map[string]string{"org": "acme"}}
	for _, c := range []struct {
		limit string
		key   []string
		same  bool
	}{
		{"per-client", []string{"alice"}, true},
		{"per-client", []string{"bob"}, false},
		{"per-client", []string{"192.0.2.1"}, false},
		{"both", []string{"alice", "192.0.2.1"}, true},
		{"both", []string{"alice", "192.0.2.2"}, false},
		{"per-claim", []string{"acme"}, true},
		{"per-claim", []string{""}, false},
		{"per-claim", []string{"Acme"}, false},
	} {
		m, source, err := g.limitKey(c.limit, c.key)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := m.bucket(g.limiter, &source), alice.bucket(m); (got == want) != c.same {
			t.Errorf("%s of %q: the same bucket: %v", c.limit, c.key, got == want)
		}
		if got, want := m.digest(&source), alice.digest(m); (got == want) != c.same {
			t.Errorf("%s of %q: the same bucket in Redis: %v", c.limit, c.key, got == want)
		}
	}
	named := keySource{client: "192.0.2.1"}
	m, source, _ := g.limitKey("per-client", []string{"192.0.2.1"})
	if m.bucket(g.limiter, &source) == m.bucket(g.limiter, &named) || m.digest(&source) == m.digest(&named) {
		t.Error("a client that calls itself by an address is taken for who is there")
	}
}

func TestLimitKeyFaults(t *testing.T) {
	g := startGateway(t, inspectTables(rawServer(t, smallAnswer)))
	for _, c := range []struct {
		intent, limit string
		key           []string
		is            error
		want          string
	}{
		{"an unknown limit", "nothing", nil, ErrNoLimit, `no such limit: "nothing"`},
		{"no value", "per-ip", nil, ErrLimitKey, "not a key of this limit: want 1 value: ip"},
		{"too few values", "two", []string{"192.0.2.1"}, ErrLimitKey, "want 2 values: ip, route"},
		{"too many values", "per-header", []string{"a", "b"}, ErrLimitKey, "want 1 value: header:x-key"},
		{"a value where there is no part", "all", []string{""}, ErrLimitKey, "want no value: all requests share a bucket"},
		{"an ip that is none", "per-ip", []string{"192.0.2"}, ErrLimitKey, `ip is an address, which "192.0.2" is not`},
		{"a route that is none", "per-route", []string{"none"}, ErrLimitKey, `there is no route "none"`},
		{"a client elsewhere than its ip", "both", []string{"192.0.2.1", "192.0.2.2"}, ErrLimitKey, "the two differ"},
		{"two values of one part", "twice", []string{"a", "b"}, ErrLimitKey, "no request has two values of header:x-key"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			_, err := g.LimitStates(c.limit, c.key)
			if !errors.Is(err, c.is) || !strings.HasSuffix(err.Error(), c.want) {
				t.Errorf("LimitStates: want %q, have %v", c.want, err)
			}
			if _, err := g.ResetLimit(c.limit, c.key); !errors.Is(err, c.is) {
				t.Errorf("ResetLimit: have %v", err)
			}
		})
	}
}

func TestInspectAndReset(t *testing.T) {
	g := startGateway(t, inspectTables(rawServer(t, smallAnswer)))
	client := dial(t, g.address)
	take := func(n int) (statuses []string) {
		for range n {
			if _, err := client.Write([]byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			statuses = append(statuses, readStatus(t, client))
		}
		return statuses
	}
	states := func(address string) []LimitState {
		t.Helper()
		all, err := g.LimitStates("per-ip", []string{address})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if s := states("127.0.0.1"); s == nil || len(s) > 0 {
		t.Errorf("before the first request: %+v, want none that is no null of JSON", s)
	}
	take(3)
	s := states("127.0.0.1")
	if len(s) != 1 || s[0].Limit != 5 || s[0].Remaining != 2 || s[0].Rate != "5/h" || s[0].Tier != "" {
		t.Fatalf("after three requests: %+v", s)
	}
	if s[0].Reset <= 3*720-60 || s[0].Reset > 3*720 {
		t.Errorf("full again in %v s, want 36 minutes", s[0].Reset)
	}
	if s := states("127.0.0.2"); len(s) != 0 {
		t.Errorf("another address: %+v", s)
	}
	if got := take(3); got[1] != "200" || got[2] != "429" {
		t.Fatalf("the rest: %v", got)
	}
	if n, err := g.ResetLimit("per-ip", []string{"127.0.0.1"}); n != 1 || err != nil {
		t.Errorf("reset: %d, %v", n, err)
	}
	if n, err := g.ResetLimit("per-ip", []string{"127.0.0.1"}); n != 0 || err != nil {
		t.Errorf("reset once more: %d, %v", n, err)
	}
	if got := take(6); got[4] != "200" || got[5] != "429" {
		t.Errorf("after the reset: %v", got)
	}
}

// readStatus reads an answer whole and tells its status.
func readStatus(t testing.TB, c *rawClient) (status string) {
	t.Helper()
	length := 0
	for first := true; ; first = false {
		line, err := c.in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if first {
			status = strings.Fields(line)[1]
		}
		if line == "\r\n" {
			break
		}
		_, _ = fmt.Sscanf(strings.ToLower(line), "content-length: %d", &length)
	}
	if _, err := c.in.Discard(length); err != nil {
		t.Fatal(err)
	}
	return status
}

func TestLimitsTellWhatCameOfThem(t *testing.T) {
	tables := strings.Replace(publicRoute(rawServer(t, smallAnswer)), "[[route]]", "[[route]]\nlimits = [\"strict\", \"watched\"]", 1) + `
[[limit]]
name = "strict"
key = ["ip", "header:X-Key"]
rate = "3/h"
burst = 3
tiers = { gold = "7/min" }
[[limit]]
name = "watched"
key = []
algorithm = "sliding_window"
rate = "1/d"
mode = "shadow"
hidden = true
[[limit]]
name = "guard"
key = ["ip"]
rate = "10/s"
before_auth = true
`
	g := startGateway(t, tables)
	client := dial(t, g.address)
	for range 5 {
		if _, err := client.Write([]byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		readStatus(t, client)
	}
	want := []LimitSummary{
		{Name: "strict", Algorithm: "token_bucket", Key: []string{"ip", "header:X-Key"}, Rate: "3/h", Burst: 3,
			Tiers: map[string]string{"gold": "7/min"}, Mode: "enforce", Scope: "local", Refused: 2},
		{Name: "watched", Algorithm: "sliding_window", Key: []string{}, Rate: "1/d", Mode: "shadow", Scope: "local", Hidden: true, WouldRefuse: 2},
		{Name: "guard", Algorithm: "token_bucket", Key: []string{"ip"}, Rate: "10/s", Mode: "enforce", Scope: "local", BeforeAuth: true},
	}
	if got := g.Limits(); !reflect.DeepEqual(got, want) {
		t.Errorf("have %+v\nwant %+v", got, want)
	}
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	status := g.Status(g.started)
	if !reflect.DeepEqual(status.Limits, want) {
		t.Errorf("the status after a reload has %+v", status.Limits)
	}
	if text, err := json.Marshal(status.Limits[1]); err != nil || !strings.Contains(string(text), `"key":[]`) {
		t.Errorf("a key without parts is %s", text)
	}
	if table := g.LimitTable(); table.Live != 2 || table.Claims != 2 || table.Capacity < 1<<20 || table.Overflowed != 0 {
		t.Errorf("the table: %+v, want two live buckets", table)
	}
}
