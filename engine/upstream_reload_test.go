package engine

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// atWork is the goroutines in our own code, tests not counted. Those in which fasthttp waits for another connection
// to serve, or half a minute to close idle ones, are not, and end by themselves.
func atWork() (stacks []string) {
	all := make([]byte, 4<<20)
	for stack := range strings.SplitSeq(string(all[:runtime.Stack(all, true)]), "\n\n") {
		if strings.Contains(stack, "/sluice/engine") && !strings.Contains(stack, "_test.go") {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

// A hundred reloads, each of which gives an upstream with a name, health checks and waiting requests a new pool: what
// worked for the old ones ends, and no request fails. It is alone with its goroutines: no other test runs meanwhile.
func TestReloadsLeaveNothingBehind(t *testing.T) {
	a := startActor(t, saying(200, "well"))
	_, port, _ := net.SplitHostPort(a.address)
	book, loopback := &phonebook{}, "127.0.0.1"
	book.address.Store(&loopback)
	g := &gateway{path: t.TempDir() + "/gateway.toml", address: freeAddress(t), resolver: book}
	tables := func(i int) string {
		const more = "resolve = \"%ds\"\nmax_in_flight = 1\n[upstream.origin.health]\npath = \"/\"\ninterval = \"50ms\"\ntimeout = \"50ms\"\n"
		return strings.Replace(publicRoute("users.internal:"+port), "[[route]]", fmt.Sprintf(more, 1+i)+"[[route]]", 1)
	}
	g.write(t, tables(0))
	g.launch(t, func() uint64 { return 0 })
	waitUntil(t, "the target is checked", func() bool { return a.served.Load() > 1 })
	before := len(atWork())

	var clients sync.WaitGroup
	done := make(chan struct{})
	for range 2 { // one is with the target, and one waits
		clients.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if r, body := g.ask(t, plainGet); r.StatusCode != 200 {
					t.Errorf("%s %s", r.Status, body)
				}
			}
		})
	}
	for i := range 100 {
		g.write(t, tables(1+i))
		if err := g.Reload(); err != nil {
			t.Error(err)
		}
	}
	close(done)
	clients.Wait()
	waitUntil(t, "there are as many goroutines as before", func() bool { return len(atWork()) <= before })
	if before == 0 {
		t.Error("nothing is ever at work")
	}
}
