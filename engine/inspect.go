package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/wire"
	"github.com/sluice-gateway/sluice/limiter"
)

// Why a bucket cannot be found for an operator.
var (
	ErrNoLimit  = errors.New("no such limit")
	ErrLimitKey = errors.New("not a key of this limit")
)

// LimitSummary is a [[limit]] as configured, and what came of it since it is known by its name.
type LimitSummary struct {
	Name        string            `json:"name"`
	Algorithm   string            `json:"algorithm"`
	Key         []string          `json:"key"` // its parts; empty: one bucket for all
	Rate        string            `json:"rate"`
	Burst       int64             `json:"burst,omitempty"` // 0: not configured
	Tiers       map[string]string `json:"tiers,omitempty"` // rates
	Mode        string            `json:"mode"`            // enforce or shadow
	Scope       string            `json:"scope"`           // local, or redis
	Hidden      bool              `json:"hidden"`
	BeforeAuth  bool              `json:"before_auth"`
	Refused     uint64            `json:"refused"`      // requests
	WouldRefuse uint64            `json:"would_refuse"` // requests that a shadow let pass
	// OnStoreError is what holds while Redis does not decide, and Degraded counts the requests that it was so for.
	OnStoreError string `json:"on_store_error,omitempty"`
	Degraded     uint64 `json:"degraded,omitempty"`
}

// LimitTable is the memory that all limits share.
type LimitTable struct {
	Capacity   int    `json:"capacity"`   // buckets
	Live       int    `json:"live"`       // buckets that are not full
	Claims     uint64 `json:"claims"`     // buckets begun
	Evictions  uint64 `json:"evictions"`  // buckets that were nearly full, forgotten to make room
	Overflowed uint64 `json:"overflowed"` // requests counted in a shared bucket for want of room
}

// LimitState is how one bucket stands.
type LimitState struct {
	Tier      string  `json:"tier,omitempty"` // empty: of clients whose rate is the limit's or their credential's own
	Rate      string  `json:"rate"`
	Limit     int64   `json:"limit"`         // what the bucket holds when full
	Remaining int64   `json:"remaining"`     // of that
	Reset     float64 `json:"reset_seconds"` // until it is full again, if nothing more is taken
}

// Limits describes the limits of the live configuration, in its order.
func (e *Engine) Limits() []LimitSummary {
	snap := e.snapshot.Load()
	all := make([]LimitSummary, 0, len(snap.file.Limit))
	for _, f := range snap.file.Limit {
		counts := snap.meters[f.Name].counts
		s := LimitSummary{
			Name: f.Name, Algorithm: f.Algorithm, Key: append([]string{}, f.Key...), Rate: f.Rate.String(), Burst: f.Burst,
			Mode: f.Mode, Scope: f.Scope, Hidden: f.Hidden, BeforeAuth: f.BeforeAuth,
			Refused: counts.refused.Load(), WouldRefuse: counts.shadowed.Load(),
		}
		if f.Scope == "redis" {
			s.OnStoreError, s.Degraded = f.OnStoreError, counts.degraded.Load()
		}
		for tier, rate := range f.Tiers {
			if s.Tiers == nil {
				s.Tiers = map[string]string{}
			}
			s.Tiers[tier] = rate.String()
		}
		all = append(all, s)
	}
	return all
}

// LimitTable tells how full the limits' memory is. It reads all of it: a few milliseconds for a million
// buckets.
func (e *Engine) LimitTable() LimitTable { return LimitTable(e.limiter.Stats(time.Since(e.started))) }

// LimitStates tells how the buckets of a key stand that are not full: there may be one for each rate of the
// limit.
//
// A key is a value for each part of the limit's key, in that order:
//
//   - client: its name; or its address, if it has none because it was not authenticated. What reads as an
//     address is taken for one.
//   - ip: the address; of IPv6, any that has the same [server].ipv6_prefix. Nothing stands for the peers on
//     unix sockets, which have no address; so it does for client.
//   - route: the name of one.
//   - host: with or without port, in any case. Nothing stands for requests of HTTP/1.0 without Host.
//   - method: in the client's case.
//   - header:NAME: the value. Nothing stands for requests without the header; those that have it empty, or
//     more than once, have buckets that cannot be asked for.
//   - claim:NAME: the value as text. Nothing stands for clients without the claim.
//
// Errors wrap ErrNoLimit or ErrLimitKey, and say what is wanted; or ErrLimitStore, if the buckets are in Redis and that
// does not answer.
func (e *Engine) LimitStates(rule string, key []string) ([]LimitState, error) {
	m, source, err := e.limitKey(rule, key)
	if err != nil {
		return nil, err
	}
	found, err := e.inspectLimit(m, &source)
	if err != nil {
		return nil, err
	}
	states := []LimitState{}
	for _, s := range found {
		states = append(states, LimitState{
			Tier: s.Tier, Rate: config.Rate(s.Rate).String(), Limit: s.Limit, Remaining: s.Remaining, Reset: s.Reset.Seconds(),
		})
	}
	return states, nil
}

// ResetLimit fills the buckets of a key, as LimitStates understands it, and returns how many were not full.
// Requests that have a place in a leaky bucket's queue keep it.
func (e *Engine) ResetLimit(rule string, key []string) (int, error) {
	m, source, err := e.limitKey(rule, key)
	if err != nil {
		return 0, err
	}
	n, err := e.forgetLimit(m, &source)
	if err != nil {
		return 0, err
	}
	e.log.Info().Str("limit", rule).Int("buckets", n).Msg("limit reset") // the key may hold a credential
	return n, nil
}

// inspectLimit looks for the buckets of a meter where they are.
func (e *Engine) inspectLimit(m *meter, s *keySource) ([]limiter.State, error) {
	store := e.snapshot.Load().limitStore
	if m.central == nil || store == nil {
		return e.limiter.Inspect(m.rule, m.bucket(e.limiter, s), time.Since(e.started)), nil
	}
	ctx, cancel := context.WithTimeout(e.life, toolWait)
	defer cancel()
	states, err := store.Inspect(ctx, m.central, m.digest(s))
	if err != nil {
		return nil, storeTrouble(err)
	}
	return states, nil
}

// forgetLimit fills those buckets, and the ones that stood in for them while Redis was away.
func (e *Engine) forgetLimit(m *meter, s *keySource) (int, error) {
	here := e.limiter.Forget(m.rule, m.bucket(e.limiter, s), time.Since(e.started))
	store := e.snapshot.Load().limitStore
	if m.central == nil || store == nil {
		return here, nil
	}
	ctx, cancel := context.WithTimeout(e.life, toolWait)
	defer cancel()
	n, err := store.Forget(ctx, m.central, m.digest(s))
	if err != nil {
		return 0, storeTrouble(err)
	}
	return n, nil
}

func (e *Engine) limitKey(rule string, key []string) (*meter, keySource, error) {
	snap := e.snapshot.Load()
	m := snap.meters[rule]
	if m == nil {
		return nil, keySource{}, fmt.Errorf("%w: %q", ErrNoLimit, rule)
	}
	s, err := snap.limitKeySource(m.parts, key)
	if err != nil {
		return nil, keySource{}, fmt.Errorf("%w: %w", ErrLimitKey, err)
	}
	return m, s, nil
}

// limitKeySource is a request such as a key's values tell of.
func (s *snapshot) limitKeySource(parts []keyPart, values []string) (source keySource, err error) {
	if len(values) != len(parts) {
		return source, wantValues(parts)
	}
	addressed := false
	for i, p := range parts {
		value := values[i]
		if first := slices.Index(parts[:i], p); first >= 0 {
			if value != values[first] {
				return source, fmt.Errorf("no request has two values of %s", p)
			}
			continue
		}
		address, err := s.parseClient(value)
		switch {
		case p.kind != keyClient && p.kind != keyAddress:
			err = s.addText(&source, p, value)
		case err != nil && p.kind == keyClient:
			source.client, err = value, nil
		case err != nil:
			err = fmt.Errorf("ip is an address, which %q is not", value)
		case addressed && address != source.address:
			err = errors.New("a client without a name is its ip: the two differ")
		default:
			source.address, addressed = address, true
		}
		if err != nil {
			return source, err
		}
	}
	return source, nil
}

func wantValues(parts []keyPart) error {
	names := make([]string, len(parts))
	for i, p := range parts {
		names[i] = p.String()
	}
	switch len(parts) {
	case 0:
		return errors.New("want no value: all requests share a bucket")
	case 1:
		return errors.New("want 1 value: " + names[0])
	}
	return fmt.Errorf("want %d values: %s", len(parts), strings.Join(names, ", "))
}

// parseClient reads an address and makes it the one that identifies the client.
func (s *snapshot) parseClient(text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(text)
	return s.server.clientKey(a.Unmap()), err
}

// addText puts a part that is no address where a request would have it.
func (s *snapshot) addText(source *keySource, p keyPart, value string) error {
	switch p.kind {
	case keyRoute:
		if !slices.ContainsFunc(s.routes, func(r *route) bool { return r.name == value }) {
			return fmt.Errorf("there is no route %q", value)
		}
		source.route = value
	case keyHost:
		source.host = []byte(value)
	case keyMethod:
		source.method = []byte(value)
	case keyHeader:
		if value = strings.Trim(value, " \t"); value != "" {
			source.fields = append(source.fields, wire.Field{Name: []byte(p.name), Value: []byte(value)})
		}
	case keyClaim:
		if source.claims == nil {
			source.claims = map[string]string{}
		}
		if value != "" {
			source.claims[p.name] = value
		}
	}
	return nil
}
