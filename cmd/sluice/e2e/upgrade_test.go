package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// launch is start for a process that others may follow, or that needs more than arguments: its log goes
// through a pipe, whose end is the end of them all.
func (g *gateway) launch(t testing.TB, command *exec.Cmd) {
	t.Helper()
	log, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Dir, command.Stdout, command.Stderr = g.dir, writer, writer
	err = command.Start()
	writer.Close()
	if err != nil {
		t.Fatal(err)
	}
	g.command, g.exited = command, make(chan struct{})
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(&g.log, log)
		log.Close()
		close(ended)
	}()
	go func() {
		_ = command.Wait()
		close(g.exited)
	}()
	t.Cleanup(func() { g.endAll(ended) })
	eventually(t, "the gateway is ready", g.ready)
}

// endAll ends the process and those that followed it.
func (g *gateway) endAll(ended <-chan struct{}) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM, syscall.SIGKILL} {
		g.signal(s)
		for _, pid := range g.serving()[1:] {
			_ = syscall.Kill(pid, s)
		}
		select {
		case <-ended:
		case <-time.After(3 * time.Second):
			continue
		}
		break
	}
	g.end()
}

// run is the command that start starts.
func (g *gateway) run() *exec.Cmd {
	return exec.Command(binary, "run", "-c", filepath.Join(g.dir, "gateway.toml"))
}

var servingPID = regexp.MustCompile(`"pid":(\d+),[^\n]*"message":"serving"`)

// serving lists the processes that have come to serve, from the first to the latest.
func (g *gateway) serving() (pids []int) {
	for _, m := range servingPID.FindAllStringSubmatch(g.log.String(), -1) {
		pid, _ := strconv.Atoi(m[1])
		pids = append(pids, pid)
	}
	return pids
}

func (g *gateway) expectLogged(t testing.TB, text string) {
	t.Helper()
	eventually(t, "the log says "+text, func() bool { return strings.Contains(g.log.String(), text) })
}

// TestUpgrade replaces the process under load, twice, after an attempt that fails: its configuration has a
// fault.
func TestUpgrade(t *testing.T) {
	stay, moving := startLongLived(t), startLongLived(t)
	good := twoUpstreams(stay.URL, moving.URL, `drain = "3s"`, "")
	g := newGateway(t, good)
	g.launch(t, g.run())
	slow, upgraded := g.dial(t), g.upgrade(t, "/moving")
	slow.send("GET /stay/slow HTTP/1.1\r\nHost: h\r\n\r\n")
	l := startLoad(t, g.address)
	first := g.status(t).Started

	g.configure(good + "\n[[route]]\nname = \"faulty\"\npath = \"/x\"\nto = \"nowhere\"\n")
	g.signal(syscall.SIGUSR2)
	g.expectLogged(t, "not handed over")
	l.more(100)
	if !g.ready() || g.status(t).Started != first || len(g.serving()) != 1 {
		t.Error("the process does not serve on after a handover that failed")
	}

	g.configure(good)
	g.signal(syscall.SIGUSR2)
	g.expectLogged(t, `"message":"draining"`)
	upgraded.expectEcho("in the drain")
	close(stay.release)
	if r := slow.expect("GET", 200); r.body != "at last" || r.fields.get("Connection") != "close" {
		t.Errorf("the request in flight got %q, %v", r.body, r.fields)
	}
	upgraded.expectEcho("still in the drain")
	upgraded.expectClosed()
	if code := g.wait(); code != 0 {
		t.Errorf("the first process ended with %d", code)
	}
	pids := g.serving()
	if len(pids) != 2 || pids[0] == pids[1] || !g.status(t).Started.After(first) {
		t.Fatalf("the processes are %v, the one that serves began at %v, the first at %v", pids, g.status(t).Started, first)
	}
	l.more(100)

	second := g.status(t).Started
	_ = syscall.Kill(pids[1], syscall.SIGUSR2)
	eventually(t, "the second process has ended", func() bool { return strings.Count(g.log.String(), `"message":"ended"`) == 2 })
	l.more(100)
	if pids = g.serving(); len(pids) != 3 || !g.status(t).Started.After(second) {
		t.Errorf("the processes are %v", pids)
	}
	l.expectLossless()
}

// TestTerminate follows a SIGTERM from its beginning to the end of the process.
func TestTerminate(t *testing.T) {
	const readyDelay, drain = 700 * time.Millisecond, 2 * time.Second
	up := startLongLived(t)
	g := startGateway(t, twoUpstreams(up.URL, up.URL, `ready_delay = "700ms"
drain = "2s"`, ""))
	kept, silent, slow, upgraded := g.dial(t), g.dial(t), g.dial(t), g.upgrade(t, "/")
	slow.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
	silent.do("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	eventually(t, "the request is in flight", func() bool { return up.connections.Load() >= 3 })

	began := time.Now()
	g.signal(syscall.SIGTERM)
	eventually(t, "/readyz is red", func() bool { return !g.ready() })
	if s := g.status(t).State; s != "unready" {
		t.Errorf("the state is %q", s)
	}
	if r := kept.do("GET /kept HTTP/1.1\r\nHost: h\r\n\r\n"); r.status != 200 || r.fields.has("Connection") {
		t.Errorf("while not ready, a kept connection got %s %v", r.line, r.fields)
	}
	if _, r := g.exchange(t, "GET /new HTTP/1.1\r\nHost: h\r\n\r\n"); r.status != 200 {
		t.Errorf("while not ready, a new connection got %s", r.line)
	}
	eventually(t, "a kept connection is told to close", func() bool {
		r := kept.do("GET /kept HTTP/1.1\r\nHost: h\r\n\r\n")
		if r.status != 200 {
			t.Fatalf("while draining, a kept connection got %s", r.line)
		}
		return r.fields.get("Connection") == "close"
	})
	if passed := time.Since(began); passed < readyDelay {
		t.Errorf("draining after %v, want it after %v", passed, readyDelay)
	}
	kept.expectClosed()
	eventually(t, "new connections are refused", g.refuses)
	if s := g.status(t).State; s != "draining" {
		t.Errorf("the state is %q", s)
	}
	silent.expectClosed()
	close(up.release)
	if r := slow.expect("GET", 200); r.body != "at last" || r.fields.get("Connection") != "close" {
		t.Errorf("the request in flight got %q, %v", r.body, r.fields)
	}
	upgraded.expectEcho("in the drain")
	upgraded.expectClosed()
	if passed := time.Since(began); passed < readyDelay+drain {
		t.Errorf("the upgraded connection was cut after %v, want it after %v", passed, readyDelay+drain)
	}
	if code := g.wait(); code != 0 {
		t.Errorf("the process ended with %d", code)
	}
}

// refuses says whether the gateway's address takes no connections.
func (g *gateway) refuses() bool {
	c, err := net.DialTimeout("tcp", g.address, patience)
	if err == nil {
		c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

func TestTerminateAgain(t *testing.T) {
	up := startLongLived(t)
	g := startGateway(t, twoUpstreams(up.URL, up.URL, `drain = "1m"`, ""))
	upgraded := g.upgrade(t, "/")
	g.signal(syscall.SIGTERM)
	g.expectLogged(t, `"message":"draining"`)
	upgraded.expectEcho("in the drain")
	g.signal(syscall.SIGTERM)
	upgraded.expectClosed()
	if code := g.wait(); code != 0 {
		t.Errorf("the process ended with %d", code)
	}
}

// TestSystemd plays systemd: it hands in a socket, on which a client waits already, and hears what it is told.
func TestSystemd(t *testing.T) {
	up := startLongLived(t)
	g := newGateway(t, toService(up.URL, "", "")+"[server]\nlisten = [\"systemd:web\"]\n")
	l := listenAnywhere(t)
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	early := dial(t, l.Addr().String())
	early.send("GET /early HTTP/1.1\r\nHost: h\r\n\r\n")
	path := filepath.Join(g.dir, "notify")
	notified, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { notified.Close() })
	_ = notified.SetReadDeadline(time.Now().Add(patience))

	run := g.run()
	command := exec.Command("/bin/sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`}, run.Args...)...)
	command.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES=web", "NOTIFY_SOCKET="+path)
	command.ExtraFiles = []*os.File{socket}
	g.launch(t, command)
	socket.Close()
	l.Close()
	expect := func(want string) {
		t.Helper()
		state := make([]byte, 1000)
		n, err := notified.Read(state)
		if got, _, _ := strings.Cut(string(state[:n]), "\n"); err != nil || got != want {
			t.Fatalf("systemd is told %q, %v, want %q", got, err, want)
		}
	}
	expect("READY=1")
	if r := early.expect("GET", 200); r.body != "/early" {
		t.Errorf("the client that waited got %q", r.body)
	}
	g.signal(syscall.SIGHUP)
	expect("RELOADING=1")
	expect("READY=1")
	if r := dial(t, l.Addr().String()).do("GET /late HTTP/1.1\r\nHost: h\r\n\r\n"); r.body != "/late" {
		t.Errorf("after the reload: %s %q", r.line, r.body)
	}
	g.signal(syscall.SIGTERM)
	expect("STOPPING=1")
	if code := g.wait(); code != 0 {
		t.Errorf("the process ended with %d", code)
	}
}

// TestReloadListeners adds and removes an address; one that is taken keeps everything as it was.
func TestReloadListeners(t *testing.T) {
	up := startLongLived(t)
	taken := listenAnywhere(t)
	defer taken.Close()
	added := freeAddress(t)
	with := func(addresses ...string) string {
		text := twoUpstreams(up.URL, up.URL, "", "")
		return strings.Replace(text, `["$LISTEN"]`, fmt.Sprintf("%q", addresses), 1)
	}
	list := func(text string) string { return strings.ReplaceAll(text, `" "`, `", "`) }
	ask := func(c *client) {
		t.Helper()
		if r := c.do("GET /stay/1 HTTP/1.1\r\nHost: h\r\n\r\n"); r.status != 200 {
			t.Errorf("got %s", r.line)
		}
	}
	g := startGateway(t, with("$LISTEN"))
	kept := g.dial(t)
	ask(kept)
	g.reload(t, list(with("$LISTEN", added)))
	onAdded := dial(t, added)
	ask(onAdded)

	before := g.status(t).Config.Hash
	g.configure(list(with(freeAddress(t), taken.Addr().String())))
	g.signal(syscall.SIGHUP)
	eventually(t, "the failure is counted", func() bool { return g.status(t).Config.Failures > 0 })
	if s := g.status(t).Config; s.Hash != before || !strings.Contains(s.LastError, "address already in use") {
		t.Errorf("the status is %+v", s)
	}
	ask(g.dial(t))
	ask(dial(t, added))

	g.reload(t, with("$LISTEN"))
	eventually(t, "the removed address refuses", func() bool {
		c, err := net.DialTimeout("tcp", added, patience)
		if err == nil {
			c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	ask(onAdded) // what had been accepted stays
	ask(kept)
}
