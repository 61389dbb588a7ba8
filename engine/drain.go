package engine

import (
	"context"
	"os"
	"time"

	"github.com/sluice-gateway/sluice/engine/listen"
)

const (
	// drainPoll is how often a draining engine looks for connections that have fallen silent.
	drainPoll = 50 * time.Millisecond
	// drainSilence is how long a kept-alive connection must have been silent to be closed by a drain:
	// a client in the middle of its requests is told by Connection: close instead, so that no request
	// meets a closed connection.
	drainSilence = time.Second
)

// AskDrain asks whoever runs the engine to shut it down: see DrainAsked.
func (e *Engine) AskDrain() { e.askDrain.Do(func() { close(e.drainAsked) }) }

// DrainAsked is closed by AskDrain.
func (e *Engine) DrainAsked() <-chan struct{} { return e.drainAsked }

// Handover starts the program anew with the same sockets and returns once it serves. This engine then
// accepts nothing any more; Drain is what remains to be done.
func (e *Engine) Handover(ctx context.Context, h listen.Handover) (*os.Process, error) {
	e.reloading.Lock()
	defer e.reloading.Unlock()
	if e.draining() {
		return nil, ErrDraining
	}
	process, err := e.sockets.Handover(ctx, h)
	if err != nil {
		return nil, err
	}
	e.phase.Store(phaseDraining)
	if err := e.sockets.Close(); err != nil { // first: what came in afterwards would be let pass unknown to our peers
		e.log.Warn().Err(err).Msg("a socket's file stays behind")
	}
	if g := e.cluster.gossip.Load(); g != nil {
		g.Succeed()
	}
	e.cluster.finish() // whoever took over waits for our address
	return process, nil
}

// Drain shuts the engine down: readiness goes red, after ready_delay the listeners close, requests
// under way have until drain to finish, and then all goroutines have ended. It returns how many
// connections had to be cut. ctx cuts the waiting short.
func (e *Engine) Drain(ctx context.Context) (cut int) {
	settings := e.snapshot.Load().file.Server
	e.phase.CompareAndSwap(phaseServing, phaseUnready)
	if !e.draining() && settings.ReadyDelay > 0 {
		e.log.Info().Dur("ready_delay", settings.ReadyDelay).Msg("not ready any more")
		select {
		case <-time.After(settings.ReadyDelay):
		case <-ctx.Done():
		}
	}
	e.closeListeners()
	e.acceptors.Wait() // whom they have accepted last is drained too
	e.log.Info().Int("connections", e.conns.count()).Dur("drain", settings.Drain).Msg("draining")
	if e.waitForClients(ctx, settings.Drain) != nil {
		cut = e.conns.closeAll()
		e.log.Warn().Int("connections", cut).Msg("connections cut: they outlasted the drain")
	}
	e.shutdown()
	return cut
}

func (e *Engine) closeListeners() {
	e.reloading.Lock()
	defer e.reloading.Unlock()
	if e.draining() {
		return
	}
	e.phase.Store(phaseDraining)
	if err := e.sockets.Retain([]string{e.adminAddress}); err != nil {
		e.log.Warn().Err(err).Msg("a socket's file stays behind")
	}
}

func (e *Engine) waitForClients(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	silence := min(drainSilence, limit/2)
	for {
		e.conns.closeIdle(time.Now(), silence)
		step, done := context.WithTimeout(ctx, drainPoll)
		err := e.conns.wait(step)
		done()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}

// shutdown ends what the engine has started, and waits for it.
func (e *Engine) shutdown() {
	if e.stop != nil {
		e.stop()
	}
	e.background.Wait()
	e.certificates.follow(nil, &e.log)
	_ = e.conns.wait(context.Background())
	e.cluster.finish()
	e.finishMethods()
	if s := e.snapshot.Load().limitStore; s != nil {
		s.finish()
	}
	e.logging.finish()
	if t := e.snapshot.Load().tracing.tracer; t != nil {
		t.Close()
	}
	for _, p := range e.snapshot.Load().pools {
		p.finish()
		p.CloseIdle()
	}
	_ = e.poller.Close()
}
