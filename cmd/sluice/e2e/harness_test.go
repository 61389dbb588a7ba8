package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything that must happen may take on a slow, busy machine. A test that passes
// never waits for it.
const patience = 20 * time.Second

// binary is the gateway under test.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run builds the gateway once, with the race detector if this test has it. SLUICE_BINARY names one that
// is built already, such as a release.
func run(m *testing.M) int {
	if binary = os.Getenv("SLUICE_BINARY"); binary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "sluice-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "sluice")
	args := []string{"build", "-o", binary}
	if raceDetector() {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "github.com/sluice-gateway/sluice/cmd/sluice")...)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "cannot build the gateway: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// noteSources looks at every directory of the module, once. Go takes a test's result from its cache while
// all that the test looked at is the same, and does not know that this one builds the gateway from there.
// What is looked at before the first test does not count.
var noteSources = sync.OnceFunc(func() {
	_ = filepath.WalkDir(filepath.Join("..", "..", ".."), func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == ".git" {
			return filepath.SkipDir
		}
		return err
	})
})

func raceDetector() bool {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}

// eventually polls until ok, and fails the test when it takes too long.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen in time: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// listenAnywhere listens on a random loopback address: there no client of a parallel test can be given
// the same port.
func listenAnywhere(t testing.TB) net.Listener {
	t.Helper()
	host := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250))
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// freeAddress finds an address that nobody listens on, for a process that is yet to be started.
func freeAddress(t testing.TB) string {
	t.Helper()
	l := listenAnywhere(t)
	defer l.Close()
	return l.Addr().String()
}

// output gathers what a process writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// gateway is a gateway process. Its log is shown when the test fails.
type gateway struct {
	t       testing.TB
	address string   // $LISTEN
	admin   string   // $ADMIN
	dir     string   // $DIR: a directory of its own; holds gateway.toml
	log     output   // standard output and standard error
	through []string // a command that becomes the gateway, whose command line follows; usually none
	stdout  *os.File // standard output instead; nil: log
	command *exec.Cmd
	exited  chan struct{}
}

// startGateway runs the gateway with a configuration and returns once it is ready. $LISTEN, $ADMIN and
// $DIR in the text stand for two free addresses and a temporary directory; a text without [server] or
// [admin] gets them, and one without [log] no access log. When the test ends, so does the process; a data race or a panic in it fails the test.
func startGateway(t testing.TB, text string, env ...string) *gateway {
	t.Helper()
	g := newGateway(t, text)
	g.start(env...)
	return g
}

// newGateway prepares a gateway, and does not start it.
func newGateway(t testing.TB, text string) *gateway {
	t.Helper()
	noteSources()
	g := &gateway{t: t, address: freeAddress(t), admin: freeAddress(t), dir: t.TempDir()}
	g.configure(text)
	return g
}

// configure replaces the configuration file in one step.
func (g *gateway) configure(text string) {
	g.t.Helper()
	if !strings.Contains(text, "[server]") {
		text = "[server]\nlisten = [\"$LISTEN\"]\n" + text
	}
	if !strings.Contains(text, "[log]") { // the access log would come between the lines that tests look for
		text = "[log]\naccess = \"off\"\n" + text
	}
	if !strings.Contains(text, "[admin]") {
		text = "[admin]\nlisten = \"$ADMIN\"\n" + text
	}
	text = strings.NewReplacer("$LISTEN", g.address, "$ADMIN", g.admin, "$DIR", g.dir).Replace(text)
	temporary := filepath.Join(g.dir, "next.toml")
	if err := os.WriteFile(temporary, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
	if err := os.Rename(temporary, filepath.Join(g.dir, "gateway.toml")); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) start(env ...string) {
	g.t.Helper()
	g.begin(env...)
	g.awaitReady()
}

// begin starts the process and does not wait until it is ready.
func (g *gateway) begin(env ...string) {
	g.t.Helper()
	g.exited = make(chan struct{})
	line := append(slices.Clone(g.through), binary, "run", "-c", filepath.Join(g.dir, "gateway.toml"))
	g.command = exec.Command(line[0], line[1:]...)
	g.command.Dir = g.dir
	// The race runtime otherwise sleeps a second at every exit.
	g.command.Env = append(os.Environ(), append(env, "GORACE=atexit_sleep_ms=10")...)
	g.command.Stdout, g.command.Stderr = &g.log, &g.log
	if g.stdout != nil {
		g.command.Stdout = g.stdout
	}
	if err := g.command.Start(); err != nil {
		g.t.Fatal(err)
	}
	go func() {
		_ = g.command.Wait()
		close(g.exited)
	}()
	g.t.Cleanup(g.end)
}

func (g *gateway) awaitReady() {
	g.t.Helper()
	eventually(g.t, "the gateway is ready", func() bool {
		select {
		case <-g.exited:
			g.t.Fatalf("the gateway ended: %v", g.command.ProcessState)
		default:
		}
		return g.ready()
	})
}

// ready asks /readyz.
func (g *gateway) ready() bool {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get("http://" + g.admin + "/readyz")
	if err != nil {
		return false
	}
	defer r.Body.Close()
	return r.StatusCode == http.StatusOK
}

// idle asks /status how many idle connections the gateway keeps, to all targets.
func (g *gateway) idle(t testing.TB) (n int) {
	t.Helper()
	r, err := http.Get("http://" + g.admin + "/status")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var status struct {
		Upstreams []struct{ Targets []struct{ Idle int } }
	}
	if err := json.NewDecoder(r.Body).Decode(&status); err != nil {
		t.Fatal(err)
	}
	for _, u := range status.Upstreams {
		for _, one := range u.Targets {
			n += one.Idle
		}
	}
	return n
}

func (g *gateway) end() {
	g.signal(syscall.SIGTERM)
	select {
	case <-g.exited:
	case <-time.After(3 * time.Second):
		g.signal(syscall.SIGKILL)
		<-g.exited
	}
	log := g.log.String()
	for _, sign := range []string{"DATA RACE", "panic", "BUG:", "fatal error:"} {
		if strings.Contains(log, sign) {
			g.t.Errorf("the gateway's log speaks of %q", sign)
		}
	}
	if g.t.Failed() {
		g.t.Logf("the gateway's log:\n%s", log)
	}
}

func (g *gateway) signal(s syscall.Signal) {
	select {
	case <-g.exited:
	default:
		_ = g.command.Process.Signal(s)
	}
}

// wait waits for the process to end and returns its exit code.
func (g *gateway) wait() int {
	g.t.Helper()
	select {
	case <-g.exited:
	case <-time.After(patience):
		g.t.Fatal("the gateway did not end")
	}
	return g.command.ProcessState.ExitCode()
}

// rss is the process's resident memory in bytes.
func (g *gateway) rss() int64 {
	g.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.command.Process.Pid))
	if err != nil {
		g.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kilobytes, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, err := strconv.ParseInt(kilobytes, 10, 64)
	if err != nil {
		g.t.Fatal(err)
	}
	return n << 10
}

// client is a raw connection to the gateway.
type client struct {
	*net.TCPConn
	t  testing.TB
	in *bufio.Reader
}

func (g *gateway) dial(t testing.TB) *client { return dial(t, g.address) }

func dial(t testing.TB, address string) *client {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return &client{TCPConn: c.(*net.TCPConn), t: t, in: bufio.NewReader(c)}
}

// exchange sends raw bytes on a new connection and reads one response. The connection stays open.
func (g *gateway) exchange(t testing.TB, raw string) (*client, *response) {
	t.Helper()
	c := g.dial(t)
	c.send(raw)
	method, _, _ := strings.Cut(strings.TrimLeft(raw, "\r\n"), " ")
	return c, c.receive(method)
}

// send writes raw bytes. The gateway may close while it is being sent to, so errors show elsewhere.
func (c *client) send(raw string) { _, _ = io.WriteString(c.TCPConn, raw) }

// do sends a request and reads the response.
func (c *client) do(raw string) *response {
	c.t.Helper()
	c.send(raw)
	method, _, _ := strings.Cut(raw, " ")
	return c.receive(method)
}

// receive reads one final response to method, which must be well-formed; the body may have been cut
// short, see response.cut.
func (c *client) receive(method string) *response {
	c.t.Helper()
	r, err := readResponse(c.in, method)
	if err != nil {
		c.t.Fatalf("no response: %v", err)
	}
	return r
}

// expectClosed reads until the gateway closes the connection; it must send nothing before that.
func (c *client) expectClosed() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.in); len(rest) > 0 {
		c.t.Errorf("bytes behind the last response: %q", rest)
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Error("the connection was not closed")
	}
}

// expectOpen makes sure that the connection carries another request.
func (c *client) expectOpen() {
	c.t.Helper()
	if r := c.do("GET /canary HTTP/1.1\r\nHost: h\r\n\r\n"); r.cut != nil {
		c.t.Errorf("the next response on the connection: %v", r.cut)
	}
}

// field is one header line, as it came.
type field struct{ name, value string }

// fields is a header block in its order.
type fields []field

// get joins the values of a field; it is "" if there is none.
func (f fields) get(name string) string { return strings.Join(f.values(name), ", ") }

func (f fields) has(name string) bool { return f.values(name) != nil }

func (f fields) values(name string) []string {
	var all []string
	for _, one := range f {
		if strings.EqualFold(one.name, name) {
			all = append(all, one.value)
		}
	}
	return all
}

func readFields(in *bufio.Reader) (fields, error) {
	var all fields
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("%w in a header block, after %q", err, line)
		}
		line, ok := strings.CutSuffix(line, "\r\n")
		name, value, colon := strings.Cut(line, ":")
		switch {
		case ok && line == "":
			return all, nil
		case !ok || !colon:
			return nil, fmt.Errorf("bad header line %q", line)
		}
		all = append(all, field{name, strings.Trim(value, " \t")})
	}
}

// response is what a client got.
type response struct {
	line     string // the status line
	status   int
	interim  []int // 1xx before it
	fields   fields
	body     string
	trailers fields
	cut      error // why the body is not whole; nil: it ended cleanly
}

func readResponse(in *bufio.Reader, method string) (*response, error) {
	r := &response{}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("%w in the status line, after %q", err, line)
		}
		if _, err := fmt.Sscanf(line, "HTTP/1.1 %3d ", &r.status); err != nil || !strings.HasSuffix(line, "\r\n") {
			return nil, fmt.Errorf("bad status line %q", line)
		}
		r.line = strings.TrimSpace(line)
		if r.fields, err = readFields(in); err != nil {
			return nil, err
		}
		if r.status >= 200 || r.status == 101 {
			break
		}
		r.interim = append(r.interim, r.status)
	}
	if method != "HEAD" && r.status != 204 && r.status != 304 && r.status != 101 {
		r.readBody(in)
	}
	return r, nil
}

func (r *response) readBody(in *bufio.Reader) {
	var body []byte
	switch length := r.fields.get("Content-Length"); {
	case r.fields.has("Transfer-Encoding"):
		if body, r.cut = io.ReadAll(httputil.NewChunkedReader(in)); r.cut == nil {
			r.trailers, r.cut = readFields(in)
		}
	case length != "":
		n, err := strconv.Atoi(length)
		if err != nil {
			r.cut = err
			return
		}
		body = make([]byte, n)
		n, r.cut = io.ReadFull(in, body)
		body = body[:n]
	default:
		body, r.cut = io.ReadAll(in)
	}
	r.body = string(body)
}

// problem is the JSON of an answer that the gateway made itself.
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Reason    string `json:"reason"`
	RequestID string `json:"request_id"`
}

// expectProblem checks that the gateway itself answered, with this status and reason, and told nothing
// that is not a client's business.
func (r *response) expectProblem(t testing.TB, status int, reason string) {
	t.Helper()
	if r.status != status {
		t.Errorf("status %d, want %d (%s)\n%s", r.status, status, reason, r.body)
		return
	}
	if got := r.fields.get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q of a fault", got)
	}
	var p problem
	decoder := json.NewDecoder(strings.NewReader(r.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		t.Errorf("not a problem: %v\n%s", err, r.body)
		return
	}
	if p.Reason != reason {
		t.Errorf("reason %q, want %q", p.Reason, reason)
	}
	if p.Status != status || p.Type == "" || p.Title == "" || p.Detail == "" {
		t.Errorf("incomplete problem %+v", p)
	}
	if p.RequestID == "" || p.RequestID != r.fields.get("X-Request-ID") {
		t.Errorf("request id %q in the problem, %q in the header", p.RequestID, r.fields.get("X-Request-ID"))
	}
	for _, leak := range []string{"127.", "tcp", "dial", "EOF", "goroutine", ".go", "wire:", "engine", "fasthttp"} {
		if strings.Contains(r.body, leak) {
			t.Errorf("the problem tells %q: %s", leak, r.body)
		}
	}
}

// recorder is an upstream that records every byte it gets.
type recorder struct {
	t       testing.TB
	address string
	done    chan struct{} // closed when the test ends: scripts that wait give up then

	mu       sync.Mutex
	all      []*recorderConn
	requests []*request
}

// recorderConn is one connection to a recorder.
type recorderConn struct {
	net.Conn
	recorder *recorder
	in       *bufio.Reader
	number   int // from 1
	served   int // requests so far

	mu     sync.Mutex
	bytes  []byte // everything that came
	closed bool   // the gateway closed, or the script did
}

// request is what a recorder got, whole.
type request struct {
	conn         int    // number of its connection
	line         string // the request line
	method, path string // path as sent, with its query
	fields       fields
	body         string
	trailers     http.Header
	raw          string // every byte of it
}

// startRecorder starts a recorder with a script, which has the connection to itself.
func startRecorder(t testing.TB, script func(c *recorderConn)) *recorder {
	t.Helper()
	l := listenAnywhere(t)
	up := &recorder{t: t, address: l.Addr().String(), done: make(chan struct{})}
	var scripts sync.WaitGroup
	scripts.Go(func() {
		for {
			socket, err := l.Accept()
			if err != nil {
				return
			}
			c := &recorderConn{Conn: socket, recorder: up}
			c.in = bufio.NewReader(c)
			up.mu.Lock()
			up.all = append(up.all, c)
			c.number = len(up.all)
			up.mu.Unlock()
			scripts.Go(func() {
				defer c.end()
				script(c)
			})
		}
	})
	t.Cleanup(func() {
		close(up.done)
		l.Close()
		up.mu.Lock()
		for _, c := range up.all {
			c.Conn.Close()
		}
		up.mu.Unlock()
		scripts.Wait()
	})
	return up
}

// startAnswering starts a recorder that answers each whole request by what answer returns; "" closes
// the connection.
func startAnswering(t testing.TB, answer func(r *request) string) *recorder {
	t.Helper()
	return startRecorder(t, func(c *recorderConn) {
		for {
			r := c.next()
			if r == nil {
				return
			}
			text := answer(r)
			if text == "" {
				return
			}
			c.write(text)
		}
	})
}

// ok is a plain answer.
func ok(*request) string { return answerOK }

const answerOK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func (up *recorder) url() string { return "http://" + up.address }

// take returns the whole requests since the last call.
func (up *recorder) take() []*request {
	up.mu.Lock()
	defer up.mu.Unlock()
	taken := up.requests
	up.requests = nil
	return taken
}

// one returns the only request since the last call.
func (up *recorder) one(t testing.TB) *request {
	t.Helper()
	got := up.take()
	if len(got) != 1 {
		t.Fatalf("the upstream got %d requests, want 1", len(got))
	}
	return got[0]
}

// conns are all connections so far.
func (up *recorder) conns() []*recorderConn {
	up.mu.Lock()
	defer up.mu.Unlock()
	return append([]*recorderConn(nil), up.all...)
}

// expectNothing checks that no byte has come since mark bytes.
func (up *recorder) expectNothing(t testing.TB, mark int) {
	t.Helper()
	if n := up.size(); n != mark {
		t.Errorf("the upstream got %d bytes: %q", n-mark, up.tail(n-mark))
	}
}

// size is how many bytes have come, on all connections.
func (up *recorder) size() int {
	n := 0
	for _, c := range up.conns() {
		n += len(c.received())
	}
	return n
}

func (up *recorder) tail(n int) string {
	var all strings.Builder
	for _, c := range up.conns() {
		all.WriteString(c.received())
	}
	text := all.String()
	return text[max(0, len(text)-n):]
}

// Read records what it reads.
func (c *recorderConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes = append(c.bytes, p[:n]...)
	c.closed = c.closed || err != nil
	return n, err
}

func (c *recorderConn) end() {
	c.Conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

// received is every byte that came on the connection.
func (c *recorderConn) received() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.bytes)
}

func (c *recorderConn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

func (c *recorderConn) write(text string) { _, _ = io.WriteString(c.Conn, text) }

// consumed is how many bytes have been read through in.
func (c *recorderConn) consumed() int { return len(c.received()) - c.in.Buffered() }

// next reads a whole request and records it; nil if the connection ended first.
func (c *recorderConn) next() *request {
	start := c.consumed()
	r := c.head()
	if r == nil || !c.rest(r, start) {
		return nil
	}
	return r
}

// head reads a request's head.
func (c *recorderConn) head() *request {
	line, err := c.in.ReadString('\n')
	if err != nil {
		return nil
	}
	r := &request{conn: c.number, line: strings.TrimSuffix(line, "\r\n")}
	r.method, r.path, _ = strings.Cut(r.line, " ")
	r.path, _, _ = strings.Cut(r.path, " ")
	if r.fields, err = readFields(c.in); err != nil {
		return nil
	}
	return r
}

// rest reads what follows r's head, which began at start, and records the request if it is whole.
func (c *recorderConn) rest(r *request, start int) bool {
	var body []byte
	var err error
	if r.fields.has("Transfer-Encoding") {
		body, err = io.ReadAll(httputil.NewChunkedReader(c.in))
		if err == nil {
			var trailers textproto.MIMEHeader
			trailers, err = textproto.NewReader(c.in).ReadMIMEHeader()
			r.trailers = http.Header(trailers)
		}
	} else if length := r.fields.get("Content-Length"); length != "" {
		n, parseErr := strconv.Atoi(length)
		if parseErr != nil {
			return false
		}
		body = make([]byte, n)
		_, err = io.ReadFull(c.in, body)
	}
	if err != nil {
		return false
	}
	r.body = string(body)
	r.raw = c.received()[start:c.consumed()]
	c.served++
	c.recorder.mu.Lock()
	c.recorder.requests = append(c.recorder.requests, r)
	c.recorder.mu.Unlock()
	return true
}

// waitEnd reads what still comes until the gateway closes.
func (c *recorderConn) waitEnd() { _, _ = io.Copy(io.Discard, c) }

// nginx is a real nginx, as an upstream.
type nginx struct {
	address string
	root    string // what the server serves
}

// startNginx runs nginx with these directives inside its server block.
func startNginx(t testing.TB, directives string) *nginx {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		path = "/usr/sbin/nginx" // not in everybody's PATH
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("nginx is needed for this test: %v", err)
	}
	prefix := t.TempDir()
	n := &nginx{address: freeAddress(t), root: filepath.Join(prefix, "root")}
	if err := os.Mkdir(n.root, 0o755); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`daemon off;
master_process off;
pid %[1]s/nginx.pid;
error_log stderr warn;
events { worker_connections 256; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s;
		root %[3]s;
		%[4]s
	}
}
`, prefix, n.address, n.root, directives)
	conf := filepath.Join(prefix, "nginx.conf")
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var log output
	command := exec.Command(path, "-p", prefix, "-e", "stderr", "-c", conf)
	command.Stdout, command.Stderr = &log, &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if t.Failed() {
			t.Logf("nginx:\n%s", log.String())
		}
	})
	eventually(t, "nginx listens", func() bool {
		c, err := net.DialTimeout("tcp", n.address, time.Second)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
	return n
}
