package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
)

// A target may be a unix socket: it is forwarded to, checked and left alone like any other.
func TestUpstreamOnUnixSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) })}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	g := startGateway(t, fmt.Sprintf("[upstream.a]\ntargets = [\"unix:%s\"]\n[upstream.a.health]\npath = \"/\"\ninterval = \"50ms\"\ntimeout = \"50ms\"\n", path)+routeToA)
	for _, c := range []struct{ raw, host string }{
		{"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "api.example.com"},
		{"GET / HTTP/1.0\r\n\r\n", "localhost"},
	} {
		if r := g.dial(t).do(c.raw); r.status != 200 || r.body != c.host {
			t.Errorf("%d %q, want %q", r.status, r.body, c.host)
		}
	}
	_ = server.Close()
	r := g.dial(t).do("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	if r.status != 502 && r.status != 503 {
		t.Errorf("without a server: %d", r.status)
	}
}
