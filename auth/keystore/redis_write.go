package keystore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/redis/rueidis"

	"github.com/sluice-gateway/sluice/auth"
)

var _ Store = (*Redis)(nil)

// The scripts make two writes one. All names that they use are given to them.
const (
	putScript = `if redis.call('EXISTS', KEYS[1]) == 1 or redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
return 1`
	updateScript = `if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1`
	deleteScript = `redis.call('DEL', KEYS[1])
return redis.call('HDEL', KEYS[2], ARGV[1])`
)

const (
	maxConflicts = 16  // writers that may be faster than one Update
	pageSize     = 500 // records that List asks for together
)

// client waits for a connection.
func (r *Redis) client(ctx context.Context) (rueidis.Client, error) {
	for {
		r.mu.Lock()
		s, began, fault := r.session, r.began, r.fault
		r.mu.Unlock()
		if s != nil {
			return s.client, nil
		}
		select {
		case <-began:
		case <-r.done:
			return nil, fmt.Errorf("cannot use Redis: %w", errClosed)
		case <-ctx.Done():
			return nil, fmt.Errorf("cannot use Redis: %w", errors.Join(ctx.Err(), fault))
		}
	}
}

// List gives the records that can be read, together with an error that names those that cannot.
func (r *Redis) List(ctx context.Context) ([]auth.KeyRecord, error) {
	client, err := r.client(ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]auth.KeyRecord{} // a scan may give one twice
	var faults []error
	for cursor := uint64(0); ; {
		page, err := client.Do(ctx, client.B().Hscan().Key(r.names.index).Cursor(cursor).Count(pageSize).Build()).AsScanEntry()
		if err != nil {
			return nil, fmt.Errorf("cannot list keys: %w", err)
		}
		faults = append(faults, r.loadPage(ctx, client, page.Elements, found)...)
		if cursor = page.Cursor; cursor == 0 {
			break
		}
	}
	byID := func(a, b auth.KeyRecord) int { return strings.Compare(a.ID, b.ID) }
	return slices.SortedFunc(maps.Values(found), byID), errors.Join(faults...)
}

// loadPage adds to found the records of a part of the index: ids and digests in turn.
func (r *Redis) loadPage(ctx context.Context, client rueidis.Client, page []string, found map[string]auth.KeyRecord) (faults []error) {
	var digests []auth.Digest
	var commands rueidis.Commands
	for i := 0; i+1 < len(page); i += 2 {
		d, err := auth.ParseDigest(page[i+1])
		if err != nil {
			faults = append(faults, fmt.Errorf("cannot read key %q: %w", page[i], err))
			continue
		}
		digests, commands = append(digests, d), append(commands, r.read(client, d))
	}
	if len(commands) == 0 {
		return faults
	}
	for i, reply := range client.DoMulti(ctx, commands...) {
		record, _, err := parse(digests[i], reply)
		if err == nil {
			found[record.ID] = record
		} else if !errors.Is(err, ErrNotFound) { // removed since
			faults = append(faults, err)
		}
	}
	return faults
}

// Get gives one record.
func (r *Redis) Get(ctx context.Context, id string) (auth.KeyRecord, error) {
	client, err := r.client(ctx)
	if err != nil {
		return auth.KeyRecord{}, err
	}
	record, _, err := r.find(ctx, client, id)
	return record, err
}

// find gives a record with the text that it was read from.
func (r *Redis) find(ctx context.Context, client rueidis.Client, id string) (auth.KeyRecord, string, error) {
	digest, err := r.digestOf(ctx, client, id)
	if err != nil {
		return auth.KeyRecord{}, "", err
	}
	d, err := auth.ParseDigest(digest)
	if err != nil {
		return auth.KeyRecord{}, "", fmt.Errorf("cannot read key %q: %w", id, err)
	}
	return parse(d, client.Do(ctx, r.read(client, d)))
}

// parse makes a record of the answer to read.
func parse(d auth.Digest, reply rueidis.RedisResult) (auth.KeyRecord, string, error) {
	text, err := reply.ToString()
	if err == nil && text == "" {
		return auth.KeyRecord{}, "", ErrNotFound
	}
	var record auth.KeyRecord
	if err == nil {
		record, err = decodeRecord(d, []byte(text))
	}
	if err != nil {
		return auth.KeyRecord{}, "", fmt.Errorf("cannot read the record of key %q: %w", d.KeyID(), err)
	}
	return record, text, nil
}

func (r *Redis) digestOf(ctx context.Context, client rueidis.Client, id string) (string, error) {
	digest, err := client.Do(ctx, client.B().Hget().Key(r.names.index).Field(id).Build()).ToString()
	if rueidis.IsRedisNil(err) {
		return "", ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("cannot find key %q: %w", id, err)
	}
	return digest, nil
}

// Put adds a record.
func (r *Redis) Put(ctx context.Context, record auth.KeyRecord) error {
	text, err := encodeRecord(&record)
	if err != nil {
		return err
	}
	client, err := r.client(ctx)
	if err != nil {
		return err
	}
	name := r.names.of(record.Digest)
	n, err := client.Do(ctx, client.B().Eval().Script(putScript).Numkeys(2).Key(name, r.names.index).
		Arg(record.ID, string(text), record.Digest.String()).Build()).AsInt64()
	if err != nil {
		return fmt.Errorf("cannot write key %q: %w", record.ID, err)
	}
	if n == 0 {
		return ErrExists
	}
	return nil
}

// Update changes a record, unless someone else did meanwhile: then it begins again.
func (r *Redis) Update(ctx context.Context, id string, change func(*auth.KeyRecord) error) error {
	client, err := r.client(ctx)
	if err != nil {
		return err
	}
	for range maxConflicts {
		record, old, err := r.find(ctx, client, id)
		if err != nil {
			return err
		}
		if record, err = amend(record, change); err != nil {
			return err
		}
		text, err := encodeRecord(&record)
		if err != nil {
			return err
		}
		n, err := client.Do(ctx, client.B().Eval().Script(updateScript).Numkeys(1).Key(r.names.of(record.Digest)).
			Arg(old, string(text)).Build()).AsInt64()
		if err != nil {
			return fmt.Errorf("cannot write key %q: %w", id, err)
		}
		if n == 1 {
			return nil
		}
	}
	return fmt.Errorf("cannot write key %q: others keep changing it", id)
}

// Delete removes a record, also one that cannot be read.
func (r *Redis) Delete(ctx context.Context, id string) error {
	client, err := r.client(ctx)
	if err != nil {
		return err
	}
	digest, err := r.digestOf(ctx, client, id)
	if err != nil {
		return err
	}
	n, err := client.Do(ctx, client.B().Eval().Script(deleteScript).Numkeys(2).Key(r.names.record+digest, r.names.index).
		Arg(id).Build()).AsInt64()
	if err != nil {
		return fmt.Errorf("cannot remove key %q: %w", id, err)
	}
	if n == 0 {
		return ErrNotFound
	}
	return nil
}
