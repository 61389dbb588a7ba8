//go:build !race

package engine

import "testing"

// Requests pay nothing for sharing the way to their buckets with operators.
func TestBucketAllocations(t *testing.T) {
	g := startGateway(t, inspectTables(rawServer(t, smallAnswer)))
	x := inspected(t, g.Engine, "2001:db8::1", "GET / HTTP/1.1\r\nHost: API.example.com:8080\r\nX-Key: abc\r\n\r\n")
	meters := g.snapshot.Load().meters
	if n := testing.AllocsPerRun(100, func() {
		for _, m := range meters {
			x.bucket(m)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
