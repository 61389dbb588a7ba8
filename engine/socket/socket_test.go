package socket

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// ends are those of a connection.
func ends(t testing.TB, network string) (near, far net.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err = net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// pair is a connection, one end of it a Conn.
func pair(t testing.TB, network string) (*Conn, net.Conn) {
	t.Helper()
	near, far := ends(t, network)
	c, err := startPoller(t).Adopt(near)
	if err != nil {
		t.Fatal(err)
	}
	return c, far
}

// TestTransfer: what is written is read, both ways at once, in whatever pieces, and more than the socket holds.
func TestTransfer(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			c, far := pair(t, network)
			sent := make([]byte, 3<<20)
			random := rand.NewChaCha8([32]byte{})
			_, _ = random.Read(sent)
			echoed := make(chan error, 1)
			go func() {
				_, err := io.Copy(far, far)
				echoed <- errors.Join(err, far.Close())
			}()
			go func() {
				for rest := sent; len(rest) > 0; {
					n := min(len(rest), 1+int(random.Uint64()%200_000))
					if m, err := c.Write(rest[:n]); m != n || err != nil {
						t.Errorf("%d of %d written: %v", m, n, err)
						return
					}
					rest = rest[n:]
				}
				if err := c.CloseWrite(); err != nil {
					t.Error(err)
				}
			}()
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%d of %d bytes came back: %v", len(got), len(sent), err)
			}
			if err := <-echoed; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFaults: errors are those of the net package.
func TestFaults(t *testing.T) {
	c, far := pair(t, "tcp")
	buffer := make([]byte, 1<<20)
	if n, err := c.Read(nil); n != 0 || err != nil {
		t.Errorf("nothing asked for: %d, %v", n, err)
	}
	_ = c.SetDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := c.Read(buffer); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a read with nothing to read: %d, %v", n, err)
	}
	written := 0
	for range 100 {
		n, err := c.Write(buffer)
		if written += n; err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a write that nobody reads: %v", err)
			}
			break
		}
	}
	_ = c.SetDeadline(time.Time{})
	if n, err := io.CopyN(io.Discard, far, int64(written)); err != nil {
		t.Errorf("%d of %d bytes that were told as written came: %v", n, written, err)
	}

	_ = far.(*net.TCPConn).SetLinger(0)
	far.Close()
	if _, err := c.Read(buffer); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a read after a reset: %v", err)
	}
	if _, err := c.Write(buffer); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("a write after a reset: %v", err)
	}
	c.Close()
	if _, err := c.Read(buffer); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read after close: %v", err)
	}
	if _, err := c.Write(buffer); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write after close: %v", err)
	}
	if c.Quiet() {
		t.Error("a closed connection is quiet")
	}
	if err := c.Await(func() bool { return true }); !errors.Is(err, net.ErrClosed) {
		t.Errorf("to await after close: %v", err)
	}
	one, _ := net.Pipe()
	if _, err := c.poller.Adopt(one); err != ErrNoSocket {
		t.Errorf("a pipe is adopted: %v", err)
	}
}

// TestAwait: the attempt is made when something may have come; within it reads do not wait.
func TestAwait(t *testing.T) {
	c, far := pair(t, "tcp")
	buffer := make([]byte, 16)
	attempts := 0
	var got string
	c.in.stir() // for nothing
	err := c.Await(func() bool {
		attempts++
		n, err := c.Read(buffer)
		if err == ErrNothing {
			_, _ = io.WriteString(far, "hello")
			return false
		}
		got = string(buffer[:n])
		return true
	})
	if err != nil || got != "hello" || attempts < 2 {
		t.Errorf("%q after %d attempts: %v", got, attempts, err)
	}
	if !c.Quiet() {
		t.Error("not quiet, with nothing to read")
	}
	far.Close()
	if n, err := c.Read(buffer); n != 0 || err != io.EOF {
		t.Errorf("after the end: %d, %v", n, err)
	}
	if c.Quiet() {
		t.Error("quiet at its end")
	}
}

func TestTransferAllocations(t *testing.T) {
	c, far := pair(t, "tcp")
	buffer := make([]byte, 64)
	attempt := func() bool {
		_, err := c.Read(buffer)
		return err != ErrNothing
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := c.Write(buffer); err != nil {
			t.Fatal(err)
		}
		if !c.Quiet() {
			t.Fatal("not quiet")
		}
		if _, err := io.ReadFull(far, buffer); err != nil {
			t.Fatal(err)
		}
		if _, err := far.Write(buffer); err != nil {
			t.Fatal(err)
		}
		if err := c.Await(attempt); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkHot is a small write and a small read, beside those of the net package.
func BenchmarkHot(b *testing.B) {
	c, far := pair(b, "tcp")
	plain, plainFar := ends(b, "tcp")
	for _, e := range []struct {
		name      string
		near, far net.Conn
	}{{"socket", c, far}, {"net", plain, plainFar}} {
		b.Run(e.name, func(b *testing.B) {
			buffer, small := make([]byte, 4096), make([]byte, 256)
			for b.Loop() {
				if _, err := e.near.Write(small); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(e.far, small); err != nil {
					b.Fatal(err)
				}
				if _, err := e.far.Write(small); err != nil {
					b.Fatal(err)
				}
				if _, err := e.near.Read(buffer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestShut: a read that is shut off takes nothing, and waits for nothing.
func TestShut(t *testing.T) {
	c, far := pair(t, "tcp")
	if _, err := far.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2)
	c.Shut(true)
	if n, err := c.Read(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("shut: %d, %v", n, err)
	}
	c.Shut(false)
	if n, err := c.Read(b); n != 1 || err != nil {
		t.Errorf("open: %d, %v", n, err)
	}
}
