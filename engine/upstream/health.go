package upstream

import (
	"context"
	"fmt"
	"io"
	"math/bits"
	"net"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/engine/wire"
)

// HealthConfig says how a target is asked whether it is well. A value below the least one allowed counts as
// that: Interval 10 ms, Timeout 1 ms, Healthy and Unhealthy 1.
type HealthConfig struct {
	Path      string // origin form, with a query if need be
	Host      string
	Interval  time.Duration         // from one check's beginning to the next, give or take a tenth
	Timeout   time.Duration         // for a whole check, connecting included
	Healthy   int                   // passes in a row to come back
	Unhealthy int                   // failures in a row to leave
	Expect    func(status int) bool // which answers pass; nil: 200-399
}

const (
	// firstCheck bounds the wait for a target's first check, so that a restarted gateway soon knows its targets.
	firstCheck = time.Second
	// drainBytes and drainTime bound what is read of an answer's body. It says nothing about the target, but
	// to close while it arrives would reset the connection, which many servers log as an error.
	drainBytes = 16 << 10
	drainTime  = 100 * time.Millisecond
)

// request is a check's whole request.
func (c *HealthConfig) request() []byte {
	return []byte("GET " + c.Path + " HTTP/1.1\r\nHost: " + c.Host +
		"\r\nUser-Agent: sluice-health\r\nConnection: close\r\n\r\n")
}

// Validate says whether Path and Host make a well-formed request.
func (c *HealthConfig) Validate() error {
	if len(c.Path) == 0 || c.Path[0] != '/' {
		return fmt.Errorf("path %q does not begin with a slash", c.Path)
	}
	if c.Host == "" {
		return fmt.Errorf("no host for path %q", c.Path)
	}
	if _, err := wire.ParseRequestLine([]byte("GET " + c.Path + " HTTP/1.1")); err != nil {
		return fmt.Errorf("path %q: %w", c.Path, err)
	}
	if !wire.FieldValue([]byte(c.Host)) {
		return fmt.Errorf("host %q: %w", c.Host, wire.ErrValue)
	}
	return nil
}

// CheckState is what the checks of one target have found.
type CheckState struct {
	Healthy  bool          // true until enough checks have failed
	Checked  time.Time     // when the last check ended; zero: never checked
	Took     time.Duration // the beginning of the body included
	Status   int           // of the last answer; 0: there was none
	Err      error         // why the last check failed; nil: it passed
	Passes   int           // in a row, up to now
	Failures int           // likewise
}

// checker asks one target how it is, on connections of its own, and says when its verdict changes. A target
// that was never checked counts as healthy.
type checker struct {
	config  HealthConfig
	head    []byte
	dial    func(ctx context.Context) (net.Conn, error)
	random  func() uint64
	verdict func(healthy bool, why error)
	started atomic.Bool
	last    atomic.Pointer[CheckState] // written by run only
}

// newChecker makes a checker of a valid config; run starts it. dial must heed its context, and random be
// uniform. verdict is called by run for every change of Healthy, when state tells it already; why is the last
// failure, or nil with a return to health. It must not block, for the next check waits for it.
func newChecker(c HealthConfig, dial func(ctx context.Context) (net.Conn, error), random func() uint64,
	verdict func(healthy bool, why error)) *checker {
	if err := c.Validate(); err != nil {
		panic("BUG: a health check that was not validated: " + err.Error())
	}
	c.Interval = max(c.Interval, 10*time.Millisecond)
	c.Timeout = max(c.Timeout, time.Millisecond)
	c.Healthy = max(c.Healthy, 1)
	c.Unhealthy = max(c.Unhealthy, 1)
	if c.Expect == nil {
		c.Expect = func(status int) bool { return status >= 200 && status <= 399 }
	}
	k := &checker{config: c, head: c.request(), dial: dial, random: random, verdict: verdict}
	k.last.Store(&CheckState{Healthy: true})
	return k
}

// state tells what the checks have found so far. It is safe for concurrent use.
func (k *checker) state() CheckState { return *k.last.Load() }

// run checks the target until ctx ends, one check at a time. A check that takes longer than the interval
// puts off the next one. One that the end of ctx interrupts counts as nothing. run may be called once.
func (k *checker) run(ctx context.Context) {
	if k.started.Swap(true) {
		panic("BUG: a checker is run twice")
	}
	timer := time.NewTimer(k.below(min(k.config.Interval, firstCheck)))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		began := time.Now()
		status, err := k.check(ctx)
		if ctx.Err() != nil {
			return
		}
		k.record(status, err, began)
		timer.Reset(time.Until(began.Add(k.pause())))
	}
}

// pause is the interval, give or take a tenth: gateways that were started together do not go on checking
// together.
func (k *checker) pause() time.Duration {
	tenth := k.config.Interval / 10
	return k.config.Interval - tenth + k.below(2*tenth)
}

// below is a random time from 0 to d.
func (k *checker) below(d time.Duration) time.Duration {
	high, _ := bits.Mul64(k.random(), uint64(d)+1) // #nosec G115 -- not negative
	return time.Duration(high)                     // #nosec G115 -- at most d
}

func (k *checker) record(status int, err error, began time.Time) {
	s := k.state()
	was := s.Healthy
	s.Checked = time.Now()
	s.Took = s.Checked.Sub(began)
	s.Status, s.Err = status, err
	if err == nil {
		s.Passes++
		s.Failures = 0
		s.Healthy = was || s.Passes >= k.config.Healthy
	} else {
		s.Failures++
		s.Passes = 0
		s.Healthy = was && s.Failures < k.config.Unhealthy
	}
	k.last.Store(&s)
	if s.Healthy != was {
		k.verdict(s.Healthy, err)
	}
}

// check asks once. The status is that of the answer, if there was one; no error means that it passes. A
// redirect is an answer like any other.
func (k *checker) check(ctx context.Context) (status int, err error) {
	deadline := time.Now().Add(k.config.Timeout)
	timed, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	stream, err := k.dial(timed)
	if err != nil {
		return 0, &Error{Phase: PhaseConnect, Err: err}
	}
	defer func() { _ = stream.Close() }()
	defer closeWith(ctx, stream)()

	c := newConn(stream, nil, &readers{})
	if err := c.Send(k.head, deadline); err != nil {
		return 0, err
	}
	r, err := c.Receive([]byte("GET"), deadline)
	if err != nil {
		return 0, err
	}
	if !k.config.Expect(r.Status.Code) {
		err = fmt.Errorf("upstream: unexpected status %d", r.Status.Code)
	}
	drain(c, deadline)
	return r.Status.Code, err
}

// drain reads a small body, so that its connection ends in order.
func drain(c *Conn, deadline time.Time) {
	if soon := time.Now().Add(drainTime); soon.Before(deadline) {
		deadline = soon
	}
	if c.Stream(0, deadline) == nil {
		_, _ = io.CopyN(io.Discard, &c.Response().Body, drainBytes)
	}
}

// closeWith closes stream if ctx ends before stop is called, so that nothing waits on it then.
func closeWith(ctx context.Context, stream io.Closer) (stop func()) {
	closed := make(chan struct{})
	unlink := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = stream.Close()
	})
	return func() {
		if !unlink() {
			<-closed
		}
	}
}
