package revocation

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

const (
	// glance is how often a gateway asks Redis for what is new, beside being told at once: the bound if it is not told.
	glance = 500 * time.Millisecond
	// resync is how often it compares everything, against what nobody has thought of.
	resync = 10 * time.Minute

	page = 1000 // entries that are read from Redis at a time
	load = 200  // entries that are written to it at a time: while Redis does so it serves nobody else
)

// RedisConfig says where a Redis keeps entries.
type RedisConfig struct {
	Options rueidis.ClientOption // the connection; retries and client-side caching are turned off
	Prefix  string               // of all keys and the channel; empty: "sluice:revocation"
	List    *List                // whom it feeds
	Timeout time.Duration        // of each exchange with Redis; 0: 1s

	// Report is told when Redis can no longer be used, and what is wrong with what it holds, and nil once all
	// is well again. It is called one at a time, must not call the Redis, and may be nil.
	Report func(err error)
}

// Redis is a Store that shares entries with all gateways that have the same Redis and prefix. While Run is
// running, what one adds is in force in all others at once, or after half a second if their subscription
// fails; who comes late, or comes back, catches up.
//
// While Redis is away, Add fails, and what is known stays in force. If Redis comes back with less than it
// had (an empty restart, a replica that was behind), it is given again what the gateways know.
type Redis struct {
	options rueidis.ClientOption
	list    *List
	report  func(error)
	timeout time.Duration

	entries, ends, state string // keys
	channel              string
	add, prune           *rueidis.Lua

	dialing chan struct{} // full while somebody dials
	synced  chan struct{} // closed once the List has what Redis has
	mu      sync.Mutex
	client  rueidis.Client // nil: not connected yet
	closed  bool
}

// What Redis holds, under keys that a cluster keeps together. An entry is its binary form.
//
//	{PREFIX}:entries  a sorted set of entries, by the number that each got when it was added
//	{PREFIX}:ends     the same, by their ends in Unix milliseconds
//	{PREFIX}:state    a hash: epoch, a random name of this data set; seq, the last number
//
// The keys have no time to live: Redis takes keys with one first when it runs out of memory. The entries
// have: each is removed a minute after its end, by Redis' clock.
const (
	addScript = `
redis.call('HSETNX', KEYS[3], 'epoch', ARGV[2])
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then return -1 end
local last = 0
for i = 4, #ARGV, 2 do
	if not redis.call('ZSCORE', KEYS[1], ARGV[i+1]) then
		last = redis.call('HINCRBY', KEYS[3], 'seq', 1)
		redis.call('ZADD', KEYS[1], last, ARGV[i+1])
		redis.call('ZADD', KEYS[2], ARGV[i], ARGV[i+1])
	end
end
if last > 0 then redis.call('PUBLISH', ARGV[1], last) end
return last`

	pruneScript = `
local ended = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', redis.call('TIME')[1] * 1000 - 60000, 'LIMIT', 0, ARGV[1])
for _, entry in ipairs(ended) do
	redis.call('ZREM', KEYS[1], entry)
	redis.call('ZREM', KEYS[2], entry)
end
return #ended`
)

// NewRedis makes a Store. It does not connect: Redis may be away.
func NewRedis(c RedisConfig) *Redis {
	if c.Prefix == "" {
		c.Prefix = "sluice:revocation"
	}
	if c.Timeout <= 0 {
		c.Timeout = time.Second
	}
	c.Options.DisableRetry = true // a failure is worth knowing; Run asks again by itself
	c.Options.DisableCache = true
	if c.Options.Dialer.Timeout <= 0 || c.Options.Dialer.Timeout > c.Timeout {
		c.Options.Dialer.Timeout = c.Timeout
	}
	if c.Options.ConnWriteTimeout <= 0 {
		c.Options.ConnWriteTimeout = 2 * c.Timeout // a Redis that hangs is left after that
	}
	c.Options.PipelineMultiplex = -1 // one connection is enough
	prefix := "{" + c.Prefix + "}"
	return &Redis{
		synced: make(chan struct{}), options: c.Options, list: c.List, report: oneAtATime(c.Report), timeout: c.Timeout,
		entries: prefix + ":entries", ends: prefix + ":ends", state: prefix + ":state", channel: prefix + ":feed",
		add: rueidis.NewLuaScript(addScript), prune: rueidis.NewLuaScript(pruneScript),
		dialing: make(chan struct{}, 1),
	}
}

// Add implements Store. It returns when Redis has the entry.
func (r *Redis) Add(ctx context.Context, e Entry, now time.Time) error {
	if err := e.Check(now); err != nil {
		return err
	}
	if r.list.covers(e) {
		return nil
	}
	if e.Created.IsZero() {
		e.Created = now
	}
	if err := r.push(ctx, []Entry{e}); err != nil {
		return err
	}
	_, err := r.list.Add(e, now)
	return err
}

// push writes entries to Redis, which tells all gateways.
func (r *Redis) push(ctx context.Context, entries []Entry) error {
	args := []string{r.channel, rand.Text(), strconv.Itoa(r.list.most)}
	for _, e := range entries {
		b, err := e.AppendBinary(nil)
		if err != nil {
			return err
		}
		args = append(args, strconv.FormatInt(e.Expires.UnixMilli()+1, 10), string(b))
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	client, err := r.connected(ctx)
	if err != nil {
		return err
	}
	last, err := r.add.Exec(ctx, client, []string{r.entries, r.ends, r.state}, args).AsInt64()
	if err != nil {
		return fmt.Errorf("cannot keep revocations in Redis: %w", err)
	}
	if last < 0 {
		return fmt.Errorf("cannot keep revocations in Redis: %w", ErrFull)
	}
	return nil
}

// connected returns the client, and dials if there is none yet. Once there is one it reconnects by itself.
func (r *Redis) connected(ctx context.Context) (rueidis.Client, error) {
	select {
	case r.dialing <- struct{}{}:
		defer func() { <-r.dialing }()
	case <-ctx.Done():
		return nil, fmt.Errorf("cannot connect to Redis: %w", ctx.Err())
	}
	r.mu.Lock()
	client, closed := r.client, r.closed
	r.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	if client != nil {
		return client, nil
	}
	client, err := rueidis.NewClient(r.options)
	if err != nil {
		if client != nil {
			client.Close()
		}
		return nil, fmt.Errorf("cannot connect to Redis: %w", err)
	}
	r.mu.Lock()
	r.client = client
	r.mu.Unlock()
	return client, nil
}

// Synced is closed once the List has everything that Redis had when Run began. A gateway that serves before
// lets those pass who were revoked while it was not there.
func (r *Redis) Synced() <-chan struct{} { return r.synced }

// Close implements Store.
func (r *Redis) Close() error {
	r.dialing <- struct{}{}
	defer func() { <-r.dialing }()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.client != nil {
		r.client.Close()
		r.client = nil
	}
	return nil
}
