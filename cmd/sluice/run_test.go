package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// gatewayProcess is a running sluice, as systemd would run it.
type gatewayProcess struct {
	cmd           *exec.Cmd
	log           *logBuffer
	ended         chan error
	config        string
	listen, admin string
}

// logBuffer gathers what a process writes.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// eventually polls until ok, and fails the test when it takes too long.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen in time: %s", what)
		}
	}
}

func buildSluice(t *testing.T) (binary string) {
	t.Helper()
	binary = filepath.Join(t.TempDir(), "sluice")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// portsTried counts the ports that freeAddress has tried. They are below those that the system gives to whoever connects
// or asks for any, as it may give one of these away before it is used here; and other tests that run now begin elsewhere.
var portsTried atomic.Uint32

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+(97*uint32(os.Getpid())+portsTried.Add(1))%22_000)
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

// runConfig is a gateway whose one route is at path.
func runConfig(listen, admin, target, path string) string {
	return "[server]\nlisten = [\"" + listen + "\"]\n[admin]\nlisten = \"" + admin + "\"\n" +
		"[defaults]\nauth = [\"none\"]\n[upstream.v1]\ntargets = [\"" + target + "\"]\n[[route]]\nname = \"one\"\npath = \"" + path + "\"\nto = \"v1\"\n"
}

// startGateway runs the binary until it is ready.
func startGateway(t *testing.T, binary, target string) *gatewayProcess {
	t.Helper()
	g := &gatewayProcess{log: &logBuffer{}, ended: make(chan error, 1), listen: freeAddress(t), admin: freeAddress(t)}
	g.config = writeConfig(t, runConfig(g.listen, g.admin, target, "/one"))
	g.cmd = exec.Command(binary, "run", "-c", g.config)
	g.cmd.Stderr = g.log
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waited := make(chan struct{})
	go func() { defer close(waited); g.ended <- g.cmd.Wait() }()
	t.Cleanup(func() {
		_ = g.cmd.Process.Kill()
		<-waited
		if t.Failed() {
			t.Log(g.log.String())
		}
	})
	eventually(t, "ready", func() bool { status, _ := g.ask(t, "GET", "/readyz"); return status == 200 })
	return g
}

// ask sends a request to the admin side. Its status is 0 if there is no answer.
func (g *gatewayProcess) ask(t *testing.T, method, path string) (status int, body string) {
	return send(t, method, "http://"+g.admin+path)
}

// get sends a request through the gateway.
func (g *gatewayProcess) get(t *testing.T, path string) int {
	status, _ := send(t, "GET", "http://"+g.listen+path)
	return status
}

func send(t *testing.T, method, url string) (status int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	content, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(content)
}

// reloads reads from /status how often the configuration was reloaded, and how often it could not be.
func (g *gatewayProcess) reloads(t *testing.T) (good, bad int) {
	t.Helper()
	var status struct {
		State  string
		Config struct {
			Reloads  int
			Failures int `json:"reload_failures"`
		}
	}
	code, body := g.ask(t, "GET", "/status")
	if err := json.Unmarshal([]byte(body), &status); code != 200 || err != nil || status.State != "serving" {
		t.Fatalf("/status: %d %s: %v", code, body, err)
	}
	return status.Config.Reloads, status.Config.Failures
}

// write replaces the configuration.
func (g *gatewayProcess) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(g.config+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(g.config+".new", g.config); err != nil {
		t.Fatal(err)
	}
}

// exits waits for a clean end.
func (g *gatewayProcess) exits(t *testing.T) {
	t.Helper()
	select {
	case err := <-g.ended:
		if err != nil {
			t.Errorf("want exit code 0, have %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the gateway does not end")
	}
}

func TestRun(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	defer service.Close()
	binary := buildSluice(t)

	t.Run("reload", func(t *testing.T) {
		g := startGateway(t, binary, service.URL)
		if one, two := g.get(t, "/one"), g.get(t, "/two"); one != 200 || two != 404 {
			t.Errorf("before the reload: /one %d, /two %d", one, two)
		}
		g.write(t, runConfig(g.listen, g.admin, service.URL, "/two"))
		g.signal(t, syscall.SIGHUP)
		eventually(t, "a good configuration is live", func() bool { return g.get(t, "/two") == 200 })
		_, failures := g.reloads(t)
		g.write(t, "nonsense = true\n")
		g.signal(t, syscall.SIGHUP)
		eventually(t, "a bad one is counted", func() bool { _, bad := g.reloads(t); return bad > failures })
		if status := g.get(t, "/two"); status != 200 {
			t.Errorf("a bad configuration changed what is served: %d", status)
		}
		if status, body := g.ask(t, "POST", "/reload"); status < 400 || !strings.Contains(body, "nonsense") {
			t.Errorf("reload of a bad configuration: %d %s", status, body)
		}
		g.write(t, runConfig(g.listen, g.admin, service.URL, "/three"))
		if status, body := g.ask(t, "POST", "/reload"); status != 200 || g.get(t, "/three") != 200 {
			t.Errorf("reload of a good configuration: %d %s", status, body)
		}
		g.signal(t, syscall.SIGTERM)
		g.exits(t)
	})
	t.Run("drain", func(t *testing.T) {
		g := startGateway(t, binary, service.URL)
		if status, body := g.ask(t, "POST", "/drain"); status != 202 {
			t.Errorf("drain: %d %s", status, body)
		}
		g.exits(t)
	})
	t.Run("faulty at the start", func(t *testing.T) {
		out, err := exec.Command(binary, "run", "-c", writeConfig(t, "nonsense = true\n")).CombinedOutput()
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != exitFailed || !strings.Contains(string(out), "nonsense") {
			t.Errorf("%v: %s", err, out)
		}
	})
}

func (g *gatewayProcess) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := g.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}
