package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine"
)

// process is a real server that can be stopped and killed: nginx, which answers as a moody target does.
type process struct {
	t       testing.TB
	prefix  string
	address string
	command *exec.Cmd
}

func newProcess(t testing.TB) *process {
	p := &process{t: t, prefix: t.TempDir(), address: freeAddress(t)}
	text := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr crit;
events { worker_connections 256; }
http { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f;
uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
server { listen %[2]s; location / { add_header X-Name process; add_header X-Nonce $http_x_nonce; return 200 "$http_x_nonce "; } } }
`, p.prefix, p.address)
	if err := os.WriteFile(filepath.Join(p.prefix, "nginx.conf"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start()
	t.Cleanup(p.kill)
	return p
}

func (p *process) start() {
	p.t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		path = "/usr/sbin/nginx"
	}
	p.command = exec.Command(path, "-p", p.prefix, "-e", "stderr", "-c", filepath.Join(p.prefix, "nginx.conf"))
	if err := p.command.Start(); err != nil {
		p.t.Fatal(err)
	}
	eventually(p.t, "the process listens", func() bool {
		c, err := net.DialTimeout("tcp", p.address, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func (p *process) kill() {
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
}

func (p *process) signal(s syscall.Signal) { _ = p.command.Process.Signal(s) }

// leftAlone says whether a target gets no requests, for whatever reason.
func leftAlone(s engine.TargetStatus) bool { return s.Breaker == "open" || !s.Present }

// A process that is killed costs no request, and gets its share again once it has been started again.
func TestUpstreamKilledProcess(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	_, urls := startMoodies(t, 2)
	g := startGateway(t, moodyUpstream(fmt.Sprintf("\"http://%s\", %s", p.address, urls), `
[upstream.a.breaker]
min_requests = 10
open_for = "1s"
`))
	if r := g.load(t, 4, 300); r.failed() > 0 || r.names["process"] == 0 {
		t.Fatal(r)
	}
	for range 3 {
		done := make(chan *tally)
		go func() { done <- g.load(t, 4, 2000) }()
		time.Sleep(20 * time.Millisecond)
		p.kill()
		if r := within(t, "the load", done); r.failed() > 2 {
			t.Errorf("while the process was killed: %v", r)
		}
		eventually(t, "the gateway leaves it alone", func() bool {
			_ = g.load(t, 4, 20)
			return leftAlone(g.targetOf(t, p.address))
		})
		if r := g.load(t, 4, 1000); r.failed() > 1 || r.names["process"] > 0 {
			t.Errorf("without the process: %v", r)
		}
		p.start()
		eventually(t, "it is trusted again", func() bool {
			r := g.load(t, 1, 20)
			return r.names["process"] > 0 && isClosed(g.targetOf(t, p.address))
		})
	}
}

// A process that is stopped accepts connections and answers nothing. Requests that meet it until it is left alone
// are late, and answered by another target, as it does no harm to ask again.
func TestUpstreamStoppedProcess(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	_, urls := startMoodies(t, 2)
	g := startGateway(t, moodyUpstream(fmt.Sprintf("\"http://%s\", %s", p.address, urls), `
[upstream.a.timeouts]
connect = "200ms"
response = "200ms"
[upstream.a.breaker]
min_requests = 4
open_for = "5s"
`))
	p.signal(syscall.SIGSTOP)
	t.Cleanup(func() { p.signal(syscall.SIGCONT) })
	eventually(t, "the stopped target is left alone", func() bool {
		if r := g.load(t, 4, 20); r.failed() > 0 {
			t.Errorf("until it was left alone: %v", r)
		}
		return leftAlone(g.targetOf(t, p.address))
	})
	if r := g.load(t, 4, 2000); r.failed() > 2 {
		t.Errorf("with a stopped target: %v", r)
	}
	p.signal(syscall.SIGCONT)
	eventually(t, "it is trusted again", func() bool {
		r := g.load(t, 1, 20)
		return r.names["process"] > 0 && isClosed(g.targetOf(t, p.address))
	})
	if r := g.load(t, 4, 500); r.failed() > 0 {
		t.Errorf("after it was continued: %v", r)
	}
}

// A target that is killed and started again every second under load costs idempotent requests nothing, in time
// neither.
func TestUpstreamRestartingProcess(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	_, urls := startMoodies(t, 2)
	g := startGateway(t, moodyUpstream(fmt.Sprintf("\"http://%s\", %s", p.address, urls), ""))
	load := startPour(t, g, 8, 4*time.Millisecond)
	defer load.stop()
	began := time.Now()
	time.Sleep(time.Second)
	first := time.Now()
	for i := range 6 {
		p.signal([]syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}[i%2])
		_ = p.command.Wait()
		p.start()
		time.Sleep(time.Second)
	}
	load.stop()
	before, during := load.between(began, first), load.between(first, time.Now())
	t.Logf("before %v\nduring %v, served by %v", before, during, load.total.names)
	if n := during.failed(); n > len(during)/1000 || load.total.names["process"] < len(during)/100 {
		t.Errorf("of %d requests %d failed: %v, served by %v", len(during), n, during, load.total.names)
	}
	if slow, most := during.quantile(0.99), calm(before); slow > most {
		t.Errorf("p99 of %v, want at most %v", slow, most)
	}
}
