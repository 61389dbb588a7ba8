package central

import (
	"context"
	"fmt"

	"github.com/redis/rueidis"

	"github.com/sluice-gateway/sluice/limiter"
)

// mostFields is how many rates of one bucket are looked at.
const mostFields = 256

// Inspect describes the buckets that a rule has in Redis for what requests have in common: one for each rate that has
// been used with it, by whichever gateway. No state means that nothing has been taken lately.
func (s *Store) Inspect(ctx context.Context, r *Rule, b Bucket) (states []limiter.State, err error) {
	client := s.client.Load()
	if client == nil {
		return nil, ErrUnavailable
	}
	return s.inspect(ctx, *client, r, b)
}

func (s *Store) inspect(ctx context.Context, client rueidis.Client, r *Rule, b Bucket) (states []limiter.State, err error) {
	key := r.key(s.config.Prefix, b)
	fields, err := client.Do(ctx, client.B().Hkeys().Key(key).Build()).AsStrSlice()
	if err != nil {
		return nil, fmt.Errorf("cannot read %q: %w: %w", key, ErrUnavailable, err)
	}
	for _, field := range fields[:min(len(fields), mostFields)] {
		p := r.fieldPolicy(field)
		if p == nil {
			continue
		}
		v, err := s.look(ctx, client, r, p, b)
		if err != nil {
			return nil, fmt.Errorf("cannot read %q: %w: %w", key, ErrUnavailable, err)
		}
		if reset := v.Reset(); reset > 0 {
			states = append(states, limiter.State{Tier: p.tier, Rate: p.rate, Limit: p.limit, Remaining: v.Remaining(), Reset: reset})
		}
	}
	return states, nil
}

// look reads a bucket, and takes nothing.
func (s *Store) look(ctx context.Context, client rueidis.Client, r *Rule, p *policy, b Bucket) (Verdict, error) {
	a := s.newAsk(s.take)
	defer s.free.Put(a)
	a.waited = true
	a.args = append(a.args, "look")
	a.addBucket(s, r, p, b)
	verdicts := [1]Verdict{{policy: p, rule: r, bucket: b}}
	reply := client.Do(ctx, client.B().Eval().Script(a.script.text).Numkeys(1).Key(a.keys...).Arg(a.args...).Build())
	if err := a.read(reply); err != nil {
		return verdicts[0], err
	}
	if _, ok := a.decide(verdicts[:]); !ok {
		return verdicts[0], errReply
	}
	return verdicts[0], nil
}

// Forget makes those buckets full again, and says how many that were not. Other gateways may refuse for up to a second
// yet whom they know to be refused.
func (s *Store) Forget(ctx context.Context, r *Rule, b Bucket) (n int, err error) {
	client := s.client.Load()
	if client == nil {
		return 0, ErrUnavailable
	}
	states, err := s.inspect(ctx, *client, r, b)
	if err != nil {
		return 0, err
	}
	key := r.key(s.config.Prefix, b)
	if err := (*client).Do(ctx, (*client).B().Del().Key(key).Build()).Error(); err != nil {
		return 0, fmt.Errorf("cannot delete %q: %w: %w", key, ErrUnavailable, err)
	}
	s.memory.forget(b)
	return len(states), nil
}
