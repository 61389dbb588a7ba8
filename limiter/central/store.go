package central

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/sluice-gateway/sluice/limiter"
)

var (
	// ErrUnavailable says that Redis has not decided: it is away, or slow, or does not know what it says.
	ErrUnavailable = errors.New("central: Redis does not decide")
	// ErrGone says that the client left before Redis had decided.
	ErrGone = errors.New("central: the client has left")
)

const (
	lanes     = 8    // batches under way at once
	maxBatch  = 64   // questions in one
	maxAsked  = 4096 // questions that wait for a lane; more are not asked
	mostRules = 16   // of a request

	dialTimeout  = time.Second
	patience     = time.Second            // a ping that is not answered so long ends the connection
	longestLane  = 5 * time.Second        // a lane waits for Redis: answers that come too late are to be undone
	firstPause   = 50 * time.Millisecond  // between attempts to connect; doubled ...
	longPause    = 500 * time.Millisecond // ... up to this
	pingEvery    = time.Second            // on a quiet connection
	clusterNodes = 5 * time.Second        // a master that was demoted, and did not hang up, is left after this
	ioBuffer     = 32 << 10               // bytes, for each direction of a connection
)

// Config says which Redis decides. All fields are needed but Report.
type Config struct {
	Options rueidis.ClientOption // the connection; retries and client-side caching are turned off
	Prefix  string               // of the names of all keys in Redis
	Timeout time.Duration        // longest that Take waits

	// Report hears when Redis becomes usable (true, nil) or stops being so (false and why), one call at a time.
	// It must not wait for anything.
	Report func(up bool, err error)

	// now is the time of tests in microseconds of Unix time; empty: the server's.
	now func() string
}

// Store decides on requests in Redis. It is safe for concurrent use. Before Run, and after, it is unavailable.
type Store struct {
	config  Config
	cluster bool // keys of several slots do not meet in a script
	take    script
	undo    script

	client atomic.Pointer[rueidis.Client] // nil: not connected yet
	queue  chan *ask
	free   sync.Pool // of *ask
	tried  chan struct{}

	breaker breaker
	memory  *memory
	counts  counts

	telling sync.Mutex // guards what follows
	told    bool
	up      bool
}

type counts struct{ asked, recalled, failed, late, returned, lost atomic.Uint64 }

// Stats is what a store has done.
type Stats struct {
	Up       bool   // Redis decides
	Asked    uint64 // questions to Redis
	Recalled uint64 // requests refused without asking, as their bucket was known to be exhausted
	Failed   uint64 // questions that Redis did not answer in time, or not well
	Late     uint64 // of them, those whose answer came afterwards
	Returned uint64 // requests that were given back
	Lost     uint64 // requests that were to be given back, and were not, as Redis was away
}

// New makes a store. Nothing is connected before Run.
func New(c Config) *Store {
	if c.Report == nil {
		c.Report = func(bool, error) {}
	}
	o := &c.Options
	o.Dialer = net.Dialer{Timeout: dialTimeout, KeepAlive: pingEvery}
	o.Sentinel.Dialer, o.Sentinel.TopologyRefreshInterval = o.Dialer, clusterNodes
	o.ConnWriteTimeout = patience
	o.DisableRetry, o.DisableCache = true, true
	o.AlwaysPipelining, o.PipelineMultiplex = true, -1 // one connection, shared by the lanes
	o.ReadBufferEachConn, o.WriteBufferEachConn = ioBuffer, ioBuffer
	o.ClientName = "sluice"
	return &Store{
		config: c, cluster: !o.ForceSingleClient && o.Sentinel.MasterSet == "",
		take: newScript(takeScript), undo: newScript(undoScript),
		queue: make(chan *ask, maxAsked), tried: make(chan struct{}), memory: newMemory(),
	}
}

// Tried is closed when the first attempt to connect has ended, well or not.
func (s *Store) Tried() <-chan struct{} { return s.tried }

// Run connects and decides until ctx is done. It may be called once.
func (s *Store) Run(ctx context.Context) {
	client := s.connect(ctx)
	if client != nil {
		s.client.Store(&client)
		s.tell(true, nil)
		s.closeTried()
		var running sync.WaitGroup
		for range lanes {
			running.Go(func() { s.lane(ctx, client) })
		}
		running.Wait()
		s.client.Store(nil)
		client.Close() // whose connections ended with ctx: a server that hangs does not hold it up
	}
	s.closeTried()
	for {
		select {
		case a := <-s.queue:
			if !a.settle(errClosed) {
				continue
			}
			s.free.Put(a)
		default:
			return
		}
	}
}

var errClosed = errors.New("central: closed")

// closeTried is called by Run alone.
func (s *Store) closeTried() {
	select {
	case <-s.tried:
	default:
		close(s.tried)
	}
}

// connect tries until it is connected; nil: ctx is done.
func (s *Store) connect(ctx context.Context) rueidis.Client {
	options := s.config.Options
	options.DialCtxFn = func(call context.Context, address string, dialer *net.Dialer, config *tls.Config) (net.Conn, error) {
		conn, err := dial(ctx, call, address, dialer, config)
		if err != nil {
			return nil, err
		}
		return &wire{Conn: conn, pushes: options.Sentinel.MasterSet != ""}, nil
	}
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		client, err := rueidis.NewClient(options)
		if err == nil {
			return client
		}
		s.tell(false, err)
		s.closeTried()
		rest := time.NewTimer(pause/2 + rand.N(pause/2+1))
		select {
		case <-ctx.Done():
			rest.Stop()
			return nil
		case <-rest.C:
		}
	}
}

// dial opens a connection that ends with life. The call ends the dialling only.
func dial(life, call context.Context, address string, dialer *net.Dialer, config *tls.Config) (net.Conn, error) {
	call, cancel := context.WithTimeout(call, dialTimeout)
	defer cancel()
	defer context.AfterFunc(life, cancel)()
	var conn net.Conn
	var err error
	if config != nil {
		conn, err = (&tls.Dialer{NetDialer: dialer, Config: config}).DialContext(call, "tcp", address)
	} else {
		conn, err = dialer.DialContext(call, "tcp", address)
	}
	if err != nil {
		return nil, err
	}
	context.AfterFunc(life, func() { conn.Close() })
	return conn, nil
}

// tell reports changes only, and the first state whatever it is.
func (s *Store) tell(up bool, err error) {
	s.telling.Lock()
	defer s.telling.Unlock()
	if !s.told || up != s.up {
		s.told, s.up = true, up
		s.config.Report(up, err)
	}
}

// Stats counts.
func (s *Store) Stats() Stats {
	return Stats{
		Up: s.client.Load() != nil && !s.breaker.open(), Asked: s.counts.asked.Load(), Recalled: s.counts.recalled.Load(),
		Failed: s.counts.failed.Load(), Late: s.counts.late.Load(), Returned: s.counts.returned.Load(),
		Lost: s.counts.lost.Load(),
	}
}

// Reopens is the time from now until Redis is asked again, if it is left alone.
func (s *Store) Reopens(now time.Duration) time.Duration {
	if s.client.Load() == nil {
		return longPause
	}
	return s.breaker.reopens(now)
}

// Charge is what a request asks of a rule.
type Charge struct {
	Rule   *Rule
	Bucket Bucket
	Tier   string       // of the client; may be empty
	Own    limiter.Rate // the credential's own rate, which wins over the tier's; may be zero
	// Passes says that the request passes if Redis does not decide: should an admission come too late, it is not
	// given back.
	Passes bool
}

// Take asks every rule for a request at now, and takes from all of their buckets or, if one refuses, from none.
// Shadows have no say, and are charged if all others agree. There are as many verdicts as charges, at most 16.
//
// now is a time by a monotonic clock, the same for all calls. gone gets something when the client leaves. Take
// fails with ErrUnavailable or ErrGone; then nothing is taken in the end, but for charges that pass.
func (s *Store) Take(now time.Duration, gone <-chan struct{}, charges []Charge, verdicts []Verdict) (admitted bool, err error) {
	if s.recall(now, charges, verdicts) {
		s.counts.recalled.Add(1)
		return false, nil
	}
	if s.client.Load() == nil || !s.breaker.admit(now) {
		return false, ErrUnavailable
	}
	step := len(charges)
	if s.cluster {
		step = 1
	}
	timer := time.NewTimer(s.config.Timeout)
	defer timer.Stop()
	admitted = true
	for i := 0; i < len(charges) && admitted; i += step {
		admitted, err = s.ask(now, gone, timer.C, charges[i:i+step], verdicts[i:i+step])
		if err != nil || !admitted {
			s.GiveBack(verdicts[:i])
		}
	}
	return admitted && err == nil, err
}

// recall begins the verdicts, and says whether the request is known to be refused.
func (s *Store) recall(now time.Duration, charges []Charge, verdicts []Verdict) (refused bool) {
	for i := range charges {
		c, v := &charges[i], &verdicts[i]
		*v = Verdict{policy: c.Rule.policy(c.Tier, c.Own), rule: c.Rule, bucket: c.Bucket}
		refused = !c.Rule.spec.Shadow && s.memory.recall(now, v) || refused
	}
	return refused
}

// ask lets Redis decide on charges in one step.
func (s *Store) ask(now time.Duration, gone <-chan struct{}, timeout <-chan time.Time, charges []Charge, verdicts []Verdict) (bool, error) {
	s.counts.asked.Add(1)
	a := s.newAsk(s.take)
	a.addTake(s, charges, verdicts)
	if err := s.await(a, gone, timeout); err != nil {
		if errors.Is(err, ErrGone) {
			return false, err
		}
		s.fail(now, err)
		return false, ErrUnavailable
	}
	defer s.free.Put(a)
	admitted, ok := a.decide(verdicts)
	if !ok {
		s.fail(now, errReply)
		return false, ErrUnavailable
	}
	if s.breaker.succeeded() {
		s.tell(true, nil)
	}
	for i := range verdicts {
		if v := &verdicts[i]; v.Refused && !charges[i].Rule.spec.Shadow {
			s.memory.remember(now, v)
		}
	}
	return admitted, nil
}

var (
	errReply   = errors.New("central: Redis answered something else than was asked for")
	errTimeout = errors.New("central: Redis did not answer in time")
	errBusy    = errors.New("central: too many requests wait for Redis")
)

func (s *Store) fail(now time.Duration, err error) {
	s.counts.failed.Add(1)
	if s.breaker.failed(now) {
		s.tell(false, err)
	}
}

// await hands a question to a lane, and waits for its end. After an error the question is not the caller's any more.
func (s *Store) await(a *ask, gone <-chan struct{}, timeout <-chan time.Time) error {
	select {
	case s.queue <- a:
	default:
		s.free.Put(a)
		return errBusy
	}
	var err error
	select {
	case <-a.done:
		if err = a.err; err != nil {
			s.free.Put(a)
		}
		return err
	case <-timeout:
		err = errTimeout
	case <-gone:
		err = ErrGone
		a.undoes.Store(true)
	}
	if a.state.CompareAndSwap(waiting, abandoned) {
		return err
	}
	<-a.done // it came in this moment
	if errors.Is(err, ErrGone) {
		s.undoLate(a)
	} else if a.err == nil {
		return nil
	}
	s.free.Put(a)
	return err
}

// GiveBack undoes what Take took, of requests that are not carried out after all, without waiting for it. What
// would have come in anew meanwhile is not given back a second time; a turn in a leaky bucket's queue can only be
// given back while it is the last one, else it passes unused.
func (s *Store) GiveBack(verdicts []Verdict) {
	for i := range verdicts {
		v := &verdicts[i]
		if !v.taken {
			continue
		}
		s.giveBack(v.rule, v.policy, v.bucket, v.state)
		v.taken, v.state = false, v.policy.returned(v.state)
	}
}

func (s *Store) giveBack(r *Rule, p *policy, b Bucket, left state) {
	s.memory.forget(b)
	a := s.newAsk(s.undo)
	a.addUndo(s, r, p, b, left)
	select {
	case s.queue <- a:
	default:
		s.counts.lost.Add(1)
		s.free.Put(a)
	}
}
