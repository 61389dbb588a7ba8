package socket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
)

// startPoller starts a poller, which ends with the test.
func startPoller(t testing.TB) *Poller {
	t.Helper()
	p, err := NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	p.Start()
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// both is a connection between two Conns.
func both(t testing.TB, p *Poller, network string) (one, other *Conn) {
	t.Helper()
	near, far := ends(t, network)
	one, err := p.Adopt(near)
	if err == nil {
		other, err = p.Adopt(far)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = one.Close(), other.Close() })
	return one, other
}

// TestNothingIsMissed: who reads all there is and waits for more hears of it, however that falls in with what comes: each
// of many pairs asks and answers in turn, in pieces, through buffers of any size; a wait for ever would outlast the
// deadline.
func TestNothingIsMissed(t *testing.T) {
	for _, processors := range []int{1, 2, 4} {
		t.Run(strconv.Itoa(processors), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(processors))
			p := startPoller(t)
			var talks sync.WaitGroup
			for i := range uint64(32) {
				one, other := both(t, p, []string{"tcp", "unix"}[i%2])
				for _, c := range []*Conn{one, other} {
					_ = c.SetDeadline(time.Now().Add(60 * time.Second))
				}
				talks.Go(func() { answerAll(t, other, rand.New(rand.NewPCG(i, 1))) })
				talks.Go(func() { askAll(t, one, rand.New(rand.NewPCG(i, 2))) })
			}
			talks.Wait()
		})
	}
}

// askAll sends messages, each with its length before it, and wants them back; at the end, that of the stream.
func askAll(t *testing.T, c *Conn, r *rand.Rand) {
	buffer := make([]byte, 8<<10)
	for range 300 {
		message := binary.BigEndian.AppendUint32(nil, r.Uint32N(2000))
		for n := binary.BigEndian.Uint32(message); n > 0; n-- {
			message = append(message, byte(n))
		}
		for rest := message; len(rest) > 0; {
			n := 1 + r.IntN(len(rest))
			if _, err := c.Write(rest[:n]); err != nil {
				t.Error(err)
				return
			}
			rest = rest[n:]
		}
		for rest := message[4:]; len(rest) > 0; {
			n, err := c.Read(buffer[:1+r.IntN(len(buffer))])
			if err != nil || n > len(rest) || !bytes.Equal(buffer[:n], rest[:n]) {
				t.Errorf("%d bytes, %v", n, err)
				return
			}
			rest = rest[n:]
		}
	}
	if err := c.CloseWrite(); err != nil {
		t.Error(err)
	}
	if n, err := c.Read(buffer); n != 0 || err != io.EOF {
		t.Errorf("at the end %d bytes, %v", n, err)
	}
}

// answerAll sends messages back, and closes at the end of the stream, which may come with the last of them.
func answerAll(t *testing.T, c *Conn, r *rand.Rand) {
	defer c.Close()
	var in []byte
	buffer := make([]byte, 4<<10)
	for {
		n, err := c.Read(buffer[:1+r.IntN(len(buffer))])
		if err == io.EOF && len(in) == 0 {
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
		in = append(in, buffer[:n]...)
		for len(in) >= 4 {
			n := 4 + int(binary.BigEndian.Uint32(in))
			if len(in) < n {
				break
			}
			if _, err := c.Write(in[4:n]); err != nil {
				t.Error(err)
				return
			}
			in = in[n:]
		}
	}
}

// TestLastWordsAndEnd: an end that comes along with the last bytes is found after them.
func TestLastWordsAndEnd(t *testing.T) {
	p := startPoller(t)
	for range 300 {
		one, other := both(t, p, "tcp")
		_ = one.SetReadDeadline(time.Now().Add(20 * time.Second))
		go func() {
			_, _ = other.Write([]byte("bye"))
			_ = other.Close()
		}()
		if got, err := io.ReadAll(one); string(got) != "bye" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

// TestWaitEnds: a read and a write that wait end with their deadline, also one that is set meanwhile, and with the
// connection, also when all of that happens at once.
func TestWaitEnds(t *testing.T) {
	p := startPoller(t)
	full := make([]byte, 8<<20)
	for _, c := range []struct {
		intent string
		end    func(c *Conn)
		want   error
	}{
		{"by a deadline that is set meanwhile", func(c *Conn) { _ = c.SetDeadline(time.Now().Add(time.Millisecond)) }, os.ErrDeadlineExceeded},
		{"by one that has passed", func(c *Conn) { _ = c.SetDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		{"by one that is moved closer", func(c *Conn) {
			_ = c.SetDeadline(time.Now().Add(time.Hour))
			_ = c.SetDeadline(time.Now().Add(time.Millisecond))
		}, os.ErrDeadlineExceeded},
		{"by closing", func(c *Conn) { _ = c.Close() }, net.ErrClosed},
		{"by both", func(c *Conn) {
			go func() { _ = c.SetDeadline(time.Unix(1, 0)) }()
			_ = c.Close()
		}, nil},
		{"by the poller's end", func(c *Conn) { _ = c.poller.Close() }, nil},
	} {
		t.Run(c.intent, func(t *testing.T) {
			one, _ := both(t, p, "tcp")
			ended := make(chan error, 2)
			go func() {
				_, err := one.Read(make([]byte, 1))
				ended <- err
			}()
			go func() {
				_, err := one.Write(full)
				ended <- err
			}()
			for one.in.state.Load() != awaited || one.out.state.Load() != awaited {
				runtime.Gosched()
			}
			c.end(one)
			for range 2 {
				if err := <-ended; err == nil || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("ended with %v, want %v", err, c.want)
				}
			}
		})
	}
}

// TestDeadlineMoves: one that was moved away does not end a read, and one that was taken away neither.
func TestDeadlineMoves(t *testing.T) {
	p := startPoller(t)
	for _, later := range []time.Time{{}, time.Now().Add(time.Hour)} {
		one, other := both(t, p, "tcp")
		_ = one.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
		_ = one.SetReadDeadline(time.Now().Add(-time.Second))
		_ = one.SetReadDeadline(later)
		passed := make(chan struct{})
		time.AfterFunc(30*time.Millisecond, func() {
			close(passed)
			_, _ = other.Write([]byte("x"))
		})
		if n, err := one.Read(make([]byte, 2)); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		<-passed
	}
}

// TestDeadlineOfAnyClock: a deadline that was told by the wall clock does not move with that: when its timer goes off it
// would be taken for one that was moved away, and be for ever.
func TestDeadlineOfAnyClock(t *testing.T) {
	one, _ := both(t, startPoller(t), "tcp")
	wall := time.Now().Add(time.Hour).Round(0)
	if err := one.SetDeadline(wall); err != nil {
		t.Fatal(err)
	}
	for _, w := range []*way{&one.in, &one.out} {
		if kept := w.deadline; kept == kept.Round(0) || kept.Sub(wall).Abs() > time.Minute {
			t.Errorf("%v is kept as %v", wall, kept)
		}
	}
}

// TestSettled: a connection that the poller has looked at since it was read is known to be silent, or not, without asking.
func TestSettled(t *testing.T) {
	p := startPoller(t)
	one, other := both(t, p, "tcp")
	busy, far := both(t, p, "tcp")
	settle := func() {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !one.Settled(); {
			if time.Now().After(end) {
				t.Fatal("it never settles")
			}
			// A poller that nothing is told to does not look.
			if _, err := far.Write([]byte("z")); err != nil {
				t.Fatal(err)
			}
			if n, err := busy.Read(make([]byte, 2)); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}
	}
	buffer := make([]byte, 16)
	for range 100 {
		if _, err := other.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if n, err := one.Read(buffer); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		settle()
		if !one.Quiet() {
			t.Fatal("it is not quiet")
		}
	}
	if _, err := other.Write([]byte("y")); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); one.Quiet(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("what came is never told")
		}
	}
	if n, err := one.Read(buffer); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	_ = other.Close()
	for end := time.Now().Add(10 * time.Second); one.Quiet(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("the end is never told")
		}
	}
}

// TestDescriptors: each is freed once, when nobody uses it any more, and a connection's news are never another's: many
// are opened and closed while others talk.
func TestDescriptors(t *testing.T) {
	before := descriptors(t)
	t.Run("many", func(t *testing.T) {
		p := startPoller(t)
		var work sync.WaitGroup
		for range 4 {
			work.Go(func() {
				for range 200 {
					near, far := ends(t, "tcp")
					c, err := p.Adopt(near)
					if err != nil {
						t.Error(err)
						return
					}
					_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
					work.Go(func() { _, _ = far.Write([]byte("hello")) })
					if n, err := c.Read(make([]byte, 9)); n == 0 || err != nil {
						t.Error(n, err)
					}
					for range 3 {
						work.Go(func() { _ = c.Close() })
						work.Go(func() { _ = c.Quiet() })
					}
				}
			})
		}
		work.Wait()
		if p.mu.Lock(); len(p.free) != len(p.seats) {
			t.Errorf("of %d seats %d are free", len(p.seats), len(p.free))
		}
		p.mu.Unlock()
	})
	if after := descriptors(t); after > before+2 { // the runtime opens some of its own
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
