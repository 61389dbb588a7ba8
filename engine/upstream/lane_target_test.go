package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestLaneTargets: lanes to real servers, plain, over TLS and on a unix socket: many requests share few connections,
// each has its answer, and CloseIdle leaves nothing behind.
func TestLaneTargets(t *testing.T) {
	for _, kind := range []string{"tcp", "tls", "unix"} {
		t.Run(kind, func(t *testing.T) {
			var opened atomic.Int64
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, r.Header.Get("X-Nonce"))
			}))
			server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
				if s == http.StateNew {
					opened.Add(1)
				}
			}
			c := Config{Name: "u", MaxIdle: 4, Pipeline: 32, Poller: startPoller(t), Epoch: time.Now(), Timeouts: Timeouts{Connect: 5 * time.Second, Response: 5 * time.Second}}
			target := TargetConfig{Weight: 1}
			switch kind {
			case "unix":
				path := filepath.Join(t.TempDir(), "s")
				l, err := net.Listen("unix", path)
				if err != nil {
					t.Fatal(err)
				}
				_ = server.Listener.Close()
				server.Listener = l
				server.Start()
				target.Address = "unix:" + path
			case "tls":
				server.StartTLS()
				roots := x509.NewCertPool()
				roots.AddCert(server.Certificate())
				c.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
				target.Address, target.TLS = server.Listener.Addr().String(), true
			default:
				server.Start()
				target.Address = server.Listener.Addr().String()
			}
			defer server.Close()
			c.Targets = []TargetConfig{target}
			p, err := New(c)
			if err != nil {
				t.Fatal(err)
			}
			shareLanes(t, p.Targets()[0])
			if n := opened.Load(); n > int64(runtime.GOMAXPROCS(0)) && p.Targets()[0].Counts().Moved == 0 {
				t.Errorf("%d connections", n)
			}
			waitFor(t, func() bool { open, idle := p.Targets()[0].Connections(); return idle == open && open > 0 })
			p.CloseIdle()
			if open, _ := p.Targets()[0].Connections(); open != 0 {
				t.Errorf("%d connections are left", open)
			}
			place := p.Targets()[0].Place(0)
			if _, err := place.Ask(request("GET", "n"), false, time.Time{}); err != ErrMoved {
				t.Errorf("a retired target: %v", err)
			}
		})
	}
}

// shareLanes makes many requests of a target at once. Those that a slow machine moves are not asked once more.
func shareLanes(t *testing.T, target *Target) {
	var work sync.WaitGroup
	var good atomic.Int64
	for i := range 16 {
		work.Go(func() {
			for j := range 20 {
				p, nonce := target.Place(uint32(i)), fmt.Sprintf("n%d-%d", i, j)
				if p == nil {
					continue
				}
				r, err := p.Ask(request("GET", nonce), false, time.Time{})
				if err == ErrMoved {
					target.Discard(p)
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if body, err := io.ReadAll(&r.Body); string(body) != nonce || err != nil {
					t.Errorf("%s: %q, %v", nonce, body, err)
				}
				target.Release(p)
				good.Add(1)
			}
		})
	}
	work.Wait()
	if good.Load() == 0 {
		t.Error("nobody was answered in a lane")
	}
}
