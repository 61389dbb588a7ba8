package listen

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestNotify(t *testing.T) {
	file := filepath.Join(t.TempDir(), "notify")
	abstract := "@listen-test-" + strconv.Itoa(os.Getpid())
	tests := []struct {
		intent, socket, state string
		want                  string // a pattern
	}{
		{"a socket file", file, StateReady, `^READY=1$`},
		{"an abstract socket", abstract, StateStopping, `^STOPPING=1$`},
		{"several lines are one message", file, "MAINPID=7\nSTATUS=fine", `^MAINPID=7\nSTATUS=fine$`},
		{"a reload says when it began", file, StateReloading + "\nSTATUS=x",
			`^RELOADING=1\nSTATUS=x\nMONOTONIC_USEC=[1-9]\d*$`},
	}
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: test.socket, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer os.Remove(test.socket)
			defer conn.Close()
			if err := Notify(environment(envNotify, test.socket), test.state); err != nil {
				t.Fatal(err)
			}
			conn.SetReadDeadline(time.Now().Add(patience))
			message := make([]byte, 1024)
			n, err := conn.Read(message)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(message[:n]); !regexp.MustCompile(test.want).MatchString(got) {
				t.Errorf("systemd heard %q, want %s", got, test.want)
			}
		})
	}
}

func TestNotifyFails(t *testing.T) {
	tests := []struct {
		intent, socket string
		want           string // in the error; empty: none
	}{
		{"not started by systemd", "", ""},
		{"systemd is gone", filepath.Join(t.TempDir(), "none"), "no such file"},
		{"a virtual machine's socket, which we do not speak", "vsock:2:9", "neither a path nor an abstract socket"},
	}
	for _, test := range tests {
		err := Notify(environment(envNotify, test.socket), StateReady)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Notify gave %v, want %q", test.intent, err, test.want)
		}
	}
}

func TestWatchdogInterval(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	tests := []struct {
		intent, usec, pid string
		want              time.Duration // 0: not watched
	}{
		{"watched", "30000000", self, 30 * time.Second},
		{"a process that was handed over to has no number of its own", "30000000", "", 30 * time.Second},
		{"another process is watched", "30000000", "1", 0},
		{"nothing is watched", "", "", 0},
		{"no number", "soon", self, 0},
		{"no time", "0", self, 0},
	}
	for _, test := range tests {
		got, ok := WatchdogInterval(environment(envWatchdogUsec, test.usec, envWatchdogPID, test.pid))
		if got != test.want || ok != (test.want != 0) {
			t.Errorf("%s: got %v, %v, want %v", test.intent, got, ok, test.want)
		}
	}
}

// environment takes names and values in turn.
func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}
