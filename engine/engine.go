// Package engine is the gateway: it compiles a configuration, listens, and carries every request from
// a client to a target and back. It is the one room that knows all the others.
package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/auth/revocation"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/listen"
	"github.com/sluice-gateway/sluice/engine/socket"
	"github.com/sluice-gateway/sluice/engine/telemetry"
	"github.com/sluice-gateway/sluice/engine/upstream"
	"github.com/sluice-gateway/sluice/engine/watch"
	"github.com/sluice-gateway/sluice/limiter"
)

// Options is what an Engine is made of. All are needed but Sockets, Stdout and Resolver.
type Options struct {
	Path    string         // of gateway.toml
	Version string         // of the program, for the status
	Log     *telemetry.Log // the gateway's own log
	Random  func() uint64  // uniform over all of uint64, safe for concurrent use
	Sockets *listen.Set    // those that the process inherited; nil: none
	Stdout  io.Writer      // what log.access = "stdout" means; nil: nothing
	// Resolver looks up the names of upstreams; nil: the system's.
	Resolver upstream.Resolver
}

// Engine is a running gateway. Its methods are safe for concurrent use.
type Engine struct {
	options  Options
	log      zerolog.Logger
	random   func() uint64
	faults   *faults
	sockets  *listen.Set
	server   *fasthttp.Server
	snapshot atomic.Pointer[snapshot]
	started  time.Time
	// adminAddress is the socket of [admin], which the engine keeps open but does not serve. It is the
	// one of the start: whoever serves it does not move.
	adminAddress string
	watcher      *watch.Watcher // nil: the kernel has no watches left

	poller     *socket.Poller // of connections on both sides
	conns      conns
	dormitory  dormitory
	exchanges  exchanges
	inputs     inputs
	buffers    buffers
	reloads    reloads
	metrics    *telemetry.Metrics
	exposition http.Handler // of the metrics
	access     *telemetry.AccessLog
	logging    worker        // writes it; outlives what is logged
	connected  atomic.Uint32 // connections so far
	phase      atomic.Int32  // of lifecycle

	reloading    sync.Mutex // one change of the snapshot at a time; guards what follows
	accepting    map[string]*acceptor
	certificates certificateWatch

	limiter     *limiter.Limiter // its now counts from started
	revocations revocations
	cluster     cluster
	life        context.Context // ends with the engine
	turns       turns

	offenders *telemetry.Offenders
	spans     telemetry.TraceCounts

	acceptors  sync.WaitGroup
	background sync.WaitGroup
	stop       context.CancelFunc
	drainAsked chan struct{}
	askDrain   sync.Once
}

// lifecycle is an Engine's phase. It only ever grows.
const (
	phaseStarting int32 = iota
	phaseServing
	phaseUnready  // readiness is red, all else goes on
	phaseDraining // no new connections, no further requests on the ones there are
)

// New loads and compiles the configuration and opens its sockets. Nothing is accepted before Start.
// If the configuration is at fault, the error is a config.Faults.
func New(o Options) (*Engine, error) {
	e := &Engine{
		options: o, log: o.Log.Logger(), random: o.Random, faults: newFaults(), sockets: o.Sockets,
		started: time.Now(), accepting: map[string]*acceptor{}, drainAsked: make(chan struct{}),
	}
	if e.sockets == nil {
		e.sockets = &listen.Set{}
	}
	e.metrics = newMetrics()
	e.access = e.newAccessLog()
	e.exposition = e.metrics.Handler(metricFamilies(), e.report)
	e.life, e.stop = context.WithCancel(context.Background())
	e.revocations.list = revocation.New(revocation.Config{})
	e.offenders = telemetry.NewOffenders(e.started)
	e.server = e.newServer()
	e.dormitory.bedtime, e.dormitory.many = bedtime, manySleepers
	watcher, err := watch.New([]string{o.Path})
	if err != nil {
		e.log.Error().Err(err).Msg("the configuration is not watched: reload by SIGHUP")
	}
	e.watcher = watcher
	if e.poller, err = socket.NewPoller(); err == nil {
		err = e.load()
	}
	if err == nil {
		return e, nil
	}
	e.stop()
	if watcher != nil {
		_ = watcher.Close()
	}
	if e.poller != nil {
		_ = e.poller.Close()
	}
	return nil, err
}

// load makes the first snapshot.
func (e *Engine) load() error {
	file, faults := config.Load(e.options.Path)
	if file == nil {
		return faults
	}
	var err error
	if e.limiter, err = newLimiter(file, e.started); err != nil {
		return err
	}
	e.cluster.config = file.Cluster
	snap, faults := compile(file, faults, e.origin(nil), e.started)
	if err = faults.Err(); err != nil {
		return err
	}
	if err := e.openRevocations(snap); err != nil {
		return err
	}
	if snap.access, err = e.openAccessLog(nil, file); err != nil {
		return err
	}
	if err := e.options.Log.SetLevel(file.Log.Level); err != nil {
		return fmt.Errorf("BUG: a log level that was accepted: %w", err)
	}
	e.adminAddress = file.Admin.Listen
	e.resolve(nil, snap)
	e.live(snap)
	return nil
}

// origin is what the next snapshot is built upon.
func (e *Engine) origin(last *snapshot) origin {
	return origin{
		last: last, limiter: e.limiter, metrics: e.metrics, spans: &e.spans, version: e.options.Version, log: e.log, epoch: e.started,
		random: e.random, resolver: e.options.Resolver, poller: e.poller,
		alone: e.cluster.config == nil,
	}
}

// now is the engine's monotonic time.
func (e *Engine) now() time.Duration { return time.Since(e.started) }

// newServer sets fasthttp up to accept connections and lend them goroutines. Every connection speaks the protocol that
// TLS has no name for: ours; see drive.
func (e *Engine) newServer() *fasthttp.Server {
	s := &fasthttp.Server{Concurrency: maxWorkers, MaxIdleWorkerDuration: time.Second, Logger: serverLog{e.log}}
	s.NextProto("", e.drive)
	return s
}

// Start begins to accept on every address of the configuration. It fails, having accepted nothing, if
// one of them cannot be listened on.
func (e *Engine) Start() error {
	e.reloading.Lock()
	defer e.reloading.Unlock()
	opened, err := e.open(e.snapshot.Load())
	if err != nil {
		return err
	}
	if err := e.openCluster(); err != nil {
		return err
	}
	if err := e.sockets.Ready(); err != nil {
		return err
	}
	ctx := e.life
	e.poller.Start()
	e.logging.start(context.Background(), e.access.Run)
	e.startMethods(e.snapshot.Load())
	e.startLimitStore(e.snapshot.Load())
	e.startCluster()
	e.background.Go(func() { e.watchClients(ctx) })
	e.background.Go(func() { e.dormitory.giveBack(ctx) })
	e.background.Go(func() { e.metrics.Run(ctx) })
	if e.watcher != nil {
		e.background.Go(func() { e.watchFile(ctx) })
	}
	e.certificates.follow(e.snapshot.Load().certs, &e.log)
	e.accept(opened)
	e.phase.Store(phaseServing)
	return nil
}

func (e *Engine) watchClients(ctx context.Context) {
	ticker, seldom := time.NewTicker(watchInterval), time.NewTicker(5*watchInterval)
	defer ticker.Stop()
	defer seldom.Stop()
	for {
		select {
		case now := <-ticker.C:
			e.conns.watch(e.revocations.list, now)
		case now := <-seldom.C:
			e.conns.expire(now, e.snapshot.Load().server.idleTimeout)
		case <-ctx.Done():
			return
		}
	}
}

// resolve looks up the names of the upstreams that are new. That it fails is no fault of a configuration: what was
// known of a name before is good enough, and the pools go on trying.
func (e *Engine) resolve(last, snap *snapshot) {
	var lookups sync.WaitGroup
	for name, p := range snap.pools {
		if p.begun() {
			continue
		}
		lookups.Go(func() {
			p.Resolve(e.life)
			if last != nil && last.pools[name] != nil {
				p.Inherit(last.pools[name].Pool)
			}
		})
	}
	lookups.Wait()
}

// watchFile reloads when the configuration file changes.
func (e *Engine) watchFile(ctx context.Context) {
	err := e.watcher.Run(ctx, settleTime, func() { _ = e.Reload() })
	if err != nil {
		e.log.Error().Err(err).Msg("the configuration is not watched any more: reload by SIGHUP")
	}
}

// settleTime is how long the configuration must be at rest before it is read again: editors and
// deployments write in several steps.
const settleTime = 200 * time.Millisecond

// Reload loads the configuration again and swaps it in. Whatever can fail comes first: on an error the
// gateway goes on as it was. The error is a config.Faults if the configuration is at fault. It is
// logged and counted here, whoever asked.
func (e *Engine) Reload() error {
	e.reloading.Lock()
	defer e.reloading.Unlock()
	if e.draining() {
		return ErrDraining
	}
	reloadCertificates(e.snapshot.Load().certs, &e.log)
	err := e.reload()
	e.reloads.ended(time.Now(), err)
	if err != nil {
		e.log.Error().Err(err).Str("file", e.options.Path).Msg("configuration not changed: the new one has faults")
		return err
	}
	e.log.Info().Str("config", e.snapshot.Load().file.Hash()).Msg("configuration live")
	return nil
}

// ErrDraining refuses what makes no sense in a gateway that is shutting down.
var ErrDraining = errors.New("engine: shutting down")

// ErrNoAuth refuses revocations while no route authenticates anybody.
var ErrNoAuth = errors.New("engine: no route needs credentials")

func (e *Engine) reload() error {
	last := e.snapshot.Load()
	file, faults := config.Load(e.options.Path)
	if file == nil {
		return faults
	}
	snap, faults := compile(file, faults, e.origin(last), time.Now())
	if err := faults.Err(); err != nil {
		return err
	}
	if err := e.openRevocations(snap); err != nil {
		return err
	}
	access, err := e.openAccessLog(last, file)
	if err != nil {
		return err
	}
	opened, err := e.open(snap)
	if err != nil {
		return errors.Join(err, access.Close())
	}
	snap.access = access
	if err := e.options.Log.SetLevel(file.Log.Level); err != nil {
		return fmt.Errorf("BUG: a log level that was accepted: %w", err)
	}
	e.startMethods(snap)
	e.resolve(last, snap)
	e.startLimitStore(snap)
	e.live(snap)
	e.retireMethods(last, snap)
	e.retireLimitStore(last, snap)
	e.retireTracer(last, snap)
	e.certificates.follow(snap.certs, &e.log)
	e.accept(opened)
	e.retain(snap)
	for name, p := range last.pools {
		if snap.pools[name] != p {
			e.background.Go(func() { p.finish(); p.CloseIdle() })
		}
	}
	return nil
}

// live puts a snapshot in force. Nothing in here can fail.
func (e *Engine) live(snap *snapshot) {
	for _, p := range snap.pools {
		if !p.begun() {
			p.start(e.life, p.Run)
		}
	}
	if t := snap.tracing.tracer; t != nil {
		t.Start()
	}
	snap.update.Commit(time.Since(e.started))
	snap.plan.Commit(time.Now())
	e.access.Switch(snap.access, snap.file.Log.Sample)
	snap.update, snap.plan, snap.access = nil, nil, nil
	e.snapshot.Store(snap)
}

// draining says whether connections are to end with the request under way.
func (e *Engine) draining() bool { return e.phase.Load() >= phaseDraining }
