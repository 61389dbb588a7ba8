//go:build !race

package engine

import (
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"
	"time"
)

// TestIdleMemory: a connection that waits for its next request holds no buffers, and no stack for long.
func TestIdleMemory(t *testing.T) {
	const connections = 500
	g := &gateway{path: t.TempDir() + "/gateway.toml", address: freeAddress(t), bedtime: time.Second}
	// Chunks of the access log, each made when it is first needed, would be counted as the connections'.
	g.write(t, "[log]\naccess = \"off\"\n"+publicRoute(rawServer(t, smallAnswer)))
	g.launch(t, rand.Uint64)
	held := func() (heap, stacks int) {
		runtime.GC()
		runtime.GC() // what pools hold is gone after two
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc), int(m.StackInuse)
	}
	request := []byte(usualRequest)
	answer := make([]byte, responseSize(t, dial(t, g.address), request))
	before, stacks := held()
	clients := make([]net.Conn, connections)
	for i := range clients {
		c, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
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
	if heap, _ := held(); (heap-before)/connections > 4<<10 { // before may be more: what other tests left goes late
		t.Errorf("%d bytes of heap for each idle connection", (heap-before)/connections)
	}
	waitUntil(t, "all sleep", func() bool { return g.dormitory.asleep.Load() == connections+1 })
	// fasthttp rids itself of goroutines that have nothing to do after a while.
	var heap, in int
	waitUntil(t, "their stacks are free", func() bool {
		heap, in = held()
		return in < stacks+connections<<10
	})
	// 1.6 to 2 KiB as a rule; the goroutines that are gone, and are kept for later ones, differ from run to run.
	if per := (heap - before) / connections; per > 5<<9 {
		t.Errorf("%d bytes of heap for each sleeping connection", per)
	}
}
