package engine

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"
)

// sleepyGateway puts connections to bed almost at once.
func sleepyGateway(t testing.TB, server string) *gateway {
	t.Helper()
	g := &gateway{path: t.TempDir() + "/gateway.toml", address: freeAddress(t), bedtime: 20 * time.Millisecond}
	g.writeServer(t, server, publicRoute(rawServer(t, smallAnswer)))
	g.launch(t, rand.Uint64)
	return g
}

// greet has a request answered, and no more than that.
func (c *rawClient) greet(t testing.TB) {
	t.Helper()
	if err := c.meet(); err != nil {
		t.Fatal(err)
	}
}

func (c *rawClient) meet() error {
	if _, err := io.WriteString(c, usualRequest); err != nil {
		return err
	}
	return c.take()
}

func (c *rawClient) take() error {
	r, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	if body, err := io.ReadAll(r.Body); r.StatusCode != 200 || string(body) != "hello, world" || err != nil || c.in.Buffered() > 0 {
		return fmt.Errorf("%s %q, %w, and %d bytes behind it", r.Status, body, err, c.in.Buffered())
	}
	return nil
}

// lull opens connections, has each of them answered once, and waits until all sleep.
func (g *gateway) lull(t testing.TB, n int) []*rawClient {
	t.Helper()
	clients := make([]*rawClient, n)
	for i := range clients {
		clients[i] = dial(t, g.address)
		clients[i].greet(t)
	}
	g.untilAsleep(t, n)
	return clients
}

func (g *gateway) untilAsleep(t testing.TB, n int) {
	t.Helper()
	eventually(t, func() bool { return int(g.dormitory.asleep.Load()) == n })
}

func (c *rawClient) expectEnd(t testing.TB) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if b, err := c.in.ReadByte(); err != io.EOF && !isReset(err) || isTimeout(err) {
		t.Errorf("%q, %v, want the end", b, err)
	}
}

// TestSleepers: whatever wakes a connection, it goes on as if it had waited.
func TestSleepers(t *testing.T) {
	const long = "idle_timeout = \"1h\"\n"
	for _, c := range []struct {
		intent, server string
		sleepers       int
		event          func(t *testing.T, g *gateway, clients []*rawClient)
		ends           bool
	}{
		{"a request", long, 1, func(t *testing.T, g *gateway, clients []*rawClient) {
			for range 3 {
				clients[0].greet(t)
				g.untilAsleep(t, 1)
			}
		}, false},
		{"two requests at once", long, 1, func(t *testing.T, _ *gateway, clients []*rawClient) {
			if _, err := io.WriteString(clients[0], usualRequest+usualRequest); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				r, err := http.ReadResponse(clients[0].in, nil)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, r.Body)
			}
		}, false},
		{"a request in two parts", long, 1, func(t *testing.T, g *gateway, clients []*rawClient) {
			_, _ = io.WriteString(clients[0], usualRequest[:9])
			g.untilAsleep(t, 0)
			_, _ = io.WriteString(clients[0], usualRequest[9:])
			if err := clients[0].take(); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"one of many", long, 20, func(t *testing.T, g *gateway, clients []*rawClient) {
			clients[7].greet(t)
			g.untilAsleep(t, 20)
		}, false},
		{"its client leaves", long, 2, func(_ *testing.T, _ *gateway, clients []*rawClient) {
			for _, c := range clients {
				_ = c.Conn.(*net.TCPConn).CloseWrite()
			}
		}, true},
		{"... with a reset", long, 2, func(_ *testing.T, _ *gateway, clients []*rawClient) {
			for _, c := range clients {
				_ = c.Conn.(*net.TCPConn).SetLinger(0)
				c.Close()
			}
		}, true},
		{"idle_timeout", "idle_timeout = \"1s\"\n", 3, func(*testing.T, *gateway, []*rawClient) {}, true},
		{"a reload that shortens it", long, 2, func(t *testing.T, g *gateway, _ []*rawClient) {
			g.writeServer(t, "idle_timeout = \"100ms\"\n", publicRoute("127.0.0.1:1"))
			if err := g.Reload(); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"all are closed", long, 20, func(_ *testing.T, g *gateway, _ []*rawClient) { g.conns.closeAll() }, true},
		{"the silent are closed", long, 20, func(_ *testing.T, g *gateway, _ []*rawClient) {
			g.conns.closeIdle(time.Now(), 0)
		}, true},
		{"a drain", long, 20, func(t *testing.T, g *gateway, _ []*rawClient) {
			if cut := g.Drain(context.Background()); cut != 0 {
				t.Errorf("%d connections were cut", cut)
			}
		}, true},
	} {
		t.Run(c.intent, func(t *testing.T) {
			g := sleepyGateway(t, c.server)
			clients := g.lull(t, c.sleepers)
			if n := g.conns.count(); n != c.sleepers {
				t.Errorf("%d connections are open, want %d", n, c.sleepers)
			}
			c.event(t, g, clients)
			if !c.ends {
				g.untilAsleep(t, c.sleepers)
				return
			}
			eventually(t, func() bool { return g.conns.count() == 0 && g.dormitory.asleep.Load() == 0 })
			if c.intent == "... with a reset" {
				return
			}
			for _, client := range clients {
				client.expectEnd(t)
			}
		})
	}
}

// TestSleepersCount: who sleeps is connected, as max_connections has it.
func TestSleepersCount(t *testing.T) {
	g := sleepyGateway(t, "idle_timeout = \"1h\"\nmax_connections = 3\n")
	g.lull(t, 3)
	client := dial(t, g.address)
	if r, err := http.ReadResponse(client.in, nil); err != nil || r.StatusCode != 503 {
		t.Errorf("one too many: %v, %v", r, err)
	}
}

// TestNotTooEarly: who sleeps has the whole of idle_timeout.
func TestNotTooEarly(t *testing.T) {
	g := sleepyGateway(t, "idle_timeout = \"700ms\"\n")
	client := dial(t, g.address)
	for range 2 {
		client.greet(t)
		g.untilAsleep(t, 1)
	}
	client.greet(t)
	since := time.Now() // not before the silence begins, but for what the answer was on its way
	client.expectEnd(t)
	if took := time.Since(since); took < 690*time.Millisecond {
		t.Errorf("closed after %v", took)
	}
}

// TestExpire: the time of each is told by its clock and by what idle_timeout is now, whoever came between.
func TestExpire(t *testing.T) {
	g := sleepyGateway(t, "idle_timeout = \"1h\"\n")
	clients := g.lull(t, 3)
	now := time.Now().Add(time.Minute)
	clients[1].greet(t)
	g.untilAsleep(t, 3)
	g.conns.expire(now, time.Hour)
	if n := g.dormitory.asleep.Load(); n != 3 {
		t.Errorf("%d of 3 are left before their time", n)
	}
	g.conns.expire(now, time.Minute)
	if n := g.dormitory.asleep.Load(); n != 1 {
		t.Errorf("%d are left, want the one that has spoken since", n)
	}
	clients[0].greet(t) // to be woken is not to be closed
	g.untilAsleep(t, 2)
	g.conns.expire(now.Add(time.Hour), time.Minute)
	if n, open := g.dormitory.asleep.Load(), g.conns.count(); n != 0 || open != 3 {
		t.Errorf("%d are left, and %d of 3 connections are open", n, open)
	}
}

// TestSleepLosesNothing: requests come at all moments of going to bed and getting up, and each is answered once.
func TestSleepLosesNothing(t *testing.T) {
	g := sleepyGateway(t, "idle_timeout = \"1h\"\n")
	const clients, requests = 8, 150
	var all sync.WaitGroup
	for i := range clients {
		client, random := dial(t, g.address), rand.New(rand.NewPCG(1, uint64(i)))
		all.Go(func() {
			for range requests {
				_ = client.SetDeadline(time.Now().Add(10 * time.Second))
				if err := client.meet(); err != nil {
					t.Error(err)
					return
				}
				time.Sleep(g.bedtime - 2*time.Millisecond + time.Duration(random.IntN(4000))*time.Microsecond)
			}
		})
	}
	all.Wait()
	g.untilAsleep(t, clients)
}

// TestStorm: all are woken at once, and each is answered exactly once.
func TestStorm(t *testing.T) {
	g := sleepyGateway(t, "idle_timeout = \"1h\"\n")
	clients := g.lull(t, 800)
	for range 3 {
		for _, c := range clients {
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
			if _, err := io.WriteString(c, usualRequest); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range clients {
			if err := c.take(); err != nil {
				t.Fatal(err)
			}
		}
		g.untilAsleep(t, len(clients))
	}
	for _, c := range clients {
		_ = c.Conn.(*net.TCPConn).CloseWrite()
		c.expectEnd(t)
	}
	eventually(t, func() bool { return g.conns.count() == 0 })
}

// TestSleepersHaveNoGoroutine: nor leave they one behind.
func TestSleepersHaveNoGoroutine(t *testing.T) {
	g := sleepyGateway(t, "idle_timeout = \"1h\"\n")
	g.lull(t, 1)[0].Close()
	eventually(t, func() bool { return g.conns.count() == 0 })
	before := runtime.NumGoroutine()
	clients := g.lull(t, 300)
	eventually(t, func() bool { return runtime.NumGoroutine() <= before+20 }) // fasthttp keeps its own for a while
	for _, c := range clients {
		c.Close()
	}
	eventually(t, func() bool { return g.conns.count() == 0 && runtime.NumGoroutine() <= before+20 })
}

// TestMemoryIsGivenBack: once for as many as went to sleep, and not while nobody else does.
func TestMemoryIsGivenBack(t *testing.T) {
	g := sleepyGateway(t, "idle_timeout = \"1h\"\n")
	forced := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumForcedGC
	}
	before := forced()
	g.lull(t, g.dormitory.many)
	eventually(t, func() bool { return forced() >= before+2 })
	<-time.After(10 * g.bedtime)
	if n := forced() - before; n != 2 {
		t.Errorf("%d collections, want 2", n)
	}
}

// TestSleepWithTLS: what TLS has read of a record is not forgotten, and the rest of it wakes.
func TestSleepWithTLS(t *testing.T) {
	g := &gateway{path: t.TempDir() + "/gateway.toml", address: freeAddress(t), bedtime: 200 * time.Millisecond}
	cert, key := certificateFiles(t)
	address := freeAddress(t)
	g.writeServer(t, fmt.Sprintf("idle_timeout = \"1h\"\n[server.tls]\nlisten = [%q]\ncertificates = [{ cert = %q, key = %q }]\n", address, cert, key),
		publicRoute(rawServer(t, smallAnswer)))
	g.launch(t, rand.Uint64)
	socket := &halving{Conn: dial(t, address).Conn}
	secure := tls.Client(socket, &tls.Config{InsecureSkipVerify: true}) // #nosec G402 -- any certificate will do
	client := &rawClient{Conn: secure, in: bufio.NewReader(secure)}
	client.greet(t)
	for range 2 {
		g.untilAsleep(t, 1)
		client.greet(t)
	}
	socket.halve = true
	if _, err := io.WriteString(client, usualRequest); err != nil {
		t.Fatal(err)
	}
	g.untilAsleep(t, 1)
	if _, err := socket.Conn.Write(socket.rest); err != nil {
		t.Fatal(err)
	}
	if err := client.take(); err != nil {
		t.Fatal(err)
	}
	socket.halve = false
	g.untilAsleep(t, 1)
	_ = client.Close()
	eventually(t, func() bool { return g.conns.count() == 0 })
}

// halving holds half of what is written back, if it is to.
type halving struct {
	net.Conn
	halve bool
	rest  []byte
}

func (h *halving) Write(p []byte) (int, error) {
	if !h.halve {
		return h.Conn.Write(p)
	}
	h.rest = append(h.rest, p[len(p)/2:]...)
	_, err := h.Conn.Write(p[:len(p)/2])
	return len(p), err
}

// TestNoSocketNoSleep: what no epoll can wait for waits on its goroutine.
func TestNoSocketNoSleep(t *testing.T) {
	g := sleepyGateway(t, "idle_timeout = \"1s\"\n")
	near, far := net.Pipe()
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = g.drive(lent{newConn(g.Engine, far, nil)})
	}()
	_ = near.SetDeadline(time.Now().Add(10 * time.Second))
	client := &rawClient{Conn: near, in: bufio.NewReader(near)}
	client.greet(t)
	<-time.After(2 * g.bedtime)
	client.greet(t)
	<-served // after idle_timeout
	client.expectEnd(t)
}
