package main

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-gateway/sluice/engine/admin"
	"github.com/sluice-gateway/sluice/engine/listen"
	"github.com/sluice-gateway/sluice/engine/telemetry"
)

const (
	// handoverTime is how long the next process may take to serve: a start that waits for name servers
	// is slow, not broken.
	handoverTime = time.Minute
	// adminTime is how long the last answers of the admin side may take.
	adminTime = 5 * time.Second
)

// process is a gateway and what is around it: the admin side, signals, systemd and the next process.
// Its methods belong to one goroutine.
type process struct {
	gateway *reloader
	sockets *listen.Set
	log     zerolog.Logger
	buffer  *telemetry.LogBuffer // what log writes to
	getenv  func(string) string

	program string // what SIGUSR2 starts, with args; empty: nothing
	args    []string

	admin      *admin.Server // nil: none
	background sync.WaitGroup
	stop       context.CancelFunc // of the watchdog
	endLog     func()             // writes what is left of the log
}

// start listens and serves. When it fails nothing has been accepted.
func (p *process) start() error {
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	p.startLog()
	if err := p.open(); err != nil {
		cancel()
		p.endLog()
		return err
	}
	status := p.gateway.Status(time.Now())
	p.log.Info().Str("version", version).Str("config", status.Config.Hash).Str("file", status.Config.Path).
		Int("routes", len(status.Routes)).Int("pid", os.Getpid()).Msg("serving")
	p.notify(listen.StateReady)
	if interval, ok := listen.WatchdogInterval(p.getenv); ok {
		p.background.Go(func() { p.feedWatchdog(ctx, interval/2) })
	}
	return nil
}

// startLog begins to write the log, until endLog.
func (p *process) startLog() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.buffer.Run(ctx, func(lost uint64) {
			p.log.Error().Uint64("lines", lost).Msg("log: standard error did not keep up, lines are lost")
		})
	}()
	p.endLog = func() {
		cancel()
		<-ended
	}
}

// open claims all sockets before the engine's Start tells a parent process to let go of them; the
// admin side accepts after it, for what is accepted earlier could die with a start that fails.
func (p *process) open() error {
	var l net.Listener
	if address := p.gateway.Admin().Listen; address != "" {
		var err error
		if l, err = p.sockets.Listen(address); err != nil {
			return err
		}
	}
	if err := p.gateway.Start(); err != nil {
		return err
	}
	p.closeUnclaimed()
	if l != nil {
		p.serveAdmin(l)
	}
	return nil
}

func (p *process) serveAdmin(l net.Listener) {
	p.admin = admin.New(p.gateway, p.log)
	p.background.Go(func() {
		if err := p.admin.Serve(l); err != nil {
			p.log.Error().Err(err).Msg("the admin side ended")
		}
	})
	p.log.Info().Str("address", l.Addr().String()).Msg("admin side listening")
}

func (p *process) closeUnclaimed() {
	names, err := p.sockets.CloseUnclaimed()
	if err != nil {
		p.log.Warn().Err(err).Msg("a socket's file stays behind")
	}
	if len(names) > 0 {
		p.log.Warn().Str("sockets", strings.Join(names, ", ")).Msg("closed: handed in, but not configured")
	}
}

// supervise does what signals and the admin side ask for, until the gateway has ended.
func (p *process) supervise(signals <-chan os.Signal) {
	var next handover
	for {
		select {
		case s := <-signals:
			switch {
			case s == syscall.SIGHUP && next.running():
				p.log.Warn().Msg("not reloaded: the next process, on its way, reads the configuration itself")
			case s == syscall.SIGHUP:
				p.reload()
			case s == syscall.SIGUSR1:
				p.gateway.ReopenLogs()
			case s == syscall.SIGUSR2 && !next.running():
				next = p.handOver()
			case s == syscall.SIGUSR2:
				p.log.Warn().Msg("a handover is under way already")
			default:
				p.log.Info().Str("signal", s.String()).Msg("asked to end")
				p.end(signals, next.giveUp())
				return
			}
		case <-p.gateway.DrainAsked():
			p.log.Info().Str("by", "the admin side").Msg("asked to end")
			p.end(signals, next.giveUp())
			return
		case err := <-next.done:
			next = handover{}
			if err == nil {
				p.end(signals, true)
				return
			}
			p.log.Error().Err(err).Msg("not handed over: this process serves on")
		}
	}
}

func (p *process) reload() {
	p.notify(listen.StateReloading)
	_ = p.gateway.Reload() // logged and counted by the engine
	p.notify(listen.StateReady)
}

// handover is a next process on its way. Its zero value is none.
type handover struct {
	cancel context.CancelFunc
	done   chan error
}

func (h handover) running() bool { return h.done != nil }

// giveUp ends a handover that nobody wants any more. It reports whether that came too late: the next
// process serves.
func (h handover) giveUp() (served bool) {
	if !h.running() {
		return false
	}
	h.cancel()
	return <-h.done == nil
}

// handOver starts the next process and returns at once.
func (p *process) handOver() handover {
	ctx, cancel := context.WithCancel(context.Background())
	h := handover{cancel: cancel, done: make(chan error, 1)}
	go func() {
		defer cancel()
		h.done <- p.startNext(ctx)
	}()
	return h
}

func (p *process) startNext(ctx context.Context) error {
	if p.program == "" {
		return errors.New("there is no program to hand over to")
	}
	next, err := p.gateway.Handover(ctx, listen.Handover{Path: p.program, Args: p.args, Ready: handoverTime})
	if err != nil {
		return err
	}
	p.log.Info().Int("pid", next.Pid).Msg("handed over")
	p.notify("MAINPID=" + strconv.Itoa(next.Pid))
	_ = next.Release() // it is init's to wait for: this process ends soon
	return nil
}

// end drains and closes everything; a second request to end cuts the drain short. The admin side goes
// last, so that probes see why. systemd is not told of the end if another process serves on.
func (p *process) end(signals <-chan os.Signal, handedOver bool) {
	if !handedOver {
		p.notify(listen.StateStopping)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		p.gateway.Drain(ctx)
	}()
	for waiting := true; waiting; {
		select {
		case <-drained:
			waiting = false
		case s := <-signals:
			if s == syscall.SIGTERM || s == syscall.SIGINT {
				p.log.Warn().Msg("asked again: connections are cut")
				cancel()
			}
		}
	}
	p.close()
	p.log.Info().Msg("ended")
	p.endLog()
}

// close ends what start began beside the engine.
func (p *process) close() {
	if p.admin != nil {
		ctx, cancel := context.WithTimeout(context.Background(), adminTime)
		defer cancel()
		if err := p.admin.Shutdown(ctx); err != nil {
			p.log.Warn().Err(err).Msg("the admin side was cut")
		}
	}
	p.stop()
	p.background.Wait()
	if err := p.sockets.Close(); err != nil {
		p.log.Warn().Err(err).Msg("a socket's file stays behind")
	}
}

// notify tells systemd, if it listens.
func (p *process) notify(state string) {
	if err := listen.Notify(p.getenv, state); err != nil {
		p.log.Warn().Err(err).Msg("systemd does not know: " + state)
	}
}

func (p *process) feedWatchdog(ctx context.Context, pause time.Duration) {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.notify(listen.StateWatchdog)
		case <-ctx.Done():
			return
		}
	}
}
