//go:build !race

package engine

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"
)

// TestIdleMemory: a connection that waits for its next request holds no buffers.
func TestIdleMemory(t *testing.T) {
	const connections = 500
	g := startGateway(t, publicRoute(rawServer(t, smallAnswer)))
	held := func() uint64 {
		runtime.GC()
		runtime.GC() // what pools hold is gone after two
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	request := []byte(usualRequest)
	answer := make([]byte, responseSize(t, dial(t, g.address), request))
	before := held()
	clients := make([]net.Conn, connections)
	for i := range clients {
		c, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, answer); err != nil {
			t.Fatal(err)
		}
		clients[i] = c
	}
	waitUntil(t, "all are idle", func() bool {
		g.conns.mu.Lock()
		defer g.conns.mu.Unlock()
		for c := range g.conns.open {
			if c.idleSince.Load() == 0 {
				return false
			}
		}
		return true
	})
	// Both ends of a connection are counted.
	if per := (held() - before) / connections; per > 4<<10 {
		t.Errorf("%d bytes of heap for each idle connection", per)
	}
}
