package listen

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Ready tells the parent that this process serves, after which the parent stops accepting; without a
// parent it does nothing. It belongs after all that can fail and before the first Accept: the queues hold
// connections meanwhile, whereas what a child has accepted dies with it. From here on the files of
// inherited unix sockets are this set's to remove. An error means that the parent is gone or has given up
// on this process, which then should end.
func (s *Set) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parent == nil {
		return nil
	}
	_, err := s.parent.Write([]byte{1})
	s.parent.Close()
	s.parent = nil
	if err != nil {
		return fmt.Errorf("cannot tell the parent process: %w", err)
	}
	for _, sock := range s.sockets {
		sock.shared = false
	}
	return nil
}

// Succeeds says whether a parent waits until this process serves: see Ready.
func (s *Set) Succeeds() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.parent != nil
}

// findParent returns the pipe to a parent that waits, nil if there is none.
func findParent(getenv func(string) string) (*os.File, error) {
	text := getenv(envReady)
	if text == "" {
		return nil, nil
	}
	fd, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("cannot parse %s: %w", envReady, err)
	}
	pipe, err := pipeAt(fd)
	if err != nil {
		return nil, fmt.Errorf("cannot use descriptor %d as the pipe to the parent: %w", fd, err)
	}
	return pipe, nil
}

// pipeAt takes over a pipe's descriptor that was handed in.
func pipeAt(fd int) (*os.File, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFIFO {
		return nil, errors.New("it is not a pipe")
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "parent"), nil
}
