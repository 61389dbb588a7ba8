package listen

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The environment that hands sockets in, as descriptors from firstFD on.
const (
	firstFD = 3

	// Ours: the names of each socket as a JSON array of arrays, and the descriptor of the pipe on which
	// the parent waits.
	envSockets = "SLUICE_SOCKETS"
	envReady   = "SLUICE_READY_FD"

	// systemd's, see sd_listen_fds(3).
	envListenPID   = "LISTEN_PID"
	envListenFDs   = "LISTEN_FDS"
	envListenNames = "LISTEN_FDNAMES"
)

// Inherit takes over the sockets that the environment names: those of a parent that hands over, else those
// of systemd. Without either the set is empty. It must be called once and before the process starts
// others. On error, such as a descriptor that is not a listening stream socket, nothing has been closed,
// for it may be anyone's; the process should end.
func Inherit(getenv func(string) string) (*Set, error) {
	s := &Set{}
	take := s.inheritSystemd
	if getenv(envSockets) != "" {
		take = s.inheritParent
	}
	if err := take(getenv); err != nil {
		return nil, fmt.Errorf("cannot inherit sockets: %w", err)
	}
	return s, nil
}

func (s *Set) inheritParent(getenv func(string) string) error {
	var sockets [][]string
	if err := json.Unmarshal([]byte(getenv(envSockets)), &sockets); err != nil {
		return fmt.Errorf("cannot parse %s: %w", envSockets, err)
	}
	for i, names := range sockets {
		if len(names) == 0 {
			return fmt.Errorf("%s names socket %d nothing", envSockets, i)
		}
		at, err := parse(names[0])
		if err != nil {
			return err
		}
		if err := s.take(&socket{fd: firstFD + i, names: names, file: fileOf(at), shared: true}); err != nil {
			return err
		}
	}
	parent, err := findParent(getenv)
	s.parent = parent
	return err
}

func (s *Set) inheritSystemd(getenv func(string) string) error {
	if getenv(envListenPID) != strconv.Itoa(os.Getpid()) {
		return nil // none, or meant for a process that we descend from
	}
	count, err := strconv.Atoi(getenv(envListenFDs))
	if err != nil {
		return fmt.Errorf("cannot parse %s: %w", envListenFDs, err)
	}
	names := strings.Split(getenv(envListenNames), ":")
	for i := range count {
		byNumber := place{kindSystemd, strconv.Itoa(i)}.String()
		sock := &socket{fd: firstFD + i, names: []string{byNumber}}
		if i < len(names) && names[i] != "" {
			sock.names = []string{place{kindSystemd, names[i]}.String(), byNumber}
		}
		if err := s.take(sock); err != nil {
			return err
		}
	}
	return nil
}

// take adds a socket whose descriptor was handed in, if it is what it should be.
func (s *Set) take(sock *socket) error {
	if err := checkListening(sock.fd); err != nil {
		return fmt.Errorf("cannot use descriptor %d as %q: %w", sock.fd, sock.names[0], err)
	}
	unix.CloseOnExec(sock.fd)
	s.sockets = append(s.sockets, sock)
	return nil
}

func checkListening(fd int) error {
	typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if typ != unix.SOCK_STREAM || listening == 0 {
		return errors.New("it is not a listening stream socket")
	}
	return nil
}
