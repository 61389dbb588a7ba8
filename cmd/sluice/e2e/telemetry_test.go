package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// scrape asks for the metrics and reads them with Prometheus' own parser.
func (g *gateway) scrape(t testing.TB) map[string]*dto.MetricFamily {
	t.Helper()
	r, err := adminClient.Get("http://" + g.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// total adds up the series of a family that have these labels, "name=value".
func total(families map[string]*dto.MetricFamily, family string, labels ...string) (n float64) {
	for _, m := range families[family].GetMetric() {
		has := map[string]bool{}
		for _, l := range m.GetLabel() {
			has[l.GetName()+"="+l.GetValue()] = true
		}
		all := true
		for _, l := range labels {
			all = all && has[l]
		}
		if all {
			n += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return n
}

// startFickle starts a service that does what its path says.
func startFickle(t testing.TB) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/fickle/500":
			w.WriteHeader(500)
		case "/fickle/slow":
			select {
			case <-r.Context().Done():
			case <-time.After(patience):
			}
		case "/fickle/reset", "/fickle/cut":
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			if r.URL.Path == "/fickle/cut" {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
			}
			_ = c.Close()
		default:
			_, _ = io.WriteString(w, "ok")
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func fickleTables(url, timeout string) string {
	return fmt.Sprintf(`
[log]
access = "access.log"
[[limit]]
name  = "few"
key   = []
rate  = "5/h"
burst = 5
[upstream.fickle]
targets = ["%[1]s"]
[[route]]
name = "fickle"
path = "/fickle/*"
auth = ["none"]
to   = "fickle"
timeout = %[2]q
[[route]]
name = "limited"
path = "/limited"
auth = ["none"]
limits = ["few"]
to   = "fickle"
`, url, timeout)
}

// witness is what clients know of the requests that they made.
type witness struct {
	mu       sync.Mutex
	statuses map[string]int // by request id; 0: the client did not wait for one
}

func (l *witness) saw(id string, status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.statuses[id] = status
}

// worker makes requests of all kinds, one after the other.
func (l *witness) worker(t testing.TB, g *gateway, number, requests int) {
	random := rand.New(rand.NewPCG(uint64(number), 7))
	c := g.dial(t)
	head := func(line, id, more string) string {
		return line + " HTTP/1.1\r\nHost: h\r\nX-Request-ID: " + id + "\r\n" + more + "\r\n"
	}
	read := func(id string) {
		r, err := readResponse(c.in, "GET")
		if err != nil {
			t.Errorf("worker %d: no response: %v", number, err)
			c = g.dial(t)
			return
		}
		if got := r.fields.get("X-Request-ID"); id != "" && got != id {
			t.Errorf("asked as %s, answered as %s", id, got)
		}
		l.saw(r.fields.get("X-Request-ID"), r.status)
		if r.cut != nil || r.fields.get("Connection") == "close" {
			c.Close()
			c = g.dial(t)
		}
	}
	for i := 0; i < requests; i++ {
		id := fmt.Sprintf("w%d-%d", number, i)
		switch kind := random.IntN(20); kind {
		case 0:
			c.send("GET /fickle HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
			read("")
		case 1:
			c.send(head("GET /fickle/slow", id, ""))
			l.saw(id, 0)
			c.Close()
			c = g.dial(t)
		case 2: // no request at all
			c.send("GET /fickle HTTP/1.1\r\nHo")
			c.Close()
			c = g.dial(t)
		case 3, 4:
			var ids []string
			var all strings.Builder
			for j := range 5 {
				ids = append(ids, id+"-"+strconv.Itoa(j))
				all.WriteString(head("GET /fickle/ok", ids[j], ""))
			}
			c.send(all.String())
			for _, one := range ids {
				read(one)
			}
		case 5, 6:
			c.send(head("POST /fickle/ok", id, "Content-Length: 5\r\n") + "hello")
			read(id)
		case 7:
			c.send(head("POST /fickle/ok", id, "Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\n0\r\n\r\n")
			read(id)
		default:
			path := []string{"/fickle/500", "/fickle/reset", "/fickle/cut", "/nowhere", "/limited", "/fickle/%00"}[kind%6]
			if kind > 13 {
				path = "/fickle/ok"
			}
			c.send(head("GET "+path, id, ""))
			read(id)
		}
	}
	c.Close()
}

// Whatever happens to requests (faults, retries, open breakers, limits, malformed heads, pipelining, clients that leave,
// reloads meanwhile), each is counted once, and logged once, with the status that its client saw.
func TestEveryRequestIsCountedOnce(t *testing.T) {
	t.Parallel()
	fickle := startFickle(t)
	g := startGateway(t, fickleTables(fickle.URL, "30s"))
	l := &witness{statuses: map[string]int{}}
	var workers sync.WaitGroup
	for n := range 8 {
		workers.Go(func() { l.worker(t, g, n, 120) })
	}
	stop, reloads := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(reloads)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				g.configure(fickleTables(fickle.URL, strconv.Itoa(25+i%5)+"s"))
				g.signal(syscall.SIGHUP)
				g.scrape(t)
			}
		}
	}()
	workers.Wait()
	close(stop)
	<-reloads

	var families map[string]*dto.MetricFamily
	eventually(t, "all requests are counted", func() bool {
		families = g.scrape(t)
		return total(families, "sluice_requests_total") >= float64(len(l.statuses)) && total(families, "sluice_requests_in_flight") == 0
	})
	g.signal(syscall.SIGTERM)
	if code := g.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	lines := g.accessLines(t, "access.log")
	logged := map[string]int{}
	byStatus := map[int]int{}
	for _, line := range lines {
		if _, twice := logged[line.RequestID]; twice {
			t.Errorf("%s is logged twice", line.RequestID)
		}
		logged[line.RequestID] = line.Status
		byStatus[line.Status]++
		if saw, known := l.statuses[line.RequestID]; !known || saw != line.Status && saw != 0 {
			t.Errorf("%s: logged with %d, its client saw %d %v", line.RequestID, line.Status, saw, known)
		}
	}
	for id := range l.statuses {
		if logged[id] == 0 {
			t.Errorf("%s is not logged: its client saw %d", id, l.statuses[id])
		}
	}
	if n := total(families, "sluice_requests_total"); n != float64(len(l.statuses)) {
		t.Errorf("%v requests are counted, and there were %d", n, len(l.statuses))
	}
	for status, n := range byStatus {
		if got := total(families, "sluice_requests_total", "status="+strconv.Itoa(status)); got != float64(n) {
			t.Errorf("status %d is counted %v times, and logged %d times", status, got, n)
		}
	}
	if len(byStatus) < 6 {
		t.Errorf("too few kinds of answers: %v", byStatus)
	}
	if got := total(families, "sluice_rejections_total", "limit=few", "reason=rate_limited"); got != float64(byStatus[429]) {
		t.Errorf("%v rejections by the limit, and %d answers 429", got, byStatus[429])
	}
	t.Logf("%d requests: %v", len(lines), byStatus)
}

// Time that goes by because of the client, the target or a limit is not the gateway's.
func TestOverheadIsOurs(t *testing.T) {
	t.Parallel()
	const pause = 2 * time.Second // the machine may be slow, but not so slow
	up := startRecorder(t, func(c *recorderConn) {
		for r := c.next(); r != nil; r = c.next() {
			switch r.path {
			case "/slow-answer":
				time.Sleep(pause)
				c.write(answerOK)
			case "/slow-body":
				c.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
				time.Sleep(pause)
				c.write("cd")
			default:
				c.write(answerOK)
			}
		}
	})
	g := startGateway(t, "[log]\naccess = \"access.log\"\n"+toService(up.url(), "", `
[[limit]]
name = "paced"
key = []
algorithm = "leaky_bucket"
rate = "30/min"
max_wait = "5s"
[[route]]
name = "paced"
path = "/paced"
auth = ["none"]
limits = ["paced"]
to = "up"
`))
	ask := func(raw ...string) {
		t.Helper()
		c := g.dial(t)
		defer c.Close()
		for i, part := range raw {
			if i > 0 {
				time.Sleep(pause)
			}
			c.send(part)
		}
		if r := c.receive("GET"); r.status != 200 || r.cut != nil {
			t.Errorf("%q: %d %v", raw, r.status, r.cut)
		}
	}
	var all sync.WaitGroup
	all.Go(func() { ask("GET /slow-answer HTTP/1.1\r\nHost: h\r\n\r\n") })
	all.Go(func() { ask("GET /slow-body HTTP/1.1\r\nHost: h\r\n\r\n") })
	all.Go(func() { ask("POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello", "world") })
	all.Go(func() {
		ask("GET /paced HTTP/1.1\r\nHost: h\r\n\r\n") // is not kept waiting
		ask("GET /paced HTTP/1.1\r\nHost: h\r\n\r\n")
	})
	all.Wait()
	g.signal(syscall.SIGTERM)
	g.wait()
	lines := map[string]accessLine{}
	for _, line := range g.accessLines(t, "access.log") {
		lines[line.Path] = line // of two the last
	}
	half := float64(pause.Milliseconds()) / 2
	for _, want := range []struct {
		intent, path string
		upstream     bool // the pause is its
	}{
		{"a target that takes its time to answer", "/slow-answer", true},
		{"one that takes its time to complete its answer", "/slow-body", true},
		{"a client that takes its time to send", "/upload", false},
		{"a queue", "/paced", false},
	} {
		l := lines[want.path]
		if l.Duration < half || l.Upstream >= half != want.upstream {
			t.Errorf("%s: %v ms, of them %v upstream", want.intent, l.Duration, l.Upstream)
		}
		if float64(l.Overhead)/1e3 >= half {
			t.Errorf("%s: an overhead of %d us", want.intent, l.Overhead)
		}
	}
}

// What a tunnel carried is logged when it ends, and its time does not spoil the histograms.
func TestTunnelIsOneRequest(t *testing.T) {
	t.Parallel()
	up := startRecorder(t, func(c *recorderConn) {
		if c.head() == nil {
			return
		}
		c.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(c.Conn, c.in)
	})
	g := startGateway(t, "[log]\naccess = \"access.log\"\n"+toService(up.url(), "", ""))
	const head = "GET /t HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
	c, r := g.exchange(t, head)
	if r.status != 101 {
		t.Fatal(r.line)
	}
	c.send("hello")
	if _, err := io.ReadFull(c.in, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	families := g.scrape(t)
	if n := total(families, "sluice_requests_in_flight", "route=all"); n != 1 {
		t.Errorf("%v in flight", n)
	}
	c.Close()
	eventually(t, "the tunnel has ended", func() bool {
		families = g.scrape(t)
		return total(families, "sluice_requests_total", "status=101") == 1
	})
	if n := total(families, "sluice_request_duration_seconds"); n != 0 {
		t.Errorf("%v durations", n)
	}
	g.signal(syscall.SIGTERM)
	g.wait()
	lines := g.accessLines(t, filepath.Join("access.log"))
	if len(lines) != 1 || lines[0].Status != 101 || lines[0].BytesIn != uint64(len(head))+5 || lines[0].BytesOut < 5 || lines[0].Reason != "" {
		t.Errorf("logged %+v", lines)
	}
}
