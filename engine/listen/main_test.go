package listen

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary is also the child of the tests: envRole says which one.
const (
	envRole      = "LISTEN_TEST_ROLE"
	envAddresses = "LISTEN_TEST_ADDRESSES" // separated by spaces

	roleServe = "serve" // becomes ready and serves
	roleExit  = "exit"  // ends with status 3
	roleHang  = "hang"  // never says anything
	roleQuit  = "quit"  // closes its set, but does not end
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	role := os.Getenv(envRole)
	if role == "" {
		os.Exit(m.Run())
	}
	if err := play(role); err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		os.Exit(1)
	}
}

func play(role string) error {
	if role == roleExit {
		os.Exit(3)
	}
	set, err := Inherit(os.Getenv)
	if err != nil {
		return err
	}
	switch role {
	case roleQuit:
		if err := set.Close(); err != nil {
			return err
		}
	case roleServe:
		if err := serveAll(set, strings.Fields(os.Getenv(envAddresses))); err != nil {
			return err
		}
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	<-ended // unless the test kills us
	return nil
}

func serveAll(set *Set, addresses []string) error {
	var listeners []net.Listener
	for _, address := range addresses {
		l, err := set.Listen(address)
		if err != nil {
			return err
		}
		listeners = append(listeners, l)
	}
	if err := set.Ready(); err != nil {
		return err
	}
	for _, l := range listeners {
		go answer(l)
	}
	_, err := set.CloseUnclaimed()
	return err
}

// answer tells each client which process serves it, until the listener is closed.
func answer(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		fmt.Fprint(conn, os.Getpid())
		conn.Close()
	}
}

// ask returns the process that serves an address.
func ask(address net.Addr) (pid string, err error) {
	conn, err := net.DialTimeout(address.Network(), address.String(), patience)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return hear(conn)
}

func hear(conn net.Conn) (pid string, err error) {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	text, err := io.ReadAll(conn)
	if err == nil && len(text) == 0 {
		err = io.ErrUnexpectedEOF
	}
	return string(text), err
}

// child is a Handover to this binary in a role.
func child(role string, addresses ...string) Handover {
	return Handover{
		Path:  os.Args[0],
		Env:   append(os.Environ(), envRole+"="+role, envAddresses+"="+strings.Join(addresses, " ")),
		Ready: patience,
	}
}

// activation is this binary in a role, given files and their names as systemd does it.
func activation(role, address, names string, files ...*os.File) *exec.Cmd {
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), envRole+"="+role, envAddresses+"="+address,
		envListenFDs+"="+strconv.Itoa(len(files)), envListenNames+"="+names)
	cmd.ExtraFiles = files
	return cmd
}

func newSet(t *testing.T) *Set {
	t.Helper()
	set, err := Inherit(func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	return set
}

func listenOn(t *testing.T, set *Set, address string) net.Listener {
	t.Helper()
	l, err := set.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// eventually looks again and again until something holds, or fails the test.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("this never came: %s", what)
		}
	}
}
