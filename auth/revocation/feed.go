package revocation

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// feed brings what Redis holds to the List. One goroutine follows; another listens, and wakes it.
type feed struct {
	*Redis
	wake  chan struct{} // full: there is something to look at
	stale atomic.Bool   // everything is to be compared

	epoch string // of the data set that last belongs to
	last  int64  // the number of the last entry that was read
}

// Run implements Store.
func (r *Redis) Run(ctx context.Context) {
	f := &feed{Redis: r, wake: make(chan struct{}, 1)}
	f.stale.Store(true)
	var listening sync.WaitGroup
	listening.Go(func() { f.listen(ctx) })
	f.follow(ctx)
	listening.Wait()
}

func (f *feed) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// listen stays subscribed to the channel until ctx ends. What is said there does not matter, only that it
// is: messages are lost when a connection is, entries are not.
func (f *feed) listen(ctx context.Context) {
	told := rueidis.WithOnSubscriptionHook(ctx, func(rueidis.PubSubSubscription) { f.poke() })
	for ctx.Err() == nil {
		dial, cancel := context.WithTimeout(ctx, f.timeout)
		client, err := f.connected(dial)
		cancel()
		if err == nil {
			subscribe := client.B().Subscribe().Channel(f.channel).Build()
			_ = client.Receive(told, subscribe, func(rueidis.PubSubMessage) { f.poke() })
			f.stale.Store(true) // another server may answer to the same address from now on
			f.poke()
		}
		select {
		case <-ctx.Done():
		case <-time.After(glance):
		}
	}
}

// follow looks for what is new until ctx ends.
func (f *feed) follow(ctx context.Context) {
	look, all, tidy := time.NewTicker(glance), time.NewTicker(resync), time.NewTicker(forget)
	defer look.Stop()
	defer all.Stop()
	defer tidy.Stop()
	failing, synced := false, false
	for {
		err := f.catchUp(ctx)
		if err == nil && !synced {
			synced = true
			close(f.synced)
		}
		if ctx.Err() != nil {
			return
		}
		if failed := err != nil; failed != failing {
			failing = failed
			f.report(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		case <-look.C:
		case <-all.C:
			f.stale.Store(true)
		case now := <-tidy.C:
			f.list.Expire(now)
			f.forget(ctx)
		}
	}
}

// catchUp reads what was added since the last time, and compares everything if there is a reason to.
func (f *feed) catchUp(ctx context.Context) error {
	for more := true; more; {
		before := f.last
		epoch, seq, n, err := f.page(ctx, &f.last, nil)
		if err != nil {
			f.stale.Store(true)
			return err
		}
		if epoch != f.epoch || seq < before { // Redis has lost something, or everything
			f.epoch, f.last = epoch, seq
			f.stale.Store(true)
		}
		more = n == page
	}
	if !f.stale.Swap(false) {
		return nil
	}
	if err := f.compare(ctx); err != nil {
		f.stale.Store(true)
		return err
	}
	return nil
}

// compare reads everything, and gives Redis what it lacks.
func (f *feed) compare(ctx context.Context) error {
	seen := New(Config{MaxEntries: f.list.most})
	from := int64(0)
	for more := true; more; {
		_, _, n, err := f.page(ctx, &from, seen)
		if err != nil {
			return err
		}
		more = n == page
		select {
		case <-f.wake: // what is new does not wait for the end
			if _, _, _, err := f.page(ctx, &f.last, nil); err != nil {
				return err
			}
		default:
		}
	}
	f.last = max(f.last, from)
	var lacking []Entry
	for e := range f.list.Entries(time.Now()) {
		if seen.covers(e) {
			continue
		}
		if lacking = append(lacking, e); len(lacking) == load {
			if err := f.push(ctx, lacking); err != nil {
				return err
			}
			lacking = lacking[:0]
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	return f.push(ctx, lacking)
}

// page reads up to a page of entries with numbers after last, puts them in force, notes them in seen unless it
// is nil, and moves last on. It returns the state of the data set and how many entries it read.
func (f *feed) page(ctx context.Context, last *int64, seen *List) (epoch string, seq int64, n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	client, err := f.connected(ctx)
	if err != nil {
		return "", 0, 0, err
	}
	after := "(" + strconv.FormatInt(*last, 10)
	answers := client.DoMulti(ctx,
		client.B().Hmget().Key(f.state).Field("epoch", "seq").Build(),
		client.B().Zrangebyscore().Key(f.entries).Min(after).Max("+inf").Withscores().Limit(0, page).Build())
	members, err := answers[1].AsZScores()
	state, wrong := answers[0].ToArray()
	if err := errors.Join(err, wrong); err != nil {
		return "", 0, 0, fmt.Errorf("cannot read revocations from Redis: %w", err)
	}
	if len(state) == 2 {
		epoch, _ = state[0].ToString()
		number, _ := state[1].ToString()
		seq, _ = strconv.ParseInt(number, 10, 64) // 0 if there is nothing yet
	}
	now, bad := time.Now(), 0
	for _, m := range members {
		*last = max(*last, int64(m.Score))
		if err := f.take(m.Member, seen, now); err != nil {
			bad, wrong = bad+1, err
		}
	}
	if bad > 0 {
		f.report(fmt.Errorf("%d revocations in Redis are skipped, the last because of: %w", bad, wrong))
	}
	return epoch, seq, len(members), nil
}

func (f *feed) take(member string, seen *List, now time.Time) error {
	e, rest, err := DecodeEntry([]byte(member))
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: %d bytes follow it", ErrInvalid, len(rest))
	}
	if err == nil && seen != nil {
		_, err = seen.Add(e, now)
	}
	if err == nil {
		_, err = f.list.Add(e, now)
	}
	return err
}

// forget lets Redis forget what has ended. If it fails, the next time or another gateway will do.
func (f *feed) forget(ctx context.Context) {
	for ctx.Err() == nil {
		exchange, cancel := context.WithTimeout(ctx, f.timeout)
		client, err := f.connected(exchange)
		var n int64
		if err == nil {
			n, err = f.prune.Exec(exchange, client, []string{f.entries, f.ends}, []string{strconv.Itoa(page)}).AsInt64()
		}
		cancel()
		if err != nil || n < page {
			return
		}
	}
}
