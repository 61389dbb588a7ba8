package listen

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestActivation(t *testing.T) {
	tests := []struct {
		intent, address, names string
		want                   int // which of the two sockets serves
	}{
		{"by name", "systemd:admin", "web:admin", 1},
		{"by number", "systemd:1", "web:admin", 1},
		{"by number, without names", "systemd:0", "", 0},
		{"a name that is a number wins over the number", "systemd:1", "1:0", 0},
		{"sockets of one unit share a name and differ in number", "systemd:0", "sluice.socket:sluice.socket", 0},
	}
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			files, addresses := openFiles(t, 2)
			cmd := activation(roleServe, test.address, test.names, files...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()
			defer cmd.Process.Kill()
			closeFiles(files)
			got, err := ask(addresses[test.want])
			if got != strconv.Itoa(cmd.Process.Pid) {
				t.Errorf("socket %d is served by %q (%v), want the child, %d", test.want, got, err, cmd.Process.Pid)
			}
		})
	}
}

func TestActivationFails(t *testing.T) {
	listening, _ := openFiles(t, 1)
	defer closeFiles(listening)
	tests := []struct {
		intent, address, names string
		files                  []*os.File
		want                   string
	}{
		{"no such name", "systemd:admin", "web", listening, "no socket of that name"},
		{"no such number", "systemd:1", "web", listening, "no socket of that name"},
		{"a name for two", "systemd:web", "web:web", []*os.File{listening[0], listening[0]},
			`use their numbers, as in "systemd:0"`},
		{"not a socket", "systemd:0", "", []*os.File{os.Stderr}, "socket operation on non-socket"},
		{"a connection", "systemd:0", "", []*os.File{connection(t)}, "not a listening stream socket"},
	}
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			out, err := activation(roleServe, test.address, test.names, test.files...).CombinedOutput()
			if err == nil || !strings.Contains(string(out), test.want) {
				t.Errorf("the child ended with %v and said %q, want %q", err, out, test.want)
			}
		})
	}
}

func TestInheritEnvironment(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	tests := []struct {
		intent string
		env    map[string]string
		want   string // in the error; empty: an empty set
	}{
		{"a plain start", nil, ""},
		{"sockets for another process", map[string]string{envListenPID: "1", envListenFDs: "2"}, ""},
		{"sockets for nobody", map[string]string{envListenFDs: "2"}, ""},
		{"systemd hands in none", map[string]string{envListenPID: self, envListenFDs: "0"}, ""},
		{"a count that is no number", map[string]string{envListenPID: self, envListenFDs: "two"}, "cannot parse LISTEN_FDS"},
		{"a parent hands in none", map[string]string{envSockets: "[]"}, ""},
		{"names that are no JSON", map[string]string{envSockets: ":80"}, "cannot parse SLUICE_SOCKETS"},
		{"a socket without a name", map[string]string{envSockets: "[[]]"}, "names socket 0 nothing"},
		{"a name that is no address", map[string]string{envSockets: `[["x"]]`}, "cannot parse listen address"},
		{"a pipe that is no number", map[string]string{envSockets: "[]", envReady: "x"}, "cannot parse SLUICE_READY_FD"},
		{"a pipe that is not open", map[string]string{envSockets: "[]", envReady: "99999"}, "bad file descriptor"},
	}
	for _, test := range tests {
		set, err := Inherit(func(name string) string { return test.env[name] })
		switch {
		case test.want == "" && (err != nil || len(set.sockets) != 0):
			t.Errorf("%s: got %v, want an empty set", test.intent, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: got error %v, want %q", test.intent, err, test.want)
		}
	}
}

func TestCloseUnclaimed(t *testing.T) {
	set := newSet(t)
	asked, spare := listenOn(t, set, "127.0.0.1:0"), listenOn(t, set, "[::1]:0")
	set.sockets[1].claimed = false // as if it had been inherited
	go answer(asked)
	names, err := set.CloseUnclaimed()
	if err != nil || len(names) != 1 || names[0] != "[::1]:0" {
		t.Fatalf("CloseUnclaimed gave %q, %v, want the spare one", names, err)
	}
	if _, err := ask(asked.Addr()); err != nil {
		t.Errorf("the socket that was asked for: %v", err)
	}
	if _, err := net.Dial("tcp", spare.Addr().String()); err == nil {
		t.Error("the spare socket still takes connections")
	}
}

// openFiles opens sockets as systemd does: the files are all that this process has of them.
func openFiles(t *testing.T, count int) ([]*os.File, []net.Addr) {
	t.Helper()
	var files []*os.File
	var addresses []net.Addr
	for range count {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		file, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
		addresses = append(addresses, l.Addr())
	}
	return files, addresses
}

func closeFiles(files []*os.File) {
	for _, file := range files {
		file.Close()
	}
}

func connection(t *testing.T) *os.File {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	file, err := conn.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}
