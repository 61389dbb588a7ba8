package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// accessLine is a line of the access log.
type accessLine struct {
	Time      time.Time `json:"time"`
	RequestID string    `json:"request_id"`
	TraceID   string    `json:"trace_id"`
	Client    string    `json:"client_id"`
	Tier      string    `json:"tier"`
	IP        string    `json:"ip"`
	Method    string    `json:"method"`
	Host      string    `json:"host"`
	Path      string    `json:"path"`
	Route     string    `json:"route"`
	Variant   string    `json:"variant"`
	Pool      string    `json:"upstream"`
	Target    string    `json:"target"`
	Status    int       `json:"status"`
	Reason    string    `json:"reason"`
	Limit     string    `json:"limit"`
	Remaining int64     `json:"remaining"`
	BytesIn   uint64    `json:"bytes_in"`
	BytesOut  uint64    `json:"bytes_out"`
	Duration  float64   `json:"duration_ms"`
	Upstream  float64   `json:"upstream_ms"`
	Overhead  int64     `json:"overhead_us"`
	Attempts  int       `json:"attempts"`
	Protocol  string    `json:"protocol"`
	TLS       string    `json:"tls"`
}

func parseAccessLine(t testing.TB, text string) (line accessLine) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&line); err != nil || line.RequestID == "" || line.Status == 0 || line.Time.IsZero() || !strings.HasSuffix(text, "}\n") {
		t.Errorf("not a whole line: %q: %v", text, err)
	}
	return line
}

// accessLines reads a log in the gateway's folder, each line of which must be whole. They come in the order of their
// requests.
func (g *gateway) accessLines(t testing.TB, name string) (lines []accessLine) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		lines = append(lines, parseAccessLine(t, line))
	}
	slices.SortStableFunc(lines, func(a, b accessLine) int { return a.Time.Compare(b.Time) })
	return lines
}

// logTo is a configuration with this access log.
func logTo(access, url string) string {
	return fmt.Sprintf("[log]\naccess = %q\n", access) + toService(url, "", "")
}

// Credentials are never logged, wherever a client puts them.
func TestAccessLogKeepsSecrets(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, "[log]\naccess = \"access.log\"\n[auth.keys]\n"+toService(up.url(), "", `
[[route]]
name = "closed"
path = "/closed"
auth = ["keys"]
to   = "up"
`))
	const secret = "s3cr3t"
	credential := "slk_" + secret + strings.Repeat("0", 43)
	requests := []string{
		"GET /a?token=" + secret + " HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + secret + "\r\nX-API-Key: " + credential + "\r\nCookie: id=" + secret + "\r\n\r\n",
		"GET /closed?key=" + secret + " HTTP/1.1\r\nHost: h\r\nX-API-Key: " + credential + "\r\n\r\n",
		"GET http://user:" + secret + "@h/a HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: user:" + secret + "@h\r\n\r\n",
		"GET /a#token=" + secret + " HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /a/%zz?" + secret + " HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /nowhere?" + secret + " HTTP/1.1\r\nHost: h\r\nReferer: http://h/?" + secret + "\r\nX-Request-ID: bad " + secret + "\r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: h\r\nBad Header: " + secret + "\r\n\r\n",
		"CONNECT user:" + secret + "@h:443 HTTP/1.1\r\nHost: h\r\n\r\n",
		secret + " " + secret + "\r\n\r\n",
		"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\n" + secret,
	}
	for _, raw := range requests {
		c, _ := g.exchange(t, raw)
		c.Close()
	}
	g.signal(syscall.SIGTERM)
	g.wait()
	if n := len(g.accessLines(t, "access.log")); n != len(requests) {
		t.Errorf("%d lines for %d requests", n, len(requests))
	}
	text, err := os.ReadFile(filepath.Join(g.dir, "access.log"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), secret) || strings.Contains(g.log.String(), secret) {
		t.Errorf("a secret is logged:\n%s", text)
	}
}

// keepAsking makes requests on some connections until stop is closed, and returns how many were answered 200.
func (g *gateway) keepAsking(t testing.TB, stop <-chan struct{}, request string) func() int {
	t.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	answered := 0
	for range 4 {
		c := g.dial(t)
		all.Go(func() {
			n := 0
			defer func() {
				c.Close()
				mu.Lock()
				answered += n
				mu.Unlock()
			}()
			for {
				select {
				case <-stop:
					return
				default:
				}
				c.send(request)
				r, err := readResponse(c.in, "GET")
				if err != nil || r.status != 200 {
					t.Errorf("%v %v", r, err)
					return
				}
				n++
			}
		})
	}
	return func() int {
		all.Wait()
		return answered
	}
}

// A log that logrotate renames under load, twice, and SIGUSR1 opens again: every request is in one of the files, in
// whole lines.
func TestAccessLogRotates(t *testing.T) {
	t.Parallel()
	up := startLongLived(t)
	g := startGateway(t, logTo("access.log", up.URL))
	stop := make(chan struct{})
	answered := g.keepAsking(t, stop, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
	path := filepath.Join(g.dir, "access.log")
	written := func(name string) bool {
		info, err := os.Stat(name)
		return err == nil && info.Size() > 0
	}
	for _, old := range []string{".1", ".2"} {
		eventually(t, "the log is written to", func() bool { return written(path) })
		if err := os.Rename(path, path+old); err != nil {
			t.Fatal(err)
		}
		g.signal(syscall.SIGUSR1)
		eventually(t, "the new log is written to", func() bool { return written(path) })
	}
	close(stop)
	n := answered()
	g.signal(syscall.SIGTERM)
	g.wait()
	found := 0
	for _, name := range []string{"access.log.1", "access.log.2", "access.log"} {
		lines := g.accessLines(t, name)
		if found += len(lines); len(lines) == 0 {
			t.Errorf("%s is empty", name)
		}
	}
	if found != n {
		t.Errorf("%d lines for %d requests", found, n)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&^0o640 != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// A reload moves the log; one that names a place that cannot be written to changes nothing.
func TestAccessLogMoves(t *testing.T) {
	t.Parallel()
	up := startLongLived(t)
	g := startGateway(t, logTo("first.log", up.URL))
	g.answers(t, "/a")
	g.configure(logTo("no/such/folder.log", up.URL))
	if status, body := g.postReload(t); status != 422 || !strings.Contains(body, "access log") {
		t.Errorf("reload: %d %s", status, body)
	}
	g.answers(t, "/b")
	g.configure(logTo("second.log", up.URL))
	if status, body := g.postReload(t); status != 200 {
		t.Errorf("reload: %d %s", status, body)
	}
	g.answers(t, "/c")
	g.configure(logTo("off", up.URL))
	if status, body := g.postReload(t); status != 200 {
		t.Errorf("reload: %d %s", status, body)
	}
	g.answers(t, "/d")
	g.signal(syscall.SIGTERM)
	g.wait()
	// A line that is logged while the reload happens may be in either.
	first, second := g.accessLines(t, "first.log"), g.accessLines(t, "second.log")
	if len(first)+len(second) != 3 || len(first) < 2 || first[0].Path != "/a" || first[1].Path != "/b" {
		t.Errorf("the first log has %+v, the second %+v", first, second)
	}
}

// Whoever reads the log from standard output may stop to: requests go on, lines are dropped and counted, and when he
// reads again the log goes on, in whole lines.
func TestAccessLogStalls(t *testing.T) {
	t.Parallel()
	up := startLongLived(t)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	g := newGateway(t, logTo("stdout", up.URL))
	g.stdout = writer
	g.start()
	writer.Close()
	long := "GET /" + strings.Repeat("p", 4000) + " HTTP/1.1\r\nHost: h\r\n\r\n"
	stop := make(chan struct{})
	answered := g.keepAsking(t, stop, long)
	eventually(t, "lines are dropped", func() bool { return total(g.scrape(t), "sluice_access_log_dropped_total") > 10 })
	eventually(t, "that is said", func() bool { return strings.Contains(g.log.String(), "does not keep up") })
	before := total(g.scrape(t), "sluice_requests_total")
	eventually(t, "requests go on", func() bool { return total(g.scrape(t), "sluice_requests_total") > before+20 })

	read := make(chan int)
	go func() {
		n := 0
		for in := bufio.NewReaderSize(reader, 1<<16); ; n++ {
			line, err := in.ReadString('\n')
			if err != nil {
				if err != io.EOF || line != "" {
					t.Errorf("the log ends with %q, %v", line, err)
				}
				read <- n
				return
			}
			parseAccessLine(t, line)
		}
	}()
	eventually(t, "the log goes on", func() bool { return strings.Contains(g.log.String(), "written again") })
	close(stop)
	n := answered()
	eventually(t, "all is counted", func() bool { return total(g.scrape(t), "sluice_requests_total") == float64(n) })
	dropped := total(g.scrape(t), "sluice_access_log_dropped_total")
	g.signal(syscall.SIGTERM)
	g.wait()
	if lines := <-read; lines+int(dropped) != n {
		t.Errorf("%d lines and %v dropped for %d requests", lines, dropped, n)
	}
}

// A full disk, and a reader of standard output that has gone, cost lines and nothing else.
func TestAccessLogCannotBeWritten(t *testing.T) {
	t.Parallel()
	up := startLongLived(t)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	reader.Close()
	for name, access := range map[string]string{"a full disk": "/dev/full", "nobody reads": "stdout"} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, logTo(access, up.URL))
			g.stdout = writer
			g.start()
			for i := range 3 {
				if status := g.answers(t, "/a"); status != 200 {
					t.Errorf("answered %d", status)
				}
				eventually(t, "lines are dropped", func() bool { return total(g.scrape(t), "sluice_access_log_dropped_total") == float64(i+1) })
			}
			eventually(t, "that is said", func() bool { return strings.Contains(g.log.String(), "access log: trouble") })
		})
	}
	writer.Close()
}
