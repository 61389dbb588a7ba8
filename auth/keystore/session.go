package keystore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/sluice-gateway/sluice/auth"
)

const (
	dialTimeout = time.Second            // for a connection and its greeting
	patience    = 500 * time.Millisecond // a server that does not answer this long hangs
	probeEvery  = 250 * time.Millisecond // bounds, with patience, how long a hang goes unseen
	firstPause  = 50 * time.Millisecond  // between attempts to connect; doubled ...
	longPause   = 500 * time.Millisecond // ... up to this
	settled     = time.Second            // a session that lived so long is followed by another at once
	maxBatch    = 128                    // questions sent together
	buffer      = 64 << 10               // bytes, for each direction of a connection

	topologyEvery = 5 * time.Second // a master that was demoted, and did not hang up, is left after this
)

var (
	errLost   = errors.New("the connection to Redis is lost")
	errClosed = errors.New("the key store is closed")
)

// session is one connected client. There is never more than one: it is not mended but replaced.
type session struct {
	client rueidis.Client
	epoch  *epoch
	lost   chan struct{} // closed by invalidated
	over   bool          // its epoch has ended; guarded by the store's mutex
}

// run keeps a session until ctx is done.
func (r *Redis) run(ctx context.Context) {
	defer close(r.done)
	defer r.grace.Stop()
	report := r.reporter()
	pause := time.Duration(0)
	for {
		started := time.Now()
		err := r.serve(ctx, report)
		if ctx.Err() != nil {
			r.fail(nil, errClosed)
			return
		}
		lost := errors.Is(err, errLost)
		if !lost {
			report(false, err) // a loss is told when connecting again fails
		}
		switch stable := time.Since(started) > settled; {
		case stable && lost:
			pause = 0
		case stable:
			pause = firstPause
		default:
			pause = max(firstPause, min(2*pause, longPause))
		}
		rest := time.NewTimer(pause/2 + rand.N(pause/2+1))
		select {
		case <-ctx.Done():
			rest.Stop()
		case <-rest.C:
		}
	}
}

// reporter tells of changes only, and of the first attempt however it ends.
func (r *Redis) reporter() func(up bool, err error) {
	told, last := false, false
	return func(up bool, err error) {
		if !told || up != last {
			told, last = true, up
			r.config.Report(up, err)
		}
	}
}

// serve opens a session and answers questions with it until it fails.
func (r *Redis) serve(ctx context.Context, report func(bool, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	s := &session{epoch: &epoch{}, lost: make(chan struct{})}
	client, err := rueidis.NewClient(r.options(ctx, s))
	if err != nil {
		cancel()
		r.fail(s, err)
		return fmt.Errorf("cannot connect to Redis: %w", err)
	}
	defer client.Close()
	defer cancel() // closes the connections first: a server that hangs cannot hold up Close
	s.client = client
	if _, err = r.exchange(ctx, s, nil); err == nil {
		r.begin(s)
		report(true, nil)
		err = r.answer(ctx, s)
	}
	r.fail(s, err)
	return err
}

// options are those of a client whose connections end with ctx.
func (r *Redis) options(ctx context.Context, s *session) rueidis.ClientOption {
	o := r.option
	o.Dialer = net.Dialer{Timeout: dialTimeout}
	o.Sentinel.Dialer = o.Dialer
	o.Sentinel.TopologyRefreshInterval = topologyEvery
	o.ConnWriteTimeout = dialTimeout
	o.DisableRetry = true    // a failed session is replaced as a whole
	o.PipelineMultiplex = -1 // one connection, so that an answer and the news of a change come in order
	o.ReadBufferEachConn, o.WriteBufferEachConn, o.CacheSizeEachConn = buffer, buffer, buffer
	o.ClientName = "sluice"
	o.ClientTrackingOptions = []string{"PREFIX", r.names.record, "BCAST"}
	o.OnInvalidations = func(written []rueidis.RedisMessage) { r.invalidated(s, written) }
	o.DialCtxFn = func(call context.Context, address string, dialer *net.Dialer, config *tls.Config) (net.Conn, error) {
		return dial(ctx, call, address, dialer, config)
	}
	return o
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

// begin makes a session the current one.
func (r *Redis) begin(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.grace.Stop()
	r.session, r.fault = s, nil
	r.down.Store(false)
	if !s.over {
		r.epoch.Store(s.epoch)
	}
	close(r.began)
}

// fail ends a session, or an attempt at one, and all questions with it. After a loss, new questions wait
// a while for the next session, which is often there at once.
func (r *Redis) fail(s *session, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s != nil {
		r.disown(s)
	}
	if r.session != nil {
		r.session, r.began = nil, make(chan struct{})
	}
	r.fault = err
	if errors.Is(err, errLost) {
		r.grace.Reset(r.config.Timeout)
	} else {
		r.down.Store(true)
	}
	r.turnAway()
}

// giveUp ends the wait for a session that does not come.
func (r *Redis) giveUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.session == nil {
		r.down.Store(true)
		r.turnAway()
	}
}

// turnAway answers all questions with auth.ErrUnavailable. The caller holds the mutex.
func (r *Redis) turnAway() {
	for len(r.queue) > 0 {
		<-r.queue
	}
	for d, f := range r.pending {
		f.err = storeDown
		close(f.done)
		delete(r.pending, d)
	}
}

// answer answers questions until the session fails.
func (r *Redis) answer(ctx context.Context, s *session) error {
	probe := time.NewTicker(probeEvery)
	defer probe.Stop()
	var batch []*flight
	for {
		if len(batch) == 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-s.lost:
				return errLost
			case <-probe.C:
			case f := <-r.queue:
				batch = append(batch, f)
			}
		}
		if len(batch) > 0 {
			batch = r.gather(batch)
		}
		var err error
		if batch, err = r.exchange(ctx, s, batch); err != nil {
			select {
			case <-s.lost:
				return errLost
			default:
				return err
			}
		}
	}
}

// gather adds what else is asked for to a batch.
func (r *Redis) gather(batch []*flight) []*flight {
	for len(batch) < maxBatch {
		select {
		case f := <-r.queue:
			batch = append(batch, f)
		default:
			return batch
		}
	}
	return batch
}

// exchange asks Redis a batch of questions, or none as a probe, and gives back those that are to be asked again.
// It fails when the session cannot be used any more.
func (r *Redis) exchange(ctx context.Context, s *session, batch []*flight) (again []*flight, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	commands := make(rueidis.Commands, 0, max(1, len(batch)))
	for _, f := range batch {
		commands = append(commands, r.read(s.client, f.digest))
	}
	if len(batch) == 0 {
		commands = append(commands, s.client.B().Getrange().Key(r.names.probe()).Start(0).End(0).Build())
	}
	sent := time.Now()
	replies := s.client.DoMulti(ctx, commands...)
	for _, reply := range replies {
		if _, err := reply.ToString(); err != nil && !isWrongType(err) {
			return nil, fmt.Errorf("cannot read from Redis: %w", err)
		}
	}
	s.epoch.confirmed.Store(sent.UnixNano())
	entries, faults := make([]*entry, len(batch)), []error(nil)
	for i, f := range batch {
		if entries[i], err = newRedisEntry(f.digest, replies[i]); err != nil {
			faults = append(faults, err)
		}
	}
	again = r.land(s, batch, entries)
	for _, fault := range faults {
		r.config.Report(true, fault)
	}
	return again, nil
}

// read asks for no more of a record than can be one, whatever is in Redis. A missing one is empty.
func (r *Redis) read(client rueidis.Client, d auth.Digest) rueidis.Completed {
	return client.B().Getrange().Key(r.names.of(d)).Start(0).End(maxRecord).Build()
}

func isWrongType(err error) bool {
	answer, ok := rueidis.IsRedisErr(err)
	return ok && strings.HasPrefix(answer.Error(), "WRONGTYPE")
}

// newRedisEntry makes the entry of a digest of what Redis has there. A record that cannot be read is a key
// that does not work; the error is for the report.
func newRedisEntry(d auth.Digest, reply rueidis.RedisResult) (*entry, error) {
	record, _, err := parse(d, reply)
	switch {
	case errors.Is(err, ErrNotFound):
		return &entry{digest: d, refused: unknownKey}, nil
	case err != nil:
		return &entry{digest: d, refused: garbledEntry}, err
	}
	return newEntry(&record), nil
}

// land hands entries to those who wait for them, and keeps them if the session still hears of changes. Those
// that changed on the way are given back.
func (r *Redis) land(s *session, batch []*flight, entries []*entry) (again []*flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, f := range batch {
		if f.dirty {
			f.dirty = false
			again = append(again, f)
			continue
		}
		if r.pending[f.digest] != f {
			continue // turned away by giveUp
		}
		delete(r.pending, f.digest)
		f.entry = entries[i]
		r.keep(s, f)
		close(f.done)
	}
	return again
}

// keep remembers a flight's entry. The caller holds the mutex.
func (r *Redis) keep(s *session, f *flight) {
	e, ttl, table, other := f.entry, r.config.CacheTTL, r.known, r.unknown
	if e.principal == nil {
		ttl, table, other = r.config.NegativeTTL, r.unknown, r.known
	}
	e.epoch, e.read, e.until = s.epoch, f.now, f.now+int64(ttl)
	other.remove(e.digest) // also when nothing is kept: what Redis denies must not be used as stale
	if !s.over {
		table.put(e)
	}
}
