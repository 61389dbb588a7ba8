package listen

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Handover says how the next process is started.
type Handover struct {
	Path  string        // the program
	Args  []string      // without the program's name
	Env   []string      // "NAME=value"; nil: this process's. What hands in sockets is replaced.
	Ready time.Duration // longest wait for the child's Ready; 0: as long as the context lasts
}

// Handover starts the next process with all sockets and waits until it calls Ready. The child shares
// standard input, output and error. From then on both accept from the same queues: the caller goes on to
// Close this set and drain. The process is the caller's to Wait for or Release.
//
// If the child exits, closes its set, or is not ready in time or when ctx ends, it is killed, the error
// says which, and this process serves as before. One handover runs at a time. The caller keeps Listen,
// Retain and Close away meanwhile, for the child does not see what they change.
func (s *Set) Handover(ctx context.Context, h Handover) (*os.Process, error) {
	process, err := s.handover(ctx, h)
	if err != nil {
		return nil, fmt.Errorf("cannot hand over to %q: %w", h.Path, err)
	}
	return process, nil
}

func (s *Set) handover(ctx context.Context, h Handover) (*os.Process, error) {
	lent, err := s.lend()
	if err != nil {
		return nil, err
	}
	process, err := h.run(ctx, lent)
	s.settle(lent, err == nil)
	return process, err
}

// loan is the sockets on their way to a child.
type loan struct {
	sockets []*socket
	files   []*os.File
	names   [][]string
}

func (s *Set) lend() (*loan, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed {
		return nil, os.ErrClosed
	}
	if s.lending {
		return nil, errors.New("another handover is under way")
	}
	lent := &loan{names: [][]string{}}
	for _, sock := range s.sockets {
		file, err := sock.duplicate()
		if err != nil {
			lent.close()
			return nil, err
		}
		lent.sockets = append(lent.sockets, sock)
		lent.files = append(lent.files, file)
		lent.names = append(lent.names, sock.names)
	}
	s.lending = true
	return lent, nil
}

// settle ends a loan. The files of sockets that were taken are the child's to remove.
func (s *Set) settle(lent *loan, taken bool) {
	lent.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lending = false
	for _, sock := range lent.sockets {
		sock.shared = sock.shared || taken
	}
}

func (l *loan) close() {
	for _, file := range l.files {
		file.Close()
	}
}

// run starts the child and sees it through to its readiness, or to its end.
func (h Handover) run(ctx context.Context, lent *loan) (*os.Process, error) {
	heard, told, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer heard.Close()
	process, err := h.start(lent, told)
	told.Close() // the child's is the only one left, so its end is the pipe's end
	if err != nil {
		return nil, err
	}
	if err := h.await(ctx, heard); err != nil {
		process.Kill()
		state, _ := process.Wait()
		return nil, fmt.Errorf("%w (%v)", err, state)
	}
	return process, nil
}

func (h Handover) start(lent *loan, told *os.File) (*os.Process, error) {
	names, err := json.Marshal(lent.names)
	if err != nil {
		return nil, err
	}
	env := h.Env
	if env == nil {
		env = os.Environ()
	}
	env = append(withoutInheritance(env),
		envSockets+"="+string(names),
		envReady+"="+strconv.Itoa(firstFD+len(lent.files)))
	files := slices.Concat([]*os.File{os.Stdin, os.Stdout, os.Stderr}, lent.files, []*os.File{told})
	return os.StartProcess(h.Path, append([]string{h.Path}, h.Args...), &os.ProcAttr{Env: env, Files: files})
}

// withoutInheritance leaves out what this process was handed. The child keeps WATCHDOG_USEC, but its
// process is another than WATCHDOG_PID names.
func withoutInheritance(env []string) []string {
	ours := []string{envSockets, envReady, envListenPID, envListenFDs, envListenNames, envWatchdogPID}
	return slices.DeleteFunc(slices.Clone(env), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(ours, name)
	})
}

func (h Handover) await(ctx context.Context, heard *os.File) error {
	if h.Ready > 0 {
		late := fmt.Errorf("the new process was not ready within %v", h.Ready)
		timed, cancel := context.WithTimeoutCause(ctx, h.Ready, late)
		defer cancel()
		ctx = timed
	}
	stop := context.AfterFunc(ctx, func() { heard.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	word := make([]byte, 1)
	_, err := heard.Read(word)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF):
		return errors.New("the new process gave up before it was ready")
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return err
}
