package upstream

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/socket"
)

const laneRequest = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"

// echoes answers requests on a socket, as many at once as have come.
func echoes(c net.Conn) {
	defer c.Close()
	in, answers := make([]byte, 64<<10), bytes.Repeat([]byte(plainAnswer), 4096)
	have := 0
	for {
		n, err := c.Read(in[have:])
		if err != nil {
			return
		}
		have += n
		whole := have / len(laneRequest)
		have -= whole * len(laneRequest)
		if _, err := c.Write(answers[:whole*len(plainAnswer)]); err != nil {
			return
		}
	}
}

// tallied is a socket that counts its system calls.
type tallied struct {
	*socket.Conn
	reads, writes *atomic.Int64
}

func (c tallied) Read(b []byte) (int, error) { c.reads.Add(1); return c.Conn.Read(b) }

func (c tallied) Write(b []byte) (int, error) { c.writes.Add(1); return c.Conn.Write(b) }

// sockets lends counted connections to an address.
type sockets struct {
	address       string
	poller        *socket.Poller
	buffers       readers
	reads, writes atomic.Int64
}

func (s *sockets) Acquire(time.Time) (*Conn, error) {
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		return nil, err
	}
	below, err := s.poller.Adopt(c)
	if err != nil {
		return nil, err
	}
	return newConn(tallied{below, &s.reads, &s.writes}, below, &s.buffers), nil
}

func (s *sockets) Release(l Lease) { s.Discard(l) }

func (s *sockets) Discard(l Lease) {
	c := l.(*Conn)
	_ = c.Conn.Close()
	c.reset()
}

// startLanes gives lanes to a server that answers at once.
func startLanes(t testing.TB, depth int) (*lanes, *sockets) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go echoes(c)
		}
	}()
	s := &sockets{address: l.Addr().String(), poller: startPoller(t)}
	var work sync.WaitGroup
	all := newLanes(s, &Config{Pipeline: depth, MaxIdle: 1, Epoch: time.Now(), Timeouts: Timeouts{Connect: time.Second, Response: 5 * time.Second}}, &work, nil)
	t.Cleanup(func() {
		all.retire()
		work.Wait()
		l.Close()
	})
	return all, s
}

// exchange is one request and its answer by a place, as the engine makes it.
func (s *lanes) exchange(spread uint32, request, body []byte) error {
	p := s.place(spread)
	if p == nil {
		return ErrMoved
	}
	r, err := p.Ask(request, false, time.Time{})
	if err != nil {
		return err
	}
	if !p.Whole() || r.Status.Code != 200 {
		return fmt.Errorf("not whole, or %d", r.Status.Code)
	}
	if n, err := r.Body.Read(body); n != 2 || err != nil {
		return fmt.Errorf("%d bytes of body, %w", n, err)
	}
	if _, err := r.Body.Read(body); err != io.EOF {
		return fmt.Errorf("the body does not end: %w", err)
	}
	p.end(nil, p.Reusable())
	return nil
}

// flood makes n exchanges from so many clients.
func (s *lanes) flood(t testing.TB, clients, n int) {
	var next atomic.Int64
	var running sync.WaitGroup
	for i := range clients {
		running.Go(func() {
			request, body := []byte(laneRequest), make([]byte, 16)
			for next.Add(1) <= int64(n) {
				if err := s.exchange(uint32(i), request, body); err != nil && err != ErrMoved {
					t.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
}

// TestLaneCoalesces: many who ask at once share system calls. How many do depends on the machine's mood: four to a
// call is what is held here, as a client alone needs a call of each kind.
func TestLaneCoalesces(t *testing.T) {
	all, s := startLanes(t, 64)
	all.flood(t, 64, 20_000)
	answered := 20_000 - int64(all.credit.moved.Load())
	reads, writes := s.reads.Load(), s.writes.Load()
	t.Logf("%d exchanges, %d reads, %d writes", answered, reads, writes)
	if writes*4 > answered || reads*4 > answered*2 {
		t.Errorf("%d exchanges took %d reads, of which half may find nothing, and %d writes", answered, reads, writes)
	}
}

// BenchmarkLane is an exchange with a target that answers at once, its own work included, by lanes and by connections
// of their own.
func BenchmarkLane(b *testing.B) {
	for _, clients := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			all, s := startLanes(b, 64)
			all.flood(b, clients, 1000)
			s.reads.Store(0)
			s.writes.Store(0)
			b.ReportAllocs()
			b.ResetTimer()
			all.flood(b, clients, b.N)
			b.ReportMetric(float64(s.reads.Load())/float64(b.N), "reads/op")
			b.ReportMetric(float64(s.writes.Load())/float64(b.N), "writes/op")
		})
	}
}
