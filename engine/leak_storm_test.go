package engine

import (
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestStormLeavesNothing: after clients that send half and wrong requests and leave in every way, and a target that
// dies in the middle of answers that share its connections, no goroutine is left that works for any of them.
func TestStormLeavesNothing(t *testing.T) {
	var asked atomic.Int64
	var dead atomic.Bool
	target := startActor(t, func(c net.Conn, _ *http.Request) {
		switch n := asked.Add(1); {
		case dead.Load() || n%5 == 0:
			_ = c.Close()
		case n%5 == 4:
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
			_ = c.Close()
		case n%5 == 2:
			time.Sleep(30 * time.Millisecond) // those behind it are moved
			fallthrough
		default:
			_, _ = io.WriteString(c, smallAnswer)
		}
	})
	const upstream = "pipeline = 8\nmax_idle_connections = 1\n[upstream.origin.breaker]\nmin_requests = 1000000\n"
	g := startGateway(t, actorsUpstream(upstream, target))
	storm := func(connections int) {
		var all sync.WaitGroup
		for i := range 25 {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			all.Go(func() {
				for range connections / 25 {
					g.molest(t, random)
				}
			})
		}
		all.Wait()
	}
	first := dial(t, g.address)
	first.ask(t, "GET /") // what is begun once
	first.Close()
	before, _ := ours()
	storm(400)
	dead.Store(true)
	storm(100)
	eventually(t, func() bool { return g.conns.count() == 0 })
	// A target has a cleaner of its connections, and a lane that is idle two goroutines; those of fasthttp that have
	// nothing to do any more go after a second or two.
	most := before + 1 + 2*runtime.GOMAXPROCS(0)
	left, stacks := 0, ""
	defer func() {
		if t.Failed() {
			t.Logf("%d goroutines are left, of %d before and %d at most:\n%s", left, before, most, stacks)
		}
	}()
	eventually(t, func() bool { left, stacks = ours(); return left <= most })
}

// molest makes a connection, sends something on it that may be wrong or half of it, and leaves it in some way.
func (g *gateway) molest(t testing.TB, random *rand.Rand) {
	requests := []string{
		usualRequest, plainGet, plainGet + plainGet + plainGet, plainGet + "GARBAGE\r\n\r\n", "\x16\x03\x01\x02", "GET / HTTP/9.9\r\n\r\n", "GET /",
		"GET / HTTP/1.1\r\nHost: h\r\nX: ", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf of it",
		"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n", "",
	}
	c, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Duration(random.IntN(60)) * time.Millisecond))
	_, _ = io.WriteString(c, requests[random.IntN(len(requests))])
	switch random.IntN(4) {
	case 0: // at once
	case 1:
		_ = c.(*net.TCPConn).SetLinger(0)
	case 2:
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	default:
		_, _ = io.Copy(io.Discard, c)
	}
}

// ours is the goroutines that work for the gateway, and not for its test.
func ours() (n int, stacks string) {
	b := make([]byte, 4<<20)
	var all []string
	for _, stack := range strings.Split(string(b[:runtime.Stack(b, true)]), "\n\n") {
		if !strings.Contains(stack, "_test.go") {
			all = append(all, stack)
		}
	}
	return len(all), strings.Join(all, "\n\n")
}
