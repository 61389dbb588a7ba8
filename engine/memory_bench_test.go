//go:build !race

package engine

import (
	"bufio"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/valyala/fasthttp/fasthttputil"
)

// BenchmarkExchangeInMemory is a whole exchange on a client connection in memory: what is left is our own work, which
// the kernel's part would hide a loss of. A target has to be a socket; here it is the cheapest there is.
func BenchmarkExchangeInMemory(b *testing.B) {
	target := "unix:" + unixServer(b, smallAnswer)
	full, key, token := fullTables(b, target, "per-client")
	refusing, again, _ := fullTables(b, target, "refusing")
	quiet := "[log]\naccess = \"off\"\n"
	for _, c := range []struct {
		name, tables string
		request      []byte
	}{
		{"forwarded", quiet + destinationTables(target), []byte(usualRequest)},
		{"refused", quiet + limitedTables(target, "1"), []byte(usualRequest)},
		{"full, by key", full, usualAs("/key/42", "X-API-Key: "+key)},
		{"full, by token", full, usualAs("/token/42", "Authorization: Bearer "+token)},
		{"full, refused", refusing, usualAs("/key/42", "X-API-Key: "+again)},
	} {
		b.Run(c.name, func(b *testing.B) {
			g := startGateway(b, strings.ReplaceAll(c.tables, "http://unix:", "unix:"))
			client, request := g.inMemory(b), c.request
			b.ReportAllocs()
			for b.Loop() {
				if err := client.discardAnswer(request); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// inMemory is a client of the gateway on a connection that the kernel knows nothing of.
func (g *gateway) inMemory(t testing.TB) *rawClient {
	t.Helper()
	pipe := fasthttputil.NewPipeConns()
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.attend(newConn(g.Engine, pipe.Conn1(), nil))
	}()
	near := pipe.Conn2()
	t.Cleanup(func() {
		_ = near.Close()
		<-done
	})
	return &rawClient{Conn: near, in: bufio.NewReader(near)}
}

// unixServer answers every request without a body with the same bytes, until the test ends.
func unixServer(t testing.TB, answer string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "target")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go answerAll(l, answer)
	return path
}
