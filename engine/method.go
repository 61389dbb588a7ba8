package engine

import (
	"context"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/auth"
	"github.com/sluice-gateway/sluice/auth/jwks"
)

// method is a way for clients to prove who they are, as routes name it: "keys", "jwt:NAME",
// "introspection:NAME". It outlives reloads while its part of the configuration stays the same, and with it
// what it remembers.
type method struct {
	name      string
	header    string    // that carries the credential, in lower case
	bearer    bool      // after the word Bearer
	forward   bool      // the credential is sent on to the target
	challenge string    // of WWW-Authenticate, without error
	source    any       // what it was built from
	keys      *jwks.Set // of an issuer; nil: it has none, or a secret
	verifier

	begin   func(ctx context.Context)       // before it is used first: what may take a while, and may fail; nil: nothing
	work    func(ctx context.Context)       // while it is in use, until ctx ends; nil: nothing
	refresh func()                          // at a reload that keeps the method; nil: nothing
	end     func()                          // after that; nil: nothing
	state   func(now time.Time) MethodState // nil: there is nothing to tell

	worker
}

// verifier is what auth's types have in common.
type verifier interface {
	Authenticate(ctx context.Context, credential []byte, now time.Time) (*auth.Principal, error)
}

// MethodState is how a way of authentication fares.
type MethodState struct {
	Name        string    `json:"name"`
	Usable      bool      `json:"usable"`
	Keys        int       `json:"keys,omitempty"`        // of an issuer; or API keys that are known
	LastSuccess time.Time `json:"last_success,omitzero"` // of fetching them
	LastError   string    `json:"last_error,omitempty"`  // why the last attempt failed
	Remembered  uint64    `json:"cache_hits,omitempty"`  // credentials accepted because they were remembered
	Verified    uint64    `json:"verified,omitempty"`    // credentials verified and found good
	Refused     uint64    `json:"refused,omitempty"`     // credentials found bad
}

// start puts a method to work, or tells one that is at work of a reload. It is called before the first request that may use it.
func (m *method) start(life context.Context) {
	if m.begun() {
		if m.refresh != nil {
			m.refresh()
		}
		return
	}
	if m.begin != nil {
		m.begin(life)
	}
	m.worker.start(life, func(ctx context.Context) {
		if m.work != nil {
			m.work(ctx)
		}
	})
}

// finish ends a method's work and waits for it. Requests that still hold it are answered from memory.
func (m *method) finish() {
	if !m.begun() {
		return
	}
	m.worker.finish()
	if m.end != nil {
		m.end()
	}
}

// patience is the context of a request that may have to wait for the answer of an issuer, an authority or a
// store. Most do not, so nothing is set up before somebody asks when it ends. It is for one goroutine.
type patience struct {
	life  context.Context // the engine's
	armed context.Context
	stop  context.CancelFunc
}

// longestProof is how long a request waits to be authenticated, at most.
const longestProof = 3 * time.Second

func (p *patience) arm() context.Context {
	if p.armed == nil {
		p.armed, p.stop = context.WithTimeout(p.life, longestProof)
	}
	return p.armed
}

func (p *patience) reset() {
	if p.stop != nil {
		p.stop()
	}
	*p = patience{}
}

// Deadline implements context.Context.
func (p *patience) Deadline() (time.Time, bool) { return p.arm().Deadline() }

// Done implements context.Context.
func (p *patience) Done() <-chan struct{} { return p.arm().Done() }

// Err implements context.Context.
func (p *patience) Err() error {
	if p.armed != nil {
		return p.armed.Err()
	}
	return p.life.Err()
}

// Value implements context.Context.
func (p *patience) Value(key any) any { return p.life.Value(key) }

// startMethods puts the methods of a snapshot to work that are not yet, all at once, and waits until they have
// had their chance to get ready.
func (e *Engine) startMethods(snap *snapshot) {
	var ready sync.WaitGroup
	for _, m := range snap.methods {
		ready.Go(func() { m.start(e.life) })
	}
	ready.Wait()
	if e.revocations.store != nil && !e.revocations.running {
		e.revocations.running = true
		e.keepRevocations(e.life)
	}
}

// retirement is how long requests that began under the last configuration may still ask its methods.
const retirement = 10 * time.Second

// retireMethods ends those methods of the last snapshot that the next one does not have.
func (e *Engine) retireMethods(last, next *snapshot) {
	for name, m := range last.methods {
		if next.methods[name] == m {
			continue
		}
		e.background.Go(func() {
			select {
			case <-time.After(retirement):
			case <-e.life.Done():
			}
			m.finish()
		})
	}
}

// finishMethods ends all methods, and the store of revocations.
func (e *Engine) finishMethods() {
	for _, m := range e.snapshot.Load().methods {
		m.finish()
	}
	if e.revocations.store != nil {
		if err := e.revocations.store.Close(); err != nil {
			e.log.Warn().Err(err).Msg("the store of revocations did not close well")
		}
	}
}
