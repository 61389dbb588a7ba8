package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/auth"
	"github.com/sluice-gateway/sluice/auth/keystore"
	"github.com/sluice-gateway/sluice/engine/config"
)

// How long tools wait for a store in Redis. They can afford more than the request path.
const (
	toolTimeout = 2 * time.Second // for a connection, and for one record
	listTimeout = time.Minute     // for all of them
)

// OpenKeys opens the key store that the configuration at path names, for tools, and connects it. The store is
// a *keystore.File if it is a file. The error is a config.Faults if what the configuration says of the store
// is at fault, or the file of keys is. Faults elsewhere do not matter: secrets of issuers, say, are in the
// gateway's environment only. The Closer is to be closed after use.
func OpenKeys(ctx context.Context, path string) (keystore.Store, io.Closer, error) {
	file, err := loadStores(path, "auth.keys")
	if err != nil {
		return nil, nil, err
	}
	if file.Auth.Keys.Store == "redis" {
		return openRedisKeys(ctx, file)
	}
	store, err := KeyFile(file.Auth.Keys.File)
	if err != nil {
		return nil, nil, err
	}
	return store, closer(func() {}), nil
}

// loadStores loads a configuration of which only the tables of stores are needed.
func loadStores(path, table string) (*config.File, error) {
	file, faults := config.Load(path)
	if file == nil {
		return nil, faults
	}
	stores := map[string]string{"auth.keys": file.Auth.Keys.Store, "auth.revocation": file.Auth.Revocation.Store}
	var concern config.Faults
	for _, f := range faults {
		switch {
		case !strings.Contains(f.Key, "."), // a table's name may be misspelt
			strings.HasPrefix(f.Key, "auth.") && strings.Count(f.Key, ".") == 1,
			strings.HasPrefix(f.Key, table+"."),
			strings.HasPrefix(f.Key, "redis.") && stores[table] == "redis":
			concern = append(concern, f)
		}
	}
	return file, concern.Err()
}

type closer func()

// Close ends what it belongs to.
func (c closer) Close() error {
	c()
	return nil
}

func openRedisKeys(ctx context.Context, file *config.File) (keystore.Store, io.Closer, error) {
	first := make(chan error, 1) // what came of the first attempt to connect
	store, err := keystore.NewRedis(keystore.RedisConfig{
		URL: file.Redis.URL.Reveal(), Prefix: file.Redis.Prefix, Timeout: toolTimeout,
		Report: func(up bool, err error) {
			if up {
				err = nil // a record that cannot be read, at most
			}
			select {
			case first <- err:
			default:
			}
		},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("cannot open the key store: %w", err)
	}
	timer := time.NewTimer(toolTimeout)
	defer timer.Stop()
	select {
	case err = <-first:
	case <-timer.C:
		err = errors.New("Redis does not answer")
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		store.Close()
		return nil, nil, fmt.Errorf("cannot open the key store: %w", err)
	}
	return redisKeys{store}, closer(store.Close), nil
}

// redisKeys is a store in Redis whose methods do not wait for ever.
type redisKeys struct{ store *keystore.Redis }

func (r redisKeys) List(ctx context.Context) ([]auth.KeyRecord, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	return r.store.List(ctx)
}

func (r redisKeys) Get(ctx context.Context, id string) (auth.KeyRecord, error) {
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	return r.store.Get(ctx, id)
}

func (r redisKeys) Put(ctx context.Context, record auth.KeyRecord) error {
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	return r.store.Put(ctx, record)
}

func (r redisKeys) Update(ctx context.Context, id string, change func(*auth.KeyRecord) error) error {
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	return r.store.Update(ctx, id, change)
}

func (r redisKeys) Delete(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	return r.store.Delete(ctx, id)
}
