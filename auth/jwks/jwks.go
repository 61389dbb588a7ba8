// Package jwks keeps the public keys of a token issuer (a JWK Set, RFC 7517) current.
package jwks

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"

	"github.com/sluice-gateway/sluice/auth"
)

// Config says where the keys are and how long they serve.
type Config struct {
	Source string // an http or https URL, or the path of a file

	// Refresh is the longest time from one fetch to the next while all is well. Must be positive.
	Refresh time.Duration

	// StaleMax is how long the last good set is used after it was fetched. No set is dropped before the
	// fetch that would renew it is over, however short StaleMax is.
	StaleMax time.Duration

	Client *http.Client   // nil: one that opens a connection for each fetch and follows no redirect to another host
	Random func() float64 // in [0, 1), for jitter; safe for concurrent use; nil: math/rand/v2

	// Report is told how each fetch ended, one call at a time, and must not call the Set. nil: nobody is.
	Report func(Event)
}

// Event is the end of a fetch, or of a set that was kept as long as it may be.
type Event struct {
	Err        error  // why there is nothing new; nil: the source was read
	Changed    bool   // the keys are not what they were before
	Keys       int    // those in use now
	Skipped    int    // entries of the source that are of no use for verifying signatures
	Generation uint64 // see Set.Generation
}

// Status tells how a Set is doing.
type Status struct {
	LastSuccess time.Time // when the last fetch that succeeded began; zero: none did
	LastError   error     // why the last fetch failed; nil: it did not, or there was none
	Keys        int       // those in use; 0: tokens cannot be verified
	Skipped     int       // entries of the last set read that are of no use for verifying signatures
	Generation  uint64
}

// Set is the keys of one issuer. It is an auth.KeySet and safe for concurrent use. Keys and Generation
// neither lock nor allocate nor wait for a fetch.
type Set struct {
	source source
	config Config
	limit  time.Duration // age at which keys are dropped

	current atomic.Pointer[state]

	turn chan struct{} // holds a token while a fetch is under way
	wake chan struct{} // tells Run to look at its schedule again

	mu       sync.Mutex
	status   Status
	failures int           // in a row
	due      time.Time     // when Run fetches next
	running  bool          // Run is there to fetch
	asked    chan struct{} // closed after the fetch that Missed asked for; nil: none is
	askable  time.Time     // when Missed may ask again
}

var _ auth.KeySet = (*Set)(nil)

// state is what readers see at one moment. It never changes.
type state struct {
	index      *index
	fetched    time.Time
	generation uint64
}

var errNoSource = errors.New("neither a URL nor a path is given")

// New makes an empty Set. It reads nothing yet: see Fetch and Run.
func New(c Config) (*Set, error) {
	if c.Refresh <= 0 || c.StaleMax < 0 {
		return nil, fmt.Errorf("cannot keep key set %q for %v and refresh it every %v", c.Source, c.StaleMax, c.Refresh)
	}
	if c.Random == nil {
		c.Random = rand.Float64
	}
	source, err := newSource(c.Source, c.Client)
	if err != nil {
		return nil, err
	}
	s := &Set{
		source: source,
		config: c,
		limit:  max(c.StaleMax, c.Refresh+2*fetchTimeout), // from the start of a slow fetch to the end of the next
		turn:   make(chan struct{}, 1),
		wake:   make(chan struct{}, 1),
	}
	s.current.Store(&state{index: &index{}})
	return s, nil
}

// newSource tells a URL from a path by its scheme.
func newSource(text string, client *http.Client) (source, error) {
	if text == "" {
		return nil, fmt.Errorf("cannot keep a key set: %w", errNoSource)
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return file(text), nil
	}
	if u.Host == "" {
		return nil, fmt.Errorf("cannot keep key set %q: the URL names no host", u.Redacted())
	}
	return newRemote(u, client), nil
}

// Adopt takes over the keys of another Set of the same source, with their age, and says whether there are
// any. It is for a Set that nobody uses yet, and saves it from having none while the source is down.
func (s *Set) Adopt(from *Set) bool {
	last := from.current.Load()
	if last.index.count == 0 {
		return false
	}
	s.current.Store(&state{index: last.index, fetched: last.fetched, generation: 1})
	return true
}

// Keys returns the keys that may verify a signature with alg (a JWA name, RFC 7518) by the key kid; an empty
// kid stands for all. There may be none. The caller must not change the slice. It fails with
// auth.ErrUnavailable when there is no set, or none recent enough.
func (s *Set) Keys(now time.Time, kid, alg string) (keys []jwk.Key, generation uint64, err error) {
	current := s.current.Load()
	if current.index.count == 0 || now.Sub(current.fetched) >= s.limit {
		return nil, current.generation, auth.ErrUnavailable
	}
	return current.index.keys[use{kid, alg}], current.generation, nil
}

// Generation changes whenever the keys do, and only then: a set that was fetched again and holds the same
// keys has the same generation. It is 0 until the first set, and means nothing to another Set.
func (s *Set) Generation() uint64 { return s.current.Load().generation }

// Status tells how the Set is doing.
func (s *Set) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	status, current := s.status, s.current.Load()
	status.Keys, status.Generation = current.index.count, current.generation
	return status
}

// Fetch reads the source once, now. When it fails, the keys stay what they are. Fetches take turns; ctx
// bounds the waiting as well.
func (s *Set) Fetch(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return fmt.Errorf("cannot fetch key set %q: %w", s.source, ctx.Err())
	}
	began := time.Now()
	found, err := s.read(ctx)
	if err != nil {
		err = fmt.Errorf("cannot fetch key set %q: %w", s.source, err)
		if errors.Is(ctx.Err(), context.Canceled) {
			return err // the caller gave up: that says nothing of the source
		}
	}
	s.settle(began, found, err)
	return err
}

func (s *Set) read(ctx context.Context) (*index, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	data, err := s.source.read(ctx)
	if err != nil {
		return nil, err
	}
	return decode(data)
}

// settle takes over the result of a fetch and plans the next. The caller has the turn.
func (s *Set) settle(began time.Time, found *index, err error) {
	s.mu.Lock()
	before := s.current.Load()
	s.status.LastError = err
	if err == nil {
		s.failures = 0
		s.status.LastSuccess, s.status.Skipped = began, found.skipped
		s.publish(found, began)
	} else {
		s.failures++
	}
	s.plan(time.Now())
	after, skipped := s.current.Load(), s.status.Skipped
	s.mu.Unlock()

	s.nudge()
	s.report(Event{
		Err:        err,
		Changed:    before.generation != after.generation,
		Keys:       after.index.count,
		Skipped:    skipped,
		Generation: after.generation,
	})
}

// publish shows a set to readers. The same keys stay the same index and generation, so that what was
// verified with them stays verified.
func (s *Set) publish(found *index, fetched time.Time) {
	before := s.current.Load()
	next := &state{index: found, fetched: fetched, generation: before.generation + 1}
	if found.count == before.index.count && found.digest == before.index.digest {
		next.index, next.generation = before.index, before.generation
	}
	s.current.Store(next)
}

func (s *Set) report(e Event) {
	if s.config.Report != nil {
		s.config.Report(e)
	}
}
