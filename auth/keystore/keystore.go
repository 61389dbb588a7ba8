// Package keystore keeps the records of API keys, in a file or in Redis, and finds a key's principal in them.
//
// Both stores answer for a key that they have at hand without a lock, an allocation or I/O. A record holds a
// key's digest and never the key. The file is a map that Reload replaces; Redis is read through a cache that
// Redis itself keeps true, by telling of every record that changes.
package keystore

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

var (
	// ErrNotFound is what asking for a key fails with that has no record.
	ErrNotFound = errors.New("keystore: no such key")
	// ErrExists is what Put fails with when the key has a record.
	ErrExists = errors.New("keystore: the key exists already")
)

// Store is the writing side, for tools: every method may do I/O and waits until it is done or ctx is. What a
// method wrote is durable as far as the store makes it so, and all or nothing. A key is named by its id:
// auth.Digest.KeyID gives that of a key at hand. It is safe for concurrent use, also by several processes.
type Store interface {
	// List gives all records, by id.
	List(ctx context.Context) ([]auth.KeyRecord, error)
	// Get gives one record, or fails with ErrNotFound.
	Get(ctx context.Context, id string) (auth.KeyRecord, error)
	// Put adds a record, or fails with ErrExists.
	Put(ctx context.Context, record auth.KeyRecord) error
	// Update changes a record, or fails with ErrNotFound, or with what change returns. The id and the digest
	// stay as they are. change may be called again, with what someone else wrote meanwhile.
	Update(ctx context.Context, id string, change func(*auth.KeyRecord) error) error
	// Delete removes a record, or fails with ErrNotFound.
	Delete(ctx context.Context, id string) error
}

// The reasons of auth.ErrInvalid.
const (
	unknownKey   refusal = "the key is unknown"
	disabledKey  refusal = "the key is disabled"
	expiredKey   refusal = "the key has expired"
	garbledEntry refusal = "the key's record cannot be read"
)

// refusal is an auth.ErrInvalid with a reason, and costs nothing to return.
type refusal string

func (r refusal) Error() string { return auth.ErrInvalid.Error() + ": " + string(r) }
func (r refusal) Unwrap() error { return auth.ErrInvalid }

// entry is what is known of one digest.
type entry struct {
	digest    auth.Digest
	principal *auth.Principal // nil: refused
	refused   error

	// These are the Redis store's.
	epoch *epoch      // in which it was read
	read  int64       // when, in nanoseconds of Unix time
	until int64       // when it is to be read again
	used  atomic.Bool // since the table's hand was here
}

func newEntry(record *auth.KeyRecord) *entry {
	if record.Disabled {
		return &entry{digest: record.Digest, refused: disabledKey}
	}
	return &entry{digest: record.Digest, principal: record.Principal()}
}

func (e *entry) answer(now time.Time) (*auth.Principal, error) {
	switch {
	case e.principal == nil:
		return nil, e.refused
	case e.principal.Expired(now):
		return nil, expiredKey
	}
	return e.principal, nil
}

// amend applies a change to a copy of a record and holds the result to what Update promises.
func amend(record auth.KeyRecord, change func(*auth.KeyRecord) error) (auth.KeyRecord, error) {
	changed := record
	if err := change(&changed); err != nil {
		return auth.KeyRecord{}, err
	}
	if changed.ID != record.ID || changed.Digest != record.Digest {
		return auth.KeyRecord{}, fmt.Errorf("cannot change key %q: a key keeps its id and its digest", record.ID)
	}
	return changed, changed.Validate()
}
