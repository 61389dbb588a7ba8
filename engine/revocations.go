package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/sluice-gateway/sluice/auth/keystore"
	"github.com/sluice-gateway/sluice/auth/revocation"
	"github.com/sluice-gateway/sluice/engine/config"
)

// revocations is the credentials that are refused before they expire. It begins with the first
// configuration that authenticates anybody, and lasts as long as the engine.
type revocations struct {
	list    *revocation.List
	store   revocation.Store // nil: nobody is authenticated yet
	running bool             // the store's Run
}

// openRevocations opens the store once somebody is to be authenticated.
func (e *Engine) openRevocations(snap *snapshot) error {
	if e.revocations.store != nil || len(snap.methods) == 0 {
		return nil
	}
	store, err := e.revocationStore(snap.file)
	if err != nil {
		return err
	}
	e.revocations.store = store
	return nil
}

func (e *Engine) revocationStore(f *config.File) (revocation.Store, error) {
	r := f.Auth.Revocation
	report := func(err error) {
		if err != nil {
			e.log.Error().Err(err).Msg("revocations: trouble with their store; what is known stays in force")
			return
		}
		e.log.Info().Msg("revocations: their store is usable again")
	}
	switch {
	case r.Store == "redis":
		options, err := keystore.Options(f.Redis.URL.Reveal())
		if err != nil {
			return nil, fmt.Errorf("cannot use redis.url: %w", err)
		}
		return revocation.NewRedis(revocation.RedisConfig{
			Options: options, Prefix: f.Redis.Prefix + "revocation", List: e.revocations.list, Report: report,
		}), nil
	case r.File == "":
		return revocation.NewMemory(e.revocations.list), nil
	}
	store, err := revocation.OpenFile(revocation.FileConfig{Path: r.File, List: e.revocations.list, Report: report}, time.Now())
	if err != nil {
		return nil, fmt.Errorf("cannot keep revocations (auth.revocation.file = \"\" keeps them in memory): %w", err)
	}
	return store, nil
}

// Revoke refuses the credentials that an entry names, from now on and, if the store is shared, everywhere.
// When it returns without an error, the store has the entry.
func (e *Engine) Revoke(ctx context.Context, entry revocation.Entry) error {
	e.reloading.Lock()
	store := e.revocations.store
	e.reloading.Unlock()
	if store == nil {
		return ErrNoAuth
	}
	return store.Add(ctx, entry, time.Now())
}

// keepRevocations runs the store, and forgets what has ended.
func (e *Engine) keepRevocations(ctx context.Context) {
	e.background.Go(func() { e.revocations.store.Run(ctx) })
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
