package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// accessLog is the access log of a gateway in the test's process.
type accessLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *accessLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

type loggedExchange struct {
	Path, Host, Reason, Route, Protocol string
	Status, Attempts                    int
	BytesIn                             uint64 `json:"bytes_in"`
	BytesOut                            uint64 `json:"bytes_out"`
}

func (l *accessLog) lines(t testing.TB) (lines []loggedExchange) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for text := range strings.Lines(l.text.String()) {
		var line loggedExchange
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		lines = append(lines, line)
	}
	return lines
}

// startLogged runs an engine whose access log the test reads.
func startLogged(t testing.TB, tables string, random func() uint64) (*gateway, *accessLog) {
	t.Helper()
	log := &accessLog{}
	g := &gateway{path: filepath.Join(t.TempDir(), "gateway.toml"), address: freeAddress(t), stdout: log}
	g.write(t, tables)
	g.launch(t, random)
	return g, log
}

// What is refused before it was understood is counted and logged like everything else, with its bytes, and without what
// nobody should read.
func TestRefusedHeadsAreObserved(t *testing.T) {
	for _, c := range []struct {
		intent, raw string
		want        loggedExchange
	}{
		{"no request line", "nonsense\r\n\r\n", loggedExchange{Status: 400, Reason: "bad_request"}},
		{"two hosts", "GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", loggedExchange{Status: 400, Reason: "bad_request"}},
		{"another version", "GET /a HTTP/2.5\r\nHost: a\r\n\r\n", loggedExchange{Status: 505, Reason: "http_version"}},
		{"too large", "GET /a HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 20<<10) + "\r\n\r\n", loggedExchange{Status: 431, Reason: "header_too_large"}},
		{"userinfo", "GET http://u:secret@h/a HTTP/1.1\r\nHost: h\r\n\r\n", loggedExchange{Status: 400, Reason: "bad_request", Protocol: "HTTP/1.1"}},
		{"userinfo in Host", "GET /a?secret HTTP/1.1\r\nHost: u:secret@h\r\n\r\n", loggedExchange{Status: 400, Reason: "bad_request", Protocol: "HTTP/1.1", Path: "/a"}},
		{"a bad path", "GET /%zz?secret HTTP/1.1\r\nHost: h\r\n\r\n", loggedExchange{Status: 400, Reason: "bad_path", Protocol: "HTTP/1.1", Path: "/%zz"}},
		{"a fragment", "GET /a#secret HTTP/1.1\r\nHost: h\r\n\r\n", loggedExchange{Status: 400, Reason: "bad_request", Protocol: "HTTP/1.1", Path: "/a"}},
		{"a head that does not end in time", "GET /a HTTP/1.1\r\nHost: h\r\n", loggedExchange{Status: 408, Reason: "request_timeout"}},
		{"nothing in time", "", loggedExchange{Status: 408, Reason: "request_timeout"}},
		{"no route", "GET /a HTTP/1.0\r\nHost: h:80\r\n\r\n", loggedExchange{Status: 404, Reason: "no_route", Protocol: "HTTP/1.0", Path: "/a", Host: "h:80"}},
	} {
		t.Run(c.intent, func(t *testing.T) {
			tables := strings.Replace(publicRoute(rawServer(t, smallAnswer)), `"/*"`, `"/only"`, 1)
			g, log := startLogged(t, tables, rand.Uint64)
			if strings.Contains(c.intent, "in time") {
				g.writeServer(t, "header_timeout = \"50ms\"\n", tables)
				if err := g.Reload(); err != nil {
					t.Fatal(err)
				}
			}
			client := dial(t, g.address)
			if _, err := io.WriteString(client, c.raw); err != nil {
				t.Fatal(err)
			}
			answer, err := http.ReadResponse(client.in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, answer.Body); err != nil {
				t.Fatal(err)
			}
			client.Close()
			eventually(t, func() bool { return len(log.lines(t)) == 1 })
			got := log.lines(t)[0]
			if got.BytesIn > uint64(len(c.raw)) || c.want.Protocol != "" && got.BytesIn != uint64(len(c.raw)) || got.BytesOut == 0 {
				t.Errorf("%d bytes in, %d out", got.BytesIn, got.BytesOut)
			}
			got.BytesIn, got.BytesOut = 0, 0
			if got != c.want {
				t.Errorf("logged %+v, want %+v", got, c.want)
			}
			families := scraped(t, g.Metrics())
			if n := sum(families, "sluice_requests_total", "route=", fmt.Sprint("status=", c.want.Status)); n != 1 || sum(families, "sluice_requests_total") != 1 {
				t.Errorf("counted %v times", n)
			}
			if n := sum(families, "sluice_rejections_total", "reason="+c.want.Reason); n != 1 {
				t.Errorf("%v rejections", n)
			}
		})
	}
}

// exhaust sends a request whose connection is closed after it, and waits until that has been logged.
func (g *gateway) exhaust(t testing.TB, log *accessLog) {
	t.Helper()
	client := dial(t, g.address)
	if _, err := io.WriteString(client, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, client.in); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return len(log.lines(t)) == 1 })
}

// A request that met a bug of ours is one request, and its answer is counted.
func TestPanicIsObserved(t *testing.T) {
	var asked atomic.Bool
	g, log := startLogged(t, publicRoute(rawServer(t, smallAnswer)), func() uint64 {
		if !asked.Swap(true) {
			panic("a bug")
		}
		return 0
	})
	g.exhaust(t, log)
	families := scraped(t, g.Metrics())
	if n := sum(families, "sluice_requests_total", "status=500"); n != 1 || log.lines(t)[0].Reason != "internal" || sum(families, "sluice_requests_in_flight") != 0 {
		t.Errorf("counted %v times, logged as %+v", n, log.lines(t)[0])
	}
}

// A connection beyond the limit is counted as such, and is no request.
func TestRefusedConnectionIsNoRequest(t *testing.T) {
	g, log := startLogged(t, publicRoute(rawServer(t, smallAnswer)), rand.Uint64)
	g.writeServer(t, "max_connections = 1\n", publicRoute(rawServer(t, smallAnswer)))
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	first := dial(t, g.address)
	eventually(t, func() bool { return g.Status(time.Now()).Connections == 1 })
	second := dial(t, g.address)
	answer, err := http.ReadResponse(second.in, nil)
	if err != nil || answer.StatusCode != 503 {
		t.Fatalf("%v %v", answer, err)
	}
	first.Close()
	families := scraped(t, g.Metrics())
	if n := sum(families, "sluice_connections_refused_total"); n != 1 || sum(families, "sluice_requests_total") != 0 || len(log.lines(t)) != 0 {
		t.Errorf("%v refused; %v requests", n, sum(families, "sluice_requests_total"))
	}
}

// An exchange lasts until it is over: the wait for the rest of an answer, which never came, is a part of it.
func TestWaitForTheRestIsObserved(t *testing.T) {
	target := startActor(t, func(c net.Conn, _ *http.Request) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
	})
	g, log := startLogged(t, publicRoute(target.address)+"[upstream.origin.timeouts]\nidle = \"100ms\"\n", rand.Uint64)
	g.exhaust(t, log)
	var took struct {
		All      float64 `json:"duration_ms"`
		Upstream float64 `json:"upstream_ms"`
	}
	if err := json.Unmarshal(log.text.Bytes(), &took); err != nil || took.All < took.Upstream || took.Upstream < 100 {
		t.Errorf("logged %+v, %v", took, err)
	}
}
