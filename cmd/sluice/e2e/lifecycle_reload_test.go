package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// only is a configuration with one route, for one path.
func only(path, url, server string) string {
	return "[server]\nlisten = [\"$LISTEN\"]\n" + server + "\n" +
		strings.Replace(toService(url, "", ""), `"/*"`, strconv.Quote(path), 1)
}

// answers asks for a path on a connection of its own.
func (g *gateway) answers(t testing.TB, path string) int {
	t.Helper()
	c, r := g.exchange(t, "GET "+path+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	c.Close()
	return r.status
}

// postReload asks the admin side to reload.
func (g *gateway) postReload(t testing.TB) (status int, body string) {
	t.Helper()
	r, err := adminClient.Post("http://"+g.admin+"/reload", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(text)
}

// A new configuration becomes live however it arrives: renamed over the old one, written in place, announced
// by a signal or by the admin side.
func TestReloadWays(t *testing.T) {
	t.Parallel()
	up := startLongLived(t)
	g := startGateway(t, only("/start", up.URL, ""))
	becomes := func(path string) {
		t.Helper()
		eventually(t, path+" is served", func() bool { return g.answers(t, path) == 200 })
	}
	becomes("/start")

	g.configure(only("/renamed", up.URL, ""))
	becomes("/renamed")

	text, err := os.ReadFile(filepath.Join(g.dir, "gateway.toml"))
	if err != nil {
		t.Fatal(err)
	}
	written := strings.Replace(string(text), "/renamed", "/written", 1)
	if err := os.WriteFile(filepath.Join(g.dir, "gateway.toml"), []byte(written), 0o600); err != nil {
		t.Fatal(err)
	}
	becomes("/written")

	g.configure(only("/signalled", up.URL, ""))
	g.signal(syscall.SIGHUP)
	becomes("/signalled")

	g.configure(only("/asked", up.URL, ""))
	if status, body := g.postReload(t); status != 200 || !strings.Contains(body, g.status(t).Config.Hash) {
		t.Errorf("POST /reload: %d %s", status, body)
	}
	if status := g.answers(t, "/asked"); status != 200 {
		t.Errorf("when POST /reload has answered, the new route answers %d", status)
	}
	if status := g.answers(t, "/signalled"); status != 404 {
		t.Errorf("the old route answers %d", status)
	}
}

// A faulty configuration changes nothing. All of its faults are told: to who asked, in the log, by the status.
func TestReloadFaults(t *testing.T) {
	t.Parallel()
	up := startLongLived(t)
	good := only("/good", up.URL, "")
	g := startGateway(t, good)
	hash := g.status(t).Config.Hash
	for _, c := range []struct {
		text   string
		faults []string
	}{
		{good + "nonsense = 1\n[[route]]\nname = \"b\"\npath = \"/b\"\nauth = [\"none\"]\nto = \"nowhere\"\n", []string{"nonsense", "nowhere"}},
		{"[server\n", []string{"gateway.toml"}},
		{strings.Replace(good, `"/good"`, `"/good/{"`, 1), []string{"/good/{"}},
	} {
		before := g.status(t).Config.Failures
		g.configure(c.text)
		status, body := g.postReload(t)
		s := g.status(t).Config
		for _, fault := range c.faults {
			if status != 422 && status != 400 && status != 409 || !strings.Contains(body, fault) {
				t.Errorf("POST /reload does not tell of %q: %d %s", fault, status, body)
			}
			g.says(t, fault)
			if !strings.Contains(s.LastError, fault) {
				t.Errorf("the status is silent of %q: %+v", fault, s)
			}
		}
		if s.Failures <= before || s.LastFailure == nil || s.Hash != hash {
			t.Errorf("status %+v", s)
		}
		if status := g.answers(t, "/good"); status != 200 {
			t.Errorf("with a faulty configuration on disk, the route answers %d", status)
		}
	}
	g.configure(only("/better", up.URL, ""))
	eventually(t, "a good configuration is live", func() bool { return g.answers(t, "/better") == 200 })
}

// An upstream that did not change keeps its connections; one that did gets new ones, and closes the old.
func TestReloadPools(t *testing.T) {
	t.Parallel()
	same, other := startLongLived(t), startLongLived(t)
	text := func(n int) string {
		return fmt.Sprintf(`
[upstream.same]
targets = [%q]
[upstream.other]
targets = [%q]
timeouts = { response = "1%ds" }
[defaults]
auth = ["none"]
[[route]]
name = "other"
path = "/other"
to = "other"
[[route]]
name = "rest"
path = "/x%d/*"
to = "same"
`, same.URL, other.URL, n, n)
	}
	g := startGateway(t, text(0))
	c := g.dial(t)
	for n := range 4 {
		if n > 0 {
			g.configure(text(n))
			if status, body := g.postReload(t); status != 200 {
				t.Fatal(status, body)
			}
		}
		for _, path := range []string{"/other", fmt.Sprintf("/x%d/", n), "/other"} {
			if r := c.do("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n"); r.status != 200 {
				t.Fatalf("%s: %s", path, r.line)
			}
			// A connection is back with its upstream a moment after the answer.
			eventually(t, "the connections rest", func() bool {
				for _, u := range g.status(t).Upstreams {
					if u.Targets[0].Connections != u.Targets[0].Idle {
						return false
					}
				}
				return true
			})
		}
		if a, b := same.connections.Load(), other.connections.Load(); a != 1 || b != int64(n+1) {
			t.Errorf("after %d reloads: %d connections to what did not change, %d to what did", n, a, b)
		}
		eventually(t, "the old pool's connections are closed", func() bool { return other.open.Load() == 1 })
	}
}

// What is still under way at the end of the drain is cut, however long its upstream might yet take, and the
// exit is clean all the same.
func TestDrainEnds(t *testing.T) {
	t.Parallel()
	up := startLongLived(t)
	g := startGateway(t, only("/*", up.URL, `drain = "400ms"`))
	slow, events := g.dial(t), g.dial(t)
	slow.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
	events.send("GET /events HTTP/1.1\r\nHost: h\r\n\r\n")
	stream := events.head("GET")
	eventually(t, "the requests are in flight", func() bool { return up.connections.Load() >= 2 })
	began := time.Now()
	g.signal(syscall.SIGTERM)
	if code := g.wait(); code != 0 {
		t.Errorf("the process ended with %d", code)
	}
	if took := time.Since(began); took < 400*time.Millisecond || took > 5*time.Second {
		t.Errorf("the process ended after %v, want soon after the drain", took)
	}
	slow.expectClosed()
	if _, err := io.Copy(io.Discard, stream.Body); err == nil {
		t.Error("a stream that was cut looks whole")
	}
}

// A new version of the program takes over, unless it does not come to serve: then the old one goes on.
func TestUpgradeProgram(t *testing.T) {
	t.Parallel()
	up := startLongLived(t)
	g := newGateway(t, only("/*", up.URL, `drain = "1s"`))
	program := filepath.Join(g.dir, "sluice")
	install := func(content []byte) {
		t.Helper()
		// A process that another test forks meanwhile would hold the file open for writing until it has
		// become another program, and nobody could run it.
		syscall.ForkLock.RLock()
		err := os.WriteFile(program+".new", content, 0o700) // #nosec G306 -- a program
		syscall.ForkLock.RUnlock()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(program+".new", program); err != nil {
			t.Fatal(err)
		}
	}
	good, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	install(good)
	run := g.run()
	g.launch(t, exec.Command(program, run.Args[1:]...))
	first := g.status(t).Started

	for i, broken := range []string{"#!/bin/sh\nexit 1\n", "not a program", "#!/bin/sh\nexit 0\n"} {
		install([]byte(broken))
		g.signal(syscall.SIGUSR2)
		eventually(t, "the handover fails", func() bool {
			return strings.Count(g.log.String(), "not handed over") == i+1
		})
		if status := g.answers(t, "/x"); status != 200 || g.status(t).Started != first {
			t.Errorf("after the program %q: %d", broken, status)
		}
	}
	install(good)
	g.signal(syscall.SIGUSR2)
	if code := g.wait(); code != 0 {
		t.Errorf("the first process ended with %d", code)
	}
	if status := g.answers(t, "/x"); status != 200 || !g.status(t).Started.After(first) {
		t.Errorf("after the handover: %d", status)
	}
}

// systemd hears when a reload begins, on its own clock, and who is the main process after a handover.
func TestSystemdHearsOfReloadAndHandover(t *testing.T) {
	t.Parallel()
	up := startLongLived(t)
	g := newGateway(t, only("/*", up.URL, `drain = "1s"`))
	path := filepath.Join(g.dir, "notify")
	notified, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { notified.Close() })
	_ = notified.SetReadDeadline(time.Now().Add(patience))
	next := func() map[string]string {
		t.Helper()
		state := make([]byte, 1000)
		n, err := notified.Read(state)
		if err != nil {
			t.Fatal(err)
		}
		said := map[string]string{}
		for line := range strings.Lines(string(state[:n])) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			said[name] = value
		}
		return said
	}
	command := g.run()
	command.Env = append(os.Environ(), "NOTIFY_SOCKET="+path)
	g.launch(t, command)
	if said := next(); said["READY"] != "1" {
		t.Fatalf("at the start: %v", said)
	}
	before := time.Now()
	g.signal(syscall.SIGHUP)
	said := next()
	micros, err := strconv.ParseInt(said["MONOTONIC_USEC"], 10, 64)
	if said["RELOADING"] != "1" || err != nil || micros <= 0 || time.Since(before) > patience {
		t.Errorf("at a reload: %v", said)
	}
	if said := next(); said["READY"] != "1" {
		t.Errorf("after a reload: %v", said)
	}
	old := g.command.Process.Pid
	g.signal(syscall.SIGUSR2)
	heard := map[string]string{}
	for heard["MAINPID"] == "" || heard["READY"] == "" {
		for name, value := range next() {
			heard[name] = value
		}
	}
	if code := g.wait(); code != 0 {
		t.Errorf("the first process ended with %d", code)
	}
	eventually(t, "the log knows of the next process", func() bool { return len(g.serving()) == 2 })
	pids := g.serving()
	if heard["MAINPID"] != strconv.Itoa(pids[1]) || pids[1] == old {
		t.Errorf("the processes are %v, systemd heard %v", pids, heard)
	}
	if _, stopping := heard["STOPPING"]; stopping {
		t.Error("systemd was told of the end of a service that goes on")
	}
	if status := g.answers(t, "/x"); status != http.StatusOK {
		t.Errorf("after the handover: %d", status)
	}
}
