// Package introspection asks the authority that issued opaque OAuth 2.0 tokens whether they are good
// (RFC 7662), and remembers what it said.
package introspection

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

const (
	tokenMax       = 4096
	requestsMax    = 64               // to the authority, at once
	flightsMax     = 4096             // tokens that are asked about, or are waiting to be
	negativeTTLMax = 5 * time.Second  // an authority may not know a new token everywhere at once
	negativeSize   = 8192             // tokens that are known to be bad
	defaultSize    = 100_000          // tokens that are known to be good
	sizeMax        = 1 << 24          // whose places take 200 MB
	defaultTimeout = 2 * time.Second  // for a request, and the waiting for its turn
	idleTimeout    = 90 * time.Second // of connections to the authority
)

// Config says whom to ask and how.
type Config struct {
	Name         string // of the method, as in "introspection:NAME"
	URL          string // the authority's introspection endpoint, http or https
	ClientID     string // what the authority knows us as
	ClientSecret string

	// CacheTTL is how long an answer is used again: one that a token is good at most until the token's exp, one
	// that it is not at most for 5 s. 0: the authority is asked for every request, save that requests that
	// show one token at the same time share an answer.
	CacheTTL time.Duration

	CacheSize  int           // good tokens remembered, and up to an eighth more; 0: 100000
	Timeout    time.Duration // for an answer; 0: 2 s
	TierClaim  string        // the member that names the client's tier; empty: there are no tiers
	ClaimNames []string      // members that principals carry in Claims

	Client *http.Client   // nil: one of its own. Redirects are never followed: the request carries the secret
	Random func() float64 // in [0, 1), for jitter; safe for concurrent use; nil: math/rand/v2

	// Report is told how each request to the authority ended, from several goroutines, and must not block.
	// nil: nobody is.
	Report func(Event)
}

// Event is the end of a request to the authority.
type Event struct {
	Err  error         // why it brought no answer; nil: it did, whatever the answer
	Took time.Duration // with the waiting for its turn
	Down bool          // the authority is taken for down: most tokens are refused without asking
}

// Introspector authenticates opaque tokens. It is safe for concurrent use; a token that it remembers costs
// neither a lock nor an allocation.
type Introspector struct {
	config    Config
	authority *authority
	good, bad *table // nil without a cache
	circuit   circuit
	slots     chan struct{} // a token for each request under way

	live context.Context // of the flights
	end  context.CancelFunc

	mu      sync.Mutex
	flights map[digest]*flight
	closed  bool
	all     sync.WaitGroup
}

// digest stands for a token. Tokens themselves are not kept.
type digest = [sha256.Size]byte

// flight is a question to the authority that is not answered yet.
type flight struct {
	done      chan struct{} // closed when the rest is set
	principal *auth.Principal
	err       error
}

var (
	errConfig   = errors.New("auth: introspection is not configured")
	errShape    = errors.New("it is empty, too long or not of visible ASCII")
	errExpired  = errors.New("it has expired")
	errDown     = errors.New("the authority failed lately")
	errOverload = errors.New("too many tokens wait for the authority")
	errClosed   = errors.New("closed")
)

// New makes an Introspector. It does no I/O. Close it at the end.
func New(c Config) (*Introspector, error) {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot introspect tokens: %w", err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil:
		return nil, fmt.Errorf("%w: %q is not the URL of an endpoint", errConfig, u.Redacted())
	case c.Name == "" || c.ClientID == "":
		return nil, fmt.Errorf("%w: the method or the client has no name", errConfig)
	case c.CacheTTL < 0 || c.Timeout < 0 || c.CacheSize < 0 || c.CacheSize > sizeMax:
		return nil, fmt.Errorf("%w: cache of %d for %v, timeout %v", errConfig, c.CacheSize, c.CacheTTL, c.Timeout)
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.CacheSize == 0 {
		c.CacheSize = defaultSize
	}
	if c.Random == nil {
		c.Random = rand.Float64
	}
	i := &Introspector{
		config:    c,
		authority: newAuthority(c),
		circuit:   circuit{random: c.Random},
		slots:     make(chan struct{}, requestsMax),
		flights:   map[digest]*flight{},
	}
	if c.CacheTTL > 0 {
		i.good, i.bad = newTable(c.CacheSize), newTable(min(c.CacheSize, negativeSize))
	}
	i.live, i.end = context.WithCancel(context.Background())
	return i, nil
}

// Authenticate tells whom token stands for. It fails with auth.ErrInvalid when the authority says that the
// token is not active, or what it says of the token does not hold now, and with auth.ErrUnavailable when
// there is no answer within the timeout or ctx. The caller may change token afterwards.
func (i *Introspector) Authenticate(ctx context.Context, token []byte, now time.Time) (*auth.Principal, error) {
	if !shaped(token) {
		return nil, invalid(errShape)
	}
	key := digest(sha256.Sum256(token))
	if e := i.recall(&key, now); e != nil {
		return e.principal, e.err
	}
	f, e, err := i.join(key, token, now)
	switch {
	case err != nil:
		return nil, err
	case e != nil:
		return e.principal, e.err
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, unavailable(ctx.Err())
	}
	if f.err == nil && f.principal.Expired(now) { // it began before this request
		return nil, invalid(errExpired)
	}
	return f.principal, f.err
}

// shaped says whether token could be one of RFC 6750 section 2.1, generously.
func shaped(token []byte) bool {
	for _, c := range token {
		if c < 0x21 || c > 0x7e {
			return false
		}
	}
	return 1 <= len(token) && len(token) <= tokenMax
}

// recall returns what is remembered of a token, or nil.
func (i *Introspector) recall(key *digest, now time.Time) *entry {
	if e := i.good.find(key, now); e != nil {
		return e
	}
	return i.bad.find(key, now)
}

// join returns the flight of a token, beginning one unless it is under way, or the entry that one has left
// since the caller looked.
func (i *Introspector) join(key digest, token []byte, now time.Time) (*flight, *entry, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if f := i.flights[key]; f != nil {
		return f, nil, nil
	}
	if e := i.recall(&key, now); e != nil {
		return nil, e, nil
	}
	switch {
	case i.closed:
		return nil, nil, unavailable(errClosed)
	case len(i.flights) >= flightsMax:
		return nil, nil, unavailable(errOverload)
	case i.circuit.isOpen(now):
		return nil, nil, unavailable(errDown)
	}
	f := &flight{done: make(chan struct{})}
	i.flights[key] = f
	question := string(token)
	i.all.Go(func() { i.fly(f, key, question, now) })
	return f, nil, nil
}

// fly answers f, which belongs to all who wait for it: none of them can call it off.
func (i *Introspector) fly(f *flight, key digest, token string, now time.Time) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(i.live, i.config.Timeout)
	defer cancel()
	answer, err := i.ask(ctx, token, now, begun)
	if err == nil {
		if f.principal, err = i.judge(answer, now); err != nil {
			f.principal = nil
		}
	}
	f.err = err
	i.remember(f, key, now)
	i.mu.Lock()
	delete(i.flights, key) // after remember: join finds the one or the other
	i.mu.Unlock()
	close(f.done)
}

// ask puts the question to the authority when a slot is free. Times of the circuit are those of the
// caller's clock, moved on by what has passed since.
func (i *Introspector) ask(ctx context.Context, token string, now, begun time.Time) (*answer, error) {
	select {
	case i.slots <- struct{}{}:
		defer func() { <-i.slots }()
	case <-ctx.Done():
		return nil, unavailable(ctx.Err())
	}
	if !i.circuit.admit(now.Add(time.Since(begun))) {
		return nil, unavailable(errDown)
	}
	answer, err := i.authority.ask(ctx, token)
	took := time.Since(begun)
	i.circuit.record(now.Add(took), err == nil || errors.Is(err, errRequest))
	if i.config.Report != nil {
		i.config.Report(Event{Err: err, Took: took, Down: i.circuit.isOpen(now.Add(took))})
	}
	if err != nil {
		return nil, unavailable(err)
	}
	return answer, nil
}

// remember keeps what the authority said. That it said nothing is not kept: the circuit sees to that.
func (i *Introspector) remember(f *flight, key digest, now time.Time) {
	ttl := i.config.CacheTTL
	switch {
	case f.err == nil:
		until := now.Add(ttl)
		if end := f.principal.Expires; !end.IsZero() && end.Before(until) {
			until = end
		}
		i.good.put(&entry{key: key, principal: f.principal, until: until.UnixNano()})
	case errors.Is(f.err, auth.ErrInvalid):
		i.bad.put(&entry{key: key, err: f.err, until: now.Add(min(ttl, negativeTTLMax)).UnixNano()})
	}
}

// Down says whether the authority failed so often that most tokens are refused without asking.
func (i *Introspector) Down(now time.Time) bool { return i.circuit.isOpen(now) }

// Close calls off what is under way and waits for it. From then on only tokens that are remembered pass.
func (i *Introspector) Close() {
	i.mu.Lock()
	i.closed = true
	i.mu.Unlock()
	i.end()
	i.all.Wait()
	i.authority.close()
}

func invalid(reason error) error { return fmt.Errorf("%w: %w", auth.ErrInvalid, reason) }

func unavailable(reason error) error { return fmt.Errorf("%w: %w", auth.ErrUnavailable, reason) }
