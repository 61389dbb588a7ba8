package socket

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestStorm: whatever readers and writers do to wait, and others to disturb them, none waits on while there is something to
// read, or room, and none gives up before its time. Who sends a burst sends nothing more until all of it has been taken,
// and waits have no deadline at their end: a wake that is lost, or a deadline that is left over, shows.
func TestStorm(t *testing.T) {
	for _, processors := range []int{1, 2, 4} {
		t.Run(strconv.Itoa(processors), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(processors))
			s := &storm{TB: t, poller: startPoller(t), ended: make(chan struct{}), ends: make([]stormEnd, 32)}
			seed := rand.Uint64()
			t.Log("seed ", seed)
			var meddling, talks sync.WaitGroup
			defer meddling.Wait()
			defer close(s.ended)
			for i := range uint64(16) {
				one, other := both(t, s.poller, []string{"tcp", "unix"}[i%2])
				_ = one.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<10) }) // #nosec G115 -- a descriptor
				near, far := &s.ends[2*i], &s.ends[2*i+1]
				near.Conn, far.Conn = one, other
				near.own, far.own = i%4 < 2, i%4 < 2
				s.talk(&talks, one, far, seed, 4*i)
				s.talk(&talks, other, near, seed, 4*i+2)
			}
			for i := range s.ends {
				meddling.Go(func() { s.meddle(&s.ends[i], rand.New(rand.NewPCG(seed, uint64(1000+i)))) })
			}
			meddling.Go(s.churn)
			quiet := make(chan struct{})
			go func() { talks.Wait(); close(quiet) }()
			s.watch(quiet)
		})
	}
}

// storm is many connections, and what goes on on them.
type storm struct {
	testing.TB
	poller   *Poller
	ends     []stormEnd
	ended    chan struct{}
	progress atomic.Int64
}

// stormEnd is an end of a connection.
type stormEnd struct {
	*Conn
	own   bool         // nobody meddles with the deadlines of its reads
	taken atomic.Int64 // bursts
}

const stormBursts = 150

// talk sends bursts from one end of a connection to the other.
func (s *storm) talk(talks *sync.WaitGroup, from *Conn, to *stormEnd, seed, stream uint64) {
	bursts, taken := make(chan int), make(chan struct{})
	talks.Go(func() {
		r := rand.New(rand.NewPCG(seed, stream))
		for range stormBursts {
			size := 1 + r.IntN(200)
			if r.IntN(20) == 0 {
				size = 1 + r.IntN(1<<20)
			}
			bursts <- size
			for size > 0 {
				n := min(size, 1+r.IntN(1+size))
				s.write(from, make([]byte, n), r)
				size -= n
				for range r.IntN(3) {
					runtime.Gosched()
				}
			}
			<-taken
		}
		close(bursts)
	})
	talks.Go(func() {
		r := rand.New(rand.NewPCG(seed, stream+1))
		buffer := make([]byte, 32<<10)
		for size := range bursts {
			for size > 0 {
				n, err := s.read(to.Conn, buffer[:min(len(buffer), 1+r.IntN(1+size))], r)
				if err != nil && (to.own || !errors.Is(err, os.ErrDeadlineExceeded)) {
					s.Errorf("with %d bytes missing: %v", size, err)
				}
				size -= n
			}
			s.progress.Add(1)
			to.taken.Add(1)
			taken <- struct{}{}
		}
	})
}

// read waits for bytes in one of the ways there are.
func (s *storm) read(c *Conn, b []byte, r *rand.Rand) (n int, err error) {
	var deadline time.Time
	kind := r.IntN(5)
	if kind == 0 {
		deadline = time.Now().Add(time.Duration(r.IntN(300)-20) * time.Microsecond)
	}
	_ = c.SetReadDeadline(deadline)
	switch kind {
	case 1:
		err = c.Await(func() bool {
			n, err = c.Read(b)
			return err != ErrNothing
		})
	case 2:
		awake := make(chan struct{})
		if c.Sleep(func() { close(awake) }) {
			<-awake
		}
		fallthrough
	default:
		n, err = c.Read(b)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && !deadline.IsZero() && !time.Now().Before(deadline) {
		err = nil
	}
	return n, err
}

// write sends b, with a deadline, patience or neither.
func (s *storm) write(c *Conn, b []byte, r *rand.Rand) {
	for len(b) > 0 {
		began, patience := time.Now(), time.Hour
		switch r.IntN(4) {
		case 0:
			patience = time.Duration(r.IntN(400)-20) * time.Microsecond
			_ = c.SetWriteDeadline(began.Add(patience))
		case 1:
			patience = time.Duration(1+r.IntN(400)) * time.Microsecond
			c.SetPatience(patience)
		default:
			_ = c.SetWriteDeadline(time.Time{})
		}
		n, err := c.Write(b)
		switch waited := time.Since(began); {
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded):
			s.Error(err)
			return
		case waited < patience:
			s.Errorf("a write gave up after %v, of %v", waited, patience)
		}
		b = b[n:]
	}
}

// meddle disturbs who reads, if it may with deadlines that it takes back; but not who has waited for long, for that would
// help.
func (s *storm) meddle(c *stormEnd, r *rand.Rand) {
	for seen, times := int64(0), 0; ; times++ {
		select {
		case <-s.ended:
			return
		case <-time.After(time.Duration(r.IntN(500)) * time.Microsecond):
		}
		if taken := c.taken.Load(); taken > seen {
			seen, times = taken, 0
		}
		if times > 2 {
			continue
		}
		switch r.IntN(3) {
		case 0:
			c.Stir()
		case 1:
			c.Quiet()
		default:
			if !c.own {
				_ = c.SetReadDeadline(time.Now().Add(time.Duration(r.IntN(100)-20) * time.Microsecond))
				runtime.Gosched()
				_ = c.SetReadDeadline(time.Time{})
			}
		}
	}
}

// churn opens and closes connections: their seats become others'. It leaves time for the rest: the system takes long for
// that, and for what is left of closed ones.
func (s *storm) churn() {
	for {
		select {
		case <-s.ended:
			return
		case <-time.After(time.Millisecond):
		}
		one, other := both(s, s.poller, "tcp")
		over := make(chan error, 1)
		go func() {
			_, err := one.Read(make([]byte, 1))
			over <- err
		}()
		switch s.progress.Load() % 3 {
		case 0:
			_, _ = other.Write([]byte("x"))
		case 1:
			_ = other.Close()
		}
		_ = one.Close()
		if err := <-over; err != nil && err != io.EOF && !errors.Is(err, net.ErrClosed) {
			s.Error(err)
		}
		_ = other.Close()
	}
}

// watch waits for the end, and tells who waits for what if there is none.
func (s *storm) watch(over <-chan struct{}) {
	for last := int64(-1); ; {
		select {
		case <-over:
			return
		case <-time.After(10 * time.Second):
		}
		if now := s.progress.Load(); now > last {
			last = now
			continue
		}
		var b strings.Builder
		for i := range s.ends {
			c := s.ends[i].Conn
			unread, _ := unix.IoctlGetInt(c.fd, unix.SIOCINQ)
			fmt.Fprintf(&b, "%d: in %d, out %d, drained %d, unread %d\n", i, c.in.state.Load(), c.out.state.Load(), c.drained.Load(), unread)
		}
		s.Fatalf("nothing goes on any more; asked %d, told %d\n%s", s.poller.asked.Load(), s.poller.told.Load(), b.String())
	}
}
