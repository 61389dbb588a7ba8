package keystore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/sluice-gateway/sluice/auth"
)

const (
	defaultCacheSize = 100_000
	maxUnknown       = 16_384 // refused keys that are remembered
	maxPending       = 1024   // keys asked for at once; more are not asked for
)

// RedisConfig says which Redis holds the records, and how long what is known of them may be used.
type RedisConfig struct {
	URL    string // see the README: redis://, rediss://, redis-sentinel:// or redis-cluster://
	Prefix string // of the names of all keys in Redis

	Timeout      time.Duration // longest that Lookup waits for Redis
	CacheTTL     time.Duration // an entry is read again after this time, even if Redis told of no change
	NegativeTTL  time.Duration // the same for a key that is unknown, disabled or unreadable
	StaleIfError time.Duration // a key whose record was known to be current this recently works without Redis
	CacheSize    int           // good keys remembered; 0: 100 000, which take 4 MiB and their records

	// Report hears when Redis becomes usable (true, nil) or stops being so (false and why), and of a record
	// that cannot be read (true and why). It is called from the goroutine that talks to Redis, and must not wait for
	// it. It may be nil.
	Report func(up bool, err error)
}

// Redis is a store in Redis. It needs a server with RESP3 and CLIENT TRACKING (Redis 6 or later), and a user that
// may use HELLO, CLIENT and GETRANGE; for the writing side also GET, SET, DEL, EXISTS, EVAL and the commands of hashes.
//
// A record is the string <prefix>{keys}:record:<digest>, and the hash <prefix>{keys}:index has the digest of
// every id. The braces keep all of them on one node of a cluster. The connection tracks the records (broadcast
// mode): Redis tells of each that is written, by whomever, and it is forgotten here at once. What was read over a
// connection is current as long as that connection lives and is answered: an epoch. When it is lost, no
// entry is current, and each is read again when it is next asked for. As long as that is not possible, an
// entry still works for StaleIfError after the last moment it was known to be current; for all other keys
// Lookup fails with auth.ErrUnavailable, also for those that were refused before.
//
// A server that hangs is found out by a probe that is not answered; until then a Lookup that needs it waits
// Timeout, afterwards none does. The number of keys asked for at once is bounded, several callers
// who ask for one key share the answer, and one goroutine does all the asking.
type Redis struct {
	config RedisConfig
	option rueidis.ClientOption
	names  names

	known   *table // keys that work
	unknown *table // refused ones, apart, so that they cannot push out the others
	epoch   atomic.Pointer[epoch]
	down    atomic.Bool // nobody waits
	queue   chan *flight

	mu      sync.Mutex // guards what follows, and writing to the tables
	pending map[auth.Digest]*flight
	session *session      // nil: not connected
	began   chan struct{} // closed when there is a session
	fault   error         // why there is none
	grace   *time.Timer   // until it is down

	stop context.CancelFunc
	done chan struct{}
}

// epoch is the life of one connection.
type epoch struct {
	confirmed atomic.Int64 // the last moment its entries were known to be current, in nanoseconds of Unix time
}

// flight is a question to Redis that some callers wait for.
type flight struct {
	digest auth.Digest
	now    int64
	dirty  bool // the record changed since it was asked for; guarded by the store's mutex

	done  chan struct{} // closed when entry or err is set
	entry *entry
	err   error
}

// The reasons of auth.ErrUnavailable.
const (
	storeDown absence = "the key store cannot be reached"
	storeSlow absence = "the key store did not answer in time"
	storeFull absence = "too many keys are being looked up"
	noCaller  absence = "the caller has left"
)

// absence is an auth.ErrUnavailable with a reason, and costs nothing to return.
type absence string

func (a absence) Error() string { return auth.ErrUnavailable.Error() + ": " + string(a) }
func (a absence) Unwrap() error { return auth.ErrUnavailable }

// NewRedis makes a store and starts the one goroutine that connects it, which Close ends. It does not wait
// for Redis, and fails only when the configuration cannot be used. A Lookup that comes before the first connection
// waits for it, within its timeout.
func NewRedis(config RedisConfig) (*Redis, error) {
	option, err := parseURL(config.URL)
	if err != nil {
		return nil, fmt.Errorf("cannot use the Redis URL: %w", err)
	}
	if strings.Contains(config.Prefix, "{}") {
		return nil, fmt.Errorf("cannot use the Redis prefix %q: \"{}\" would spread the keys over a cluster", config.Prefix)
	}
	if config.Timeout <= 0 || config.CacheTTL < 0 || config.NegativeTTL < 0 || config.StaleIfError < 0 || config.CacheSize < 0 {
		return nil, errors.New("cannot use the Redis key store: the timeout must be above zero, and nothing below it")
	}
	if config.CacheSize == 0 {
		config.CacheSize = defaultCacheSize
	}
	if config.Report == nil {
		config.Report = func(bool, error) {}
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &Redis{
		config:  config,
		option:  option,
		names:   newNames(config.Prefix),
		known:   newTable(config.CacheSize),
		unknown: newTable(maxUnknown),
		queue:   make(chan *flight, maxPending),
		pending: make(map[auth.Digest]*flight),
		began:   make(chan struct{}),
		stop:    stop,
		done:    make(chan struct{}),
	}
	r.grace = time.AfterFunc(config.Timeout, r.giveUp)
	go r.run(ctx)
	return r, nil
}

// Close ends the connection and waits for its goroutine. Afterwards Redis counts as unreachable.
func (r *Redis) Close() {
	r.stop()
	<-r.done
}

// Len is how many keys are remembered.
func (r *Redis) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known.count
}

// Lookup does what auth.KeyLookup says. A key that is current, or that is used while Redis is known to be
// away, costs no lock and no allocation. now is the time of day, in step with the clock of this machine.
func (r *Redis) Lookup(ctx context.Context, d auth.Digest, now time.Time) (*auth.Principal, error) {
	known := r.known.find(d)
	if r.current(known, now) {
		return known.answer(now)
	}
	if known == nil {
		if refused := r.unknown.find(d); r.current(refused, now) {
			return refused.answer(now)
		}
	}
	e, err := r.ask(ctx, d, now)
	if err == nil {
		return e.answer(now)
	}
	if known != nil && now.UnixNano()-known.confirmed() <= int64(r.config.StaleIfError) {
		return known.answer(now)
	}
	return nil, err
}

func (r *Redis) current(e *entry, now time.Time) bool {
	return e != nil && e.epoch == r.epoch.Load() && now.UnixNano() < e.until
}

// confirmed is the last moment at which the entry was known to be what Redis has.
func (e *entry) confirmed() int64 { return max(e.read, e.epoch.confirmed.Load()) }

// ask gives what Redis has of a digest, or fails with auth.ErrUnavailable.
func (r *Redis) ask(ctx context.Context, d auth.Digest, now time.Time) (*entry, error) {
	if r.down.Load() {
		return nil, storeDown
	}
	e, f, err := r.board(d, now)
	if f == nil {
		return e, err
	}
	timer := time.NewTimer(r.config.Timeout)
	defer timer.Stop()
	select {
	case <-f.done:
		return f.entry, f.err
	case <-timer.C:
		return nil, storeSlow
	case <-ctx.Done():
		return nil, noCaller
	}
}

// board joins the question that is under way about a digest, or asks one, unless the answer has just come.
func (r *Redis) board(d auth.Digest, now time.Time) (*entry, *flight, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down.Load() {
		return nil, nil, storeDown // and nobody would empty the queue
	}
	for _, t := range []*table{r.known, r.unknown} {
		if e := t.find(d); r.current(e, now) {
			return e, nil, nil
		}
	}
	if f := r.pending[d]; f != nil {
		return nil, f, nil
	}
	f := &flight{digest: d, now: now.UnixNano(), done: make(chan struct{})}
	select {
	case r.queue <- f:
		r.pending[d] = f
		return nil, f, nil
	default:
		return nil, nil, storeFull
	}
}

// invalidated hears from Redis which names were written, and nil when it can no longer tell: the connection is lost,
// or all was flushed. Nothing else is read from the connection meanwhile.
func (r *Redis) invalidated(s *session, written []rueidis.RedisMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.over {
		return
	}
	if written == nil {
		r.disown(s)
		close(s.lost)
		return
	}
	for i := range written {
		name, err := written[i].ToString()
		if d, ok := r.names.digest(name); ok && err == nil {
			r.forget(d)
		}
	}
}

// forget drops what is known of a digest, and what is under way. The caller holds the mutex.
func (r *Redis) forget(d auth.Digest) {
	r.known.remove(d)
	r.unknown.remove(d)
	if f := r.pending[d]; f != nil {
		f.dirty = true
	}
}

// disown ends the epoch of a session. The caller holds the mutex.
func (r *Redis) disown(s *session) {
	s.over = true
	if r.session == s {
		r.epoch.Store(nil)
	}
}

// names are those of our keys in Redis.
type names struct{ record, index string }

func newNames(prefix string) names {
	return names{record: prefix + "{keys}:record:", index: prefix + "{keys}:index"}
}

// probe is read as a record is, so that whoever may read one may read the other, and does not exist.
func (n names) probe() string { return n.record + "probe" }

func (n names) of(d auth.Digest) string { return n.record + d.String() }

func (n names) digest(name string) (auth.Digest, bool) {
	text, ok := strings.CutPrefix(name, n.record)
	if !ok {
		return auth.Digest{}, false
	}
	d, err := auth.ParseDigest(text)
	return d, err == nil
}
