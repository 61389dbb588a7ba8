package engine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/auth/keystore"
	"github.com/sluice-gateway/sluice/auth/revocation"
	"github.com/sluice-gateway/sluice/engine/config"
)

// revocations is the credentials that are refused before they expire. It begins with the first
// configuration that authenticates anybody, and lasts as long as the engine.
type revocations struct {
	list    *revocation.List
	running bool        // the store's Run
	unknown atomic.Bool // a shared store has not said yet who is revoked

	opened sync.Mutex       // guards setting store, beside the Engine's reloading: a revocation waits for no reload
	store  revocation.Store // nil: nobody is authenticated yet
}

// openRevocations opens the store once somebody is to be authenticated.
func (e *Engine) openRevocations(snap *snapshot) error {
	if e.revocations.store != nil || len(snap.methods) == 0 {
		return nil
	}
	report := func(err error) {
		if err != nil {
			e.log.Error().Err(err).Msg("revocations: trouble with their store; what is known stays in force")
			return
		}
		e.log.Info().Msg("revocations: their store is usable again")
	}
	store, err := revocationStore(snap.file, e.revocations.list, report)
	if err != nil {
		return err
	}
	e.revocations.opened.Lock()
	defer e.revocations.opened.Unlock()
	e.revocations.store = store
	return nil
}

// revocationStore opens the store that a configuration names.
func revocationStore(f *config.File, list *revocation.List, report func(error)) (revocation.Store, error) {
	r := f.Auth.Revocation
	switch {
	case r.Store == "redis":
		options, err := keystore.Options(f.Redis.URL.Reveal())
		if err != nil {
			return nil, fmt.Errorf("cannot use redis.url: %w", err)
		}
		return revocation.NewRedis(revocation.RedisConfig{
			Options: options, Prefix: f.Redis.Prefix + "revocation", List: list, Report: report,
		}), nil
	case r.File == "":
		return revocation.NewMemory(list), nil
	}
	store, err := revocation.OpenFile(revocation.FileConfig{Path: r.File, List: list, Report: report}, time.Now())
	if err != nil {
		return nil, fmt.Errorf("cannot keep revocations (auth.revocation.file = \"\" keeps them in memory): %w", err)
	}
	return store, nil
}

// Revoke refuses the credentials that an entry names, from now on and, if the store is shared, everywhere.
// The Issuer may be the NAME of an issuer's table too, and no Expires is the default of the kind. When Revoke
// returns without an error, the store has the entry, as it is returned. It fails with revocation.ErrInvalid,
// with ErrNoAuth, or because the store cannot keep the entry.
func (e *Engine) Revoke(ctx context.Context, entry revocation.Entry) (revocation.Entry, error) {
	store := e.revocations.opens()
	if store == nil {
		return entry, ErrNoAuth
	}
	now := time.Now()
	entry, err := completeEntry(e.snapshot.Load().file, entry, now)
	if err != nil {
		return entry, err
	}
	if err := store.Add(ctx, entry, now); err != nil {
		return entry, err
	}
	e.tellPeers(entry)
	return entry, nil
}

// opens gives the store; nil if nobody is authenticated yet.
func (r *revocations) opens() revocation.Store {
	r.opened.Lock()
	defer r.opened.Unlock()
	return r.store
}

// Revocations gives how many entries there are, and at most so many of them, in no order.
func (e *Engine) Revocations(most int, now time.Time) (count int, entries []revocation.Entry) {
	entries = []revocation.Entry{}
	for entry := range e.revocations.list.Entries(now) {
		if len(entries) == most {
			break
		}
		entries = append(entries, entry)
	}
	return max(e.revocations.list.Len(), len(entries)), entries
}

// firstSync is how long the start waits to hear from a shared store who is revoked.
const firstSync = 2 * time.Second

// keepRevocations runs the store, and forgets what has ended. Until a shared store has said for the first time
// who is revoked, nobody can be told from one who is: nobody passes. When it goes away later, what it said
// stays in force.
func (e *Engine) keepRevocations(ctx context.Context) {
	e.background.Go(func() { e.revocations.store.Run(ctx) })
	if shared, ok := e.revocations.store.(interface{ Synced() <-chan struct{} }); ok {
		e.revocations.unknown.Store(true)
		known := make(chan struct{})
		e.background.Go(func() {
			select {
			case <-shared.Synced():
				e.revocations.unknown.Store(false)
				close(known)
			case <-ctx.Done():
			}
		})
		select {
		case <-known:
		case <-time.After(firstSync):
			e.log.Error().Msg("revocations: their store does not answer; until it does, credentials are not accepted")
		case <-ctx.Done():
		}
	}
	e.background.Go(func() {
		ticker := time.NewTicker(time.Minute)
		defer ticker.Stop()
		for {
			select {
			case now := <-ticker.C:
				e.revocations.list.Expire(now)
			case <-ctx.Done():
				return
			}
		}
	})
}
