package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// socketMode of unix sockets: whoever reaches the folder may connect.
	socketMode = 0o666
	// answerTime is how long a socket file's owner has to answer before the file is thought to be in use.
	answerTime = time.Second
)

// socket is a listening socket of a Set, which guards its fields.
//
// Its descriptor is a bare number rather than an *os.File: it is never accepted from, so it has no
// business in the runtime's poller, which would wake up for it at each connection.
type socket struct {
	fd        int
	names     []string // addresses; the one to show first
	file      string   // of a unix socket; empty: there is none, or it is not ours to remove
	shared    bool     // another process listens too and needs the file
	claimed   bool
	listeners []*listener
}

func open(at place) (*socket, error) {
	var opened net.Listener
	var err error
	sock := &socket{names: []string{at.String()}}
	switch at.kind {
	case kindUnix:
		sock.file = fileOf(at)
		opened, err = openUnix(at.name)
	default:
		opened, err = new(net.ListenConfig).Listen(context.Background(), "tcp", at.name)
	}
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	if sock.fd, err = descriptor(opened); err != nil {
		return nil, err
	}
	return sock, nil
}

// fileOf is the file of a place's socket, empty if it has none.
func fileOf(at place) string {
	if at.kind != kindUnix || strings.HasPrefix(at.name, "@") {
		return ""
	}
	return at.name
}

func openUnix(path string) (net.Listener, error) {
	address := &net.UnixAddr{Name: path, Net: "unix"}
	opened, err := net.ListenUnix("unix", address)
	if errors.Is(err, unix.EADDRINUSE) && isStale(path) {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
		opened, err = net.ListenUnix("unix", address)
	}
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(path, "@") {
		return opened, nil
	}
	if err := os.Chmod(path, socketMode); err != nil {
		opened.Close()
		return nil, err
	}
	opened.SetUnlinkOnClose(false)
	return opened, nil
}

// isStale tells whether path is a socket on which nobody listens. Anything else than a refusal, even no
// answer, counts as somebody.
func isStale(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != fs.ModeSocket {
		return false
	}
	conn, err := net.DialTimeout("unix", path, answerTime)
	if err != nil {
		return errors.Is(err, unix.ECONNREFUSED)
	}
	conn.Close()
	return false
}

// descriptor returns a descriptor of the listener's socket that lives on when the listener is closed.
func descriptor(opened net.Listener) (int, error) {
	raw, err := opened.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var fd int
	var dupErr error
	if err := raw.Control(func(of uintptr) { fd, dupErr = duplicate(int(of)) }); err != nil {
		return 0, err
	}
	return fd, dupErr
}

func duplicate(fd int) (int, error) {
	copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	return copied, os.NewSyscallError("fcntl", err)
}

// duplicate returns a file that holds the socket open and is the caller's to close.
func (s *socket) duplicate() (*os.File, error) {
	fd, err := duplicate(s.fd)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), s.names[0]), nil
}

// listener returns a listener with a descriptor of its own, which leaves the file alone when closed.
func (s *socket) listener() (net.Listener, error) {
	file, err := s.duplicate()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return net.FileListener(file)
}

func (s *socket) forget(l *listener) {
	s.listeners = slices.DeleteFunc(s.listeners, func(other *listener) bool { return other == l })
}

// close closes the socket and its listeners. The error is of the file; closing a descriptor that is known
// to be open has none to act on.
func (s *socket) close() error {
	for _, l := range s.listeners {
		l.Listener.Close()
	}
	s.listeners = nil
	unix.Close(s.fd)
	if s.file == "" || s.shared {
		return nil
	}
	if err := os.Remove(s.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove socket file: %w", err)
	}
	return nil
}
