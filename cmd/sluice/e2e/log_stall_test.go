package e2e

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// says waits until the gateway's log holds a text: its lines are written soon after what they tell of.
func (g *gateway) says(t testing.TB, text string) {
	t.Helper()
	eventually(t, "the log says "+text, func() bool { return strings.Contains(g.log.String(), text) })
}

// Whoever reads the gateway's own log may stop to. A client whose requests fail makes lines of it: requests and reloads
// go on all the same, lines are lost, and when he reads again he is told.
func TestLogStalls(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, func(r *request) string {
		if r.path == "/bad" {
			return "HTTP/1.1 999 Nonsense\r\n\r\n"
		}
		return ok(r)
	})
	g := newGateway(t, toService(up.url(), "[upstream.up.breaker]\nmin_requests = 1000000", ""))
	path := filepath.Join(g.dir, "stderr")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	fifo, err := os.OpenFile(path, os.O_RDWR, 0) // both ends: nobody waits for the other
	if err != nil {
		t.Fatal(err)
	}
	defer fifo.Close()
	g.through = []string{"sh", "-c", `exec "$@" 2>stderr`, "sh"}
	g.start()
	const n = 1400 // a line each at least: more than a pipe and the gateway have room for
	for range n {
		if status := g.answers(t, "/bad"); status != 502 {
			t.Fatalf("answered %d", status)
		}
	}
	if status, body := g.postReload(t); status != 200 {
		t.Errorf("reload: %d %s", status, body)
	}
	told := make(chan struct{})
	go func() {
		defer close(told)
		for in := bufio.NewScanner(fifo); in.Scan(); {
			if strings.Contains(in.Text(), "standard error did not keep up") {
				break
			}
		}
	}()
	eventually(t, "that is said", func() bool {
		select {
		case <-told:
			return true
		default:
			return false
		}
	})
	g.signal(syscall.SIGTERM)
	if code := g.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
