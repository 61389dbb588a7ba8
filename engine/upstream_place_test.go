package engine

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// An answer without a body is as good a probe as any.
func TestProbesWithoutBody(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ intent, method, answer string }{
		{"HEAD, with a length that is not of this answer", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"},
		{"204", "GET", "HTTP/1.1 204 No Content\r\n\r\n"},
		{"304, with a length likewise", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n"},
		{"a hint before it", "GET", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			t.Parallel()
			a := startActor(t, saying(500, "sick"))
			g := startGateway(t, actorsUpstream("[upstream.origin.breaker]\nmin_requests = 1\nopen_for = \"50ms\"\nprobes = 2", a))
			g.ask(t, plainGet)
			if s := g.upstream().Targets[0]; s.Breaker != "open" {
				t.Fatalf("after a failure: %+v", s)
			}
			a.plays(func(to net.Conn, _ *http.Request) { _, _ = io.WriteString(to, c.answer) })
			client := dial(t, g.address)
			waitUntil(t, "the breaker is closed", func() bool {
				if _, err := io.WriteString(client, c.method+" / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				r, err := http.ReadResponse(client.in, &http.Request{Method: c.method})
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, r.Body)
				return g.upstream().Targets[0].Breaker == "closed"
			})
			if s := g.upstream().Targets[0]; s.Failures != 1 || s.InFlight != 0 || s.Opened != 1 || s.HalfOpened != 1 || s.Closed != 1 {
				t.Errorf("%+v", s)
			}
			figures := scraped(t, g.Metrics())
			for _, state := range []string{"opened", "half_opened", "closed"} {
				if n := sum(figures, "sluice_target_breaker_"+state+"_total"); n != 1 {
					t.Errorf("figure of how often it %s: %v", state, n)
				}
			}
		})
	}
}

// What goes on for long holds its target's place as long.
func TestLongOnesHoldTheirPlace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ intent, request, answer string }{
		{"a tunnel", "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
			"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"},
		{"a stream", plainGet, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"},
		{"a body that stalls", plainGet, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			t.Parallel()
			held, end := make(chan struct{}, 1), make(chan struct{})
			stop := sync.OnceFunc(func() { close(end) })
			defer stop()
			a := startActor(t, func(to net.Conn, _ *http.Request) {
				_, _ = io.WriteString(to, c.answer)
				held <- struct{}{}
				<-end
				to.Close()
			})
			g := startGateway(t, actorsUpstream("max_in_flight = 1\n[upstream.origin.timeouts]\nconnect = \"50ms\"", a))
			client := dial(t, g.address)
			if _, err := io.WriteString(client, c.request); err != nil {
				t.Fatal(err)
			}
			if _, err := bufio.NewReader(client).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			<-held
			if r, body := g.ask(t, plainGet); r.StatusCode != 503 || !strings.Contains(body, `"reason":"upstream_busy"`) {
				t.Errorf("beside it: %s %s", r.Status, body)
			}
			stop()
			client.Close()
			a.plays(saying(200, "well"))
			waitUntil(t, "its place is free", func() bool { return g.upstream().Targets[0].InFlight == 0 })
			if r, body := g.ask(t, plainGet); r.StatusCode != 200 || body != "well" {
				t.Errorf("after it: %s %s", r.Status, body)
			}
		})
	}
}
