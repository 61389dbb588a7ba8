package listen

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestParse(t *testing.T) {
	tests := []struct {
		address string
		want    string // in the error if it starts with "!"
		intent  string
	}{
		{":8080", ":8080", "all interfaces"},
		{"127.0.0.1:0", "127.0.0.1:0", "any free port"},
		{"[::1]:80", "[::1]:80", "IPv6"},
		{"localhost:80", "localhost:80", "a name"},
		{"unix:/run/sluice.sock", "unix:/run/sluice.sock", "a socket file"},
		{"unix:/run//sub/../sluice.sock", "unix:/run/sluice.sock", "two ways to write a path are one address"},
		{"unix:@sluice", "unix:@sluice", "an abstract socket"},
		{"systemd:web", "systemd:web", "socket activation"},
		{"8080", "!missing port", "a port needs its colon"},
		{"::1:80", "!too many colons", "IPv6 needs its brackets"},
		{":http", "!must be a number", "services are not looked up"},
		{":65536", "!must be a number", "out of range"},
		{":", "!must be a number", "no port would be a random one"},
		{"unix:", "!a path must follow", "no path"},
		{"systemd:", "!a name or number must follow", "no name"},
		{"", "!missing port", "nothing"},
	}
	for _, test := range tests {
		at, err := parse(test.address)
		if problem, bad := strings.CutPrefix(test.want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), problem) {
				t.Errorf("%s: parse(%q) gave error %v, want %q", test.intent, test.address, err, problem)
			}
			continue
		}
		if err != nil || at.String() != test.want {
			t.Errorf("%s: parse(%q) = %q, %v, want %q", test.intent, test.address, at, err, test.want)
		}
	}
}

func TestListenServes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sock")
	tests := []struct {
		intent, address string
	}{
		{"TCP", "127.0.0.1:0"},
		{"a socket file", "unix:" + file},
		{"an abstract socket", "unix:@sluice-test-" + strconv.Itoa(os.Getpid())},
	}
	set := newSet(t)
	for _, test := range tests {
		l := listenOn(t, set, test.address)
		go answer(l)
		if _, err := ask(l.Addr()); err != nil {
			t.Errorf("%s: %v", test.intent, err)
		}
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != socketMode {
		t.Errorf("the socket file has mode %o, want %o", got, socketMode)
	}
}

// TestListenTwice is a reload with a new server on an address that stays.
func TestListenTwice(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "sock")} {
		t.Run(address, func(t *testing.T) {
			set := newSet(t)
			old := listenOn(t, set, address)
			waiting, err := net.Dial(old.Addr().Network(), old.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer waiting.Close()

			next := listenOn(t, set, address)
			if next.Addr().String() != old.Addr().String() {
				t.Fatalf("the second listener is on %v, want the socket of the first, %v", next.Addr(), old.Addr())
			}
			if err := old.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := old.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the closed listener's Accept gave %v, want %v", err, net.ErrClosed)
			}
			go answer(next)
			if _, err := hear(waiting); err != nil {
				t.Errorf("a connection that waited when the first listener was closed is lost: %v", err)
			}
		})
	}
}

func TestListenAfterAllListenersAreClosed(t *testing.T) {
	set := newSet(t)
	old := listenOn(t, set, "127.0.0.1:0")
	old.Close()
	waiting, err := net.Dial("tcp", old.Addr().String())
	if err != nil {
		t.Fatalf("the socket was closed with its last listener: %v", err)
	}
	defer waiting.Close()
	go answer(listenOn(t, set, "127.0.0.1:0"))
	if _, err := hear(waiting); err != nil {
		t.Error(err)
	}
}

func TestRetain(t *testing.T) {
	folder := t.TempDir()
	kept, dropped := filepath.Join(folder, "kept"), filepath.Join(folder, "dropped")
	set := newSet(t)
	go answer(listenOn(t, set, "unix:"+kept))
	gone := listenOn(t, set, "unix:"+dropped)
	accepted := make(chan error, 1)
	go func() {
		_, err := gone.Accept()
		accepted <- err
	}()

	if err := set.Retain([]string{"unix:" + folder + "/./kept"}); err != nil {
		t.Fatal(err)
	}
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept on an address that is not retained gave %v, want %v", err, net.ErrClosed)
	}
	if _, err := os.Stat(dropped); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file of an address that is not retained: %v, want it removed", err)
	}
	if _, err := ask(&net.UnixAddr{Name: kept, Net: "unix"}); err != nil {
		t.Errorf("an address that is retained does not answer: %v", err)
	}
	go answer(listenOn(t, set, "unix:"+dropped))
	if _, err := ask(&net.UnixAddr{Name: dropped, Net: "unix"}); err != nil {
		t.Errorf("an address that comes back does not answer: %v", err)
	}
}

func TestClose(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sock")
	set := newSet(t)
	tcp := listenOn(t, set, "127.0.0.1:0")
	listenOn(t, set, "unix:"+file)
	for range 2 { // the second time does nothing
		if err := set.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := net.Dial("tcp", tcp.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dialling a closed set gave %v, want %v", err, syscall.ECONNREFUSED)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket file after Close: %v, want it removed", err)
	}
	if _, err := set.Listen("127.0.0.1:0"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Listen after Close gave %v, want %v", err, net.ErrClosed)
	}
}

func TestListenOnFileThatIsThere(t *testing.T) {
	tests := []struct {
		intent string
		make   func(t *testing.T, path string)
		free   bool
	}{
		{"a socket that a crash left behind is replaced", func(t *testing.T, path string) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			l.Close()
		}, true},
		{"a socket that another process answers on is not taken from it", func(t *testing.T, path string) {
			listenOn(t, newSet(t), "unix:"+path)
		}, false},
		{"a file that is no socket is not ours to remove", func(t *testing.T, path string) {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, false},
	}
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sock")
			test.make(t, path)
			_, err := newSet(t).Listen("unix:" + path)
			if free := err == nil; free != test.free {
				t.Errorf("Listen gave %v, want success to be %v", err, test.free)
			}
			if !test.free && !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("Listen gave %v, want %v", err, syscall.EADDRINUSE)
			}
		})
	}
}
