package listen

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestHandoverLosesNothing has clients that connect without a pause while the next process takes over.
func TestHandoverLosesNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sock")
	addresses := []string{"127.0.0.1:0", "unix:" + file}
	set := newSet(t)
	var served []net.Addr
	for _, address := range addresses {
		l := listenOn(t, set, address)
		served = append(served, l.Addr())
		go answer(l)
	}

	next := make(chan struct{})
	var clients sync.WaitGroup
	var lost atomic.Int64
	for _, address := range served {
		clients.Go(func() { lost.Add(connectUntil(t, next, address)) })
	}
	process := handOver(t, set, child(roleServe, addresses...))
	if err := set.Close(); err != nil {
		t.Fatal(err)
	}
	for _, address := range served {
		if got, err := ask(address); got != strconv.Itoa(process.Pid) {
			t.Errorf("%v is served by process %s (%v), want the child, %d", address, got, err, process.Pid)
		}
	}
	close(next)
	clients.Wait()
	if n := lost.Load(); n != 0 {
		t.Errorf("%d connections were lost", n)
	}
}

// connectUntil asks an address over and over and counts the failures.
func connectUntil(t *testing.T, done <-chan struct{}, address net.Addr) (lost int64) {
	for {
		select {
		case <-done:
			return lost
		default:
		}
		if _, err := ask(address); err != nil {
			t.Log(err)
			lost++
		}
	}
}

// TestHandoverOfQueue shows why nothing is lost: a connection that this process never accepted, and whose
// listening socket it has closed, is the child's.
func TestHandoverOfQueue(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "sock")} {
		t.Run(address, func(t *testing.T) {
			set := newSet(t)
			l := listenOn(t, set, address)
			waiting, err := net.Dial(l.Addr().Network(), l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer waiting.Close()
			process := handOver(t, set, child(roleServe, address))
			set.Close()
			if got, err := hear(waiting); got != strconv.Itoa(process.Pid) {
				t.Errorf("the connection was served by %q (%v), want the child, %d", got, err, process.Pid)
			}
		})
	}
}

func TestHandoverFails(t *testing.T) {
	const short = 200 * time.Millisecond
	tests := []struct {
		intent   string
		handover func(t *testing.T) (context.Context, Handover)
		want     string // in the error
	}{
		{"the program is not there", func(t *testing.T) (context.Context, Handover) {
			return t.Context(), Handover{Path: filepath.Join(t.TempDir(), "sluice")}
		}, "no such file"},
		{"the child exits: its status is in the error", func(t *testing.T) (context.Context, Handover) {
			return t.Context(), child(roleExit)
		}, "gave up before it was ready (exit status 3)"},
		{"the child gives up but stays: it is killed", func(t *testing.T) (context.Context, Handover) {
			return t.Context(), child(roleQuit)
		}, "gave up before it was ready (signal: killed)"},
		{"the child cannot have what it needs: its status is in the error", func(t *testing.T) (context.Context, Handover) {
			return t.Context(), child(roleServe, "systemd:missing")
		}, "gave up before it was ready (exit status 1)"},
		{"the child is never ready: it is killed", func(t *testing.T) (context.Context, Handover) {
			h := child(roleHang)
			h.Ready = short
			return t.Context(), h
		}, "not ready within 200ms (signal: killed)"},
		{"the caller gives up: the child is killed", func(t *testing.T) (context.Context, Handover) {
			ctx, cancel := context.WithTimeout(t.Context(), short)
			t.Cleanup(cancel)
			h := child(roleHang)
			h.Ready = 0
			return ctx, h
		}, context.DeadlineExceeded.Error()},
	}
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "sock")
			set := newSet(t)
			tcp, local := listenOn(t, set, "127.0.0.1:0"), listenOn(t, set, "unix:"+file)
			go answer(tcp)
			go answer(local)

			ctx, h := test.handover(t)
			process, err := set.Handover(ctx, h)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Handover gave %v, %v, want an error with %q", process, err, test.want)
			}
			for _, l := range []net.Listener{tcp, local} {
				if got, err := ask(l.Addr()); got != strconv.Itoa(os.Getpid()) {
					t.Errorf("%v is served by %q (%v), want this process as before", l.Addr(), got, err)
				}
			}
			if err := set.Close(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the socket file after Close: %v, want it removed: it is ours again", err)
			}
		})
	}
}

// TestHandoverLeavesAcceptInterruptible: a descriptor is lent to the child with its open file, and with it
// the mode that lets Close end an Accept.
func TestHandoverLeavesAcceptInterruptible(t *testing.T) {
	set := newSet(t)
	l := listenOn(t, set, "127.0.0.1:0")
	handOver(t, set, child(roleServe, "127.0.0.1:0"))
	accepted := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		accepted <- err
	}()
	set.Close()
	select {
	case err := <-accepted:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept gave %v, want %v", err, net.ErrClosed)
		}
	case <-time.After(patience):
		t.Error("Accept goes on although its listener was closed")
	}
}

func TestHandoverOneAtATime(t *testing.T) {
	set := newSet(t)
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := set.Handover(ctx, child(roleHang))
		first <- err
	}()
	eventually(t, "the first handover begins", func() bool {
		set.mu.Lock()
		defer set.mu.Unlock()
		return set.lending
	})
	_, err := set.Handover(t.Context(), child(roleServe))
	if err == nil || !strings.Contains(err.Error(), "another handover") {
		t.Errorf("the second handover gave %v, want it refused", err)
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first handover gave %v, want %v", err, context.Canceled)
	}
	handOver(t, set, child(roleServe))
}

// TestHandoverOfSystemdSocket hands over a set that holds a systemd socket: the child finds it by the same names.
func TestHandoverOfSystemdSocket(t *testing.T) {
	for _, address := range []string{"systemd:web", "systemd:0"} {
		t.Run(address, func(t *testing.T) {
			set := newSet(t)
			l := listenOn(t, set, "127.0.0.1:0")
			set.sockets[0].names = []string{"systemd:web", "systemd:0"}
			process := handOver(t, set, child(roleServe, address))
			set.Close()
			if got, err := ask(l.Addr()); got != strconv.Itoa(process.Pid) {
				t.Errorf("served by %q (%v), want the child, %d", got, err, process.Pid)
			}
		})
	}
}

func TestChildClosesWhatItDoesNotUse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sock")
	set := newSet(t)
	listenOn(t, set, "127.0.0.1:0")
	listenOn(t, set, "unix:"+file)
	handOver(t, set, child(roleServe, "127.0.0.1:0"))
	eventually(t, "the file of a socket that the new process has no use for is removed", func() bool {
		_, err := os.Stat(file)
		return errors.Is(err, os.ErrNotExist)
	})
}

func TestReadyWithoutParent(t *testing.T) {
	if err := newSet(t).Ready(); err != nil {
		t.Errorf("Ready gave %v, want nil: nobody waits", err)
	}
}

func TestReadyTooLate(t *testing.T) {
	heard, told, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	heard.Close()
	set := &Set{parent: told}
	if err := set.Ready(); err == nil {
		t.Error("Ready gave no error although the parent no longer listens")
	}
}

func TestWithoutInheritance(t *testing.T) {
	env := []string{"PATH=/bin", "LISTEN_PID=1", "LISTEN_FDS=2", "LISTEN_FDNAMES=a:b", "SLUICE_SOCKETS=[]",
		"SLUICE_READY_FD=4", "WATCHDOG_PID=1", "WATCHDOG_USEC=5", "NOTIFY_SOCKET=@n", "LISTEN_PIDS=x"}
	want := "PATH=/bin WATCHDOG_USEC=5 NOTIFY_SOCKET=@n LISTEN_PIDS=x"
	if got := strings.Join(withoutInheritance(env), " "); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// handOver ends the child with the test.
func handOver(t *testing.T, set *Set, h Handover) *os.Process {
	t.Helper()
	process, err := set.Handover(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		process.Kill()
		process.Wait()
	})
	return process
}
