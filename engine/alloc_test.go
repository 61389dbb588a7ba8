//go:build !race

package engine

import (
	"runtime"
	"strings"
	"testing"
)

// TestAllocations holds the hot path to none: a whole exchange, counted and logged, both sockets and the test's own
// client and origin included.
func TestAllocations(t *testing.T) {
	for _, c := range []struct{ name, upstream, request string }{
		{"a GET through switch, split and strip_prefix", "", usualRequest},
		{"a GET that shares its connection", "pipeline = 32\n", usualRequest},
		{"a small POST, its body sent with the head", "", postRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			tables := destinationTables(rawServer(t, smallAnswer))
			g := startGateway(t, strings.Replace(tables, "targets", c.upstream+"targets", 1))
			client := dial(t, g.address)
			request := []byte(c.request)
			answer := make([]byte, responseSize(t, client, request))
			holdAllocations(t, func() error { return client.exchange(request, answer) })
		})
	}
}

// holdAllocations holds exchanges, once they are warm, to no allocation that comes with each.
func holdAllocations(t *testing.T, exchange func() error) {
	t.Helper()
	run := func(n int) {
		for range n {
			if err := exchange(); err != nil {
				t.Fatal(err)
			}
		}
	}
	run(200)
	const rounds = 2000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	run(rounds)
	runtime.ReadMemStats(&after)
	if per := float64(after.Mallocs-before.Mallocs) / rounds; per > 0.1 {
		t.Errorf("%.2f allocations per request", per)
	}
}

// responseSize makes one exchange and tells how long its answer is: all answers to a request are, but
// for the request id, the same.
func responseSize(t testing.TB, client *rawClient, request []byte) int {
	t.Helper()
	if _, err := client.Write(request); err != nil {
		t.Fatal(err)
	}
	size := 0
	for {
		line, err := client.in.ReadSlice('\n')
		if err != nil {
			t.Fatal(err)
		}
		size += len(line)
		if len(line) == 2 {
			break
		}
	}
	n, err := client.in.Discard(len("hello, world"))
	if err != nil {
		t.Fatal(err)
	}
	return size + n
}

func BenchmarkExchange(b *testing.B) {
	for name, access := range map[string]string{"not logged": "off", "logged to a file": "access.log"} {
		b.Run(name, func(b *testing.B) {
			g := startGateway(b, "[log]\naccess = \""+access+"\"\n"+destinationTables(rawServer(b, smallAnswer)))
			client := dial(b, g.address)
			request := []byte(usualRequest)
			answer := make([]byte, responseSize(b, client, request))
			b.ReportAllocs()
			for b.Loop() {
				if err := client.exchange(request, answer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
