package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/engine"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/listen"
	"github.com/sluice-gateway/sluice/engine/telemetry"
)

func newRun(path *string) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Run the gateway",
		Long: `Run serves what the configuration describes, until it is told to end.

It reloads the configuration when the file changes; a faulty one changes
nothing. It logs to standard error; the access log goes to standard output,
unless [log].access says otherwise.

Signals:
  SIGTERM, SIGINT  finish the requests under way, then exit; once more: at once
  SIGHUP           reload the configuration
  SIGUSR1          open the access log again, if it is a file that was renamed
  SIGUSR2          start the program anew, a new version if there is one, hand
                   it the sockets, then finish as on SIGTERM

It speaks systemd's Type=notify and notify-reload, its watchdog and its socket
activation.`,
		Example: `  sluice run -c /etc/sluice/gateway.toml
  curl http://127.0.0.1:9901/status`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(*path, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
}

// run serves until the process is told to end. Signals count from its beginning, so that one which
// comes early is acted on, not died of.
func run(path string, out, errOut io.Writer) error {
	signals, stop := watchSignals()
	defer stop()
	program, err := programPath()
	if err != nil {
		return err
	}
	sockets, err := listen.Inherit(os.Getenv)
	if err != nil {
		return err
	}
	p, err := newProcess(path, sockets, out, errOut, os.Getenv)
	if err != nil {
		return errors.Join(err, sockets.Close())
	}
	p.program, p.args = program, os.Args[1:]
	if err := p.start(); err != nil {
		return errors.Join(err, sockets.Close())
	}
	p.supervise(signals)
	return nil
}

// watchSignals delivers the signals that a process acts on. SIGPIPE is none: when whoever reads the access log
// ends, lines are lost, and the gateway serves on.
func watchSignals() (signals <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 8)
	signal.Notify(c, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2)
	signal.Ignore(syscall.SIGPIPE)
	return c, func() { signal.Stop(c) }
}

// programPath is what a handover starts. It is found out at the start, for the kernel calls a file that
// has been replaced "(deleted)". The path that the program was called by comes first: it may be a link
// that a deployment will point at another version.
func programPath() (string, error) {
	running, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("cannot find the program's own file: %w", err)
	}
	called, err := exec.LookPath(os.Args[0])
	if err != nil {
		return running, nil
	}
	if called, err = filepath.Abs(called); err != nil || !sameFile(called, running) {
		return running, nil
	}
	return called, nil
}

func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// newProcess builds everything that can be at fault. It listens nowhere yet.
func newProcess(path string, sockets *listen.Set, out, errOut io.Writer, getenv func(string) string) (*process, error) {
	file, faults := config.Load(path)
	if file == nil {
		return nil, faults
	}
	buffer := telemetry.NewLogBuffer(errOut)
	log := telemetry.NewLog(buffer, file.Log.Format, wantsColor(errOut, getenv))
	e, err := engine.New(engine.Options{
		Path: path, Version: version, Log: log, Random: rand.Uint64, Sockets: sockets, Stdout: out,
	})
	if err != nil {
		buffer.Flush()
		return nil, err
	}
	logger := log.Logger()
	return &process{
		gateway: &reloader{Engine: e, path: path, started: file, log: logger},
		sockets: sockets,
		log:     logger,
		buffer:  buffer,
		getenv:  getenv,
	}, nil
}
