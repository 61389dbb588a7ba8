package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/auth/keystore"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/limiter"
	"github.com/sluice-gateway/sluice/limiter/central"
)

// limitStore is the Redis in which limits with scope = "redis" are decided. A reload keeps it while [redis] stays the
// same.
type limitStore struct {
	*central.Store
	worker // its Run
	source config.Redis
}

// LimitStore is how the Redis stands that decides on limits.
type LimitStore struct {
	Up       bool   `json:"up"`       // it decides; else each limit's on_store_error holds
	Asked    uint64 `json:"asked"`    // questions to it
	Recalled uint64 `json:"recalled"` // requests refused without asking: their bucket was known to be exhausted
	Failed   uint64 `json:"failed"`   // questions that it did not answer in time, or not well
	Late     uint64 `json:"late"`     // of them, those whose answer came afterwards
	Returned uint64 `json:"returned"` // requests that it was given back
	Lost     uint64 `json:"lost"`     // requests that it was to be given back, and could not be
}

// What on_store_error says.
type storeFailure uint8

const (
	failLocal storeFailure = iota // count in this process
	failAllow
	failDeny
)

// central makes the rule of a limit that is decided in Redis; nil if it is not, or cannot be.
func (c *compiler) central(key string, f config.Limit, spec limiter.Spec) *central.Rule {
	if f.Scope != "redis" {
		return nil
	}
	rule, err := central.NewRule(spec)
	if err != nil {
		c.limitFault(key, err)
		return nil
	}
	return rule
}

// limitStore opens the Redis of the limits that want one, or takes over the last one.
func (c *compiler) limitStore() {
	r := c.file.Redis
	if r == nil || !c.sound("redis") || !slices.ContainsFunc(c.file.Limit, func(l config.Limit) bool { return l.Scope == "redis" }) {
		return
	}
	if c.last != nil && c.last.limitStore != nil && reflect.DeepEqual(c.last.limitStore.source, *r) {
		c.snap.limitStore = c.last.limitStore
		return
	}
	options, err := keystore.Options(r.URL.Reveal())
	if err != nil {
		c.fault("redis.url", "%v", err)
		return
	}
	log := c.log
	c.snap.limitStore = &limitStore{source: *r, Store: central.New(central.Config{
		Options: options, Prefix: r.Prefix, Timeout: r.Timeout,
		Report: func(up bool, err error) {
			if up {
				log.Info().Msg("limits are decided in Redis")
				return
			}
			log.Error().Err(err).Msg("Redis does not decide on limits: on_store_error holds")
		},
	})}
}

// startLimitStore connects the store of a snapshot, and waits until that has been tried.
func (e *Engine) startLimitStore(snap *snapshot) {
	s := snap.limitStore
	if s == nil || s.begun() {
		return
	}
	s.start(e.life, s.Run)
	select {
	case <-s.Tried():
	case <-time.After(firstContact):
	case <-e.life.Done():
	}
}

// retireLimitStore ends the last snapshot's store if the next has another: not before requests under way are done
// with it.
func (e *Engine) retireLimitStore(last, next *snapshot) {
	s := last.limitStore
	if s == nil || s == next.limitStore {
		return
	}
	e.background.Go(func() {
		select {
		case <-time.After(retirement):
		case <-e.life.Done():
		}
		s.finish()
	})
}

// LimitStore tells how the Redis stands that decides on limits; nil if there is none.
func (e *Engine) LimitStore() *LimitStore {
	s := e.snapshot.Load().limitStore
	if s == nil {
		return nil
	}
	stats := LimitStore(s.Stats())
	return &stats
}

// remote is what an exchange knows of the limits that are decided in Redis: for each of them its place among the
// exchange's meters, its charge and the verdict. None is asked unless all others agree.
type remote struct {
	places   []int
	charges  []central.Charge
	verdicts []central.Verdict
	answered time.Duration // when, by the limiter's clock
}

func (r *remote) reset() {
	clear(r.charges)
	clear(r.verdicts)
	r.places, r.charges, r.verdicts = r.places[:0], r.charges[:0], r.verdicts[:0]
}

// verdict is what Redis said of the i-th of the exchange's meters; nil if it was not asked.
func (r *remote) verdict(i int) *central.Verdict {
	for k, place := range r.places {
		if place == i {
			return &r.verdicts[k]
		}
	}
	return nil
}

// chargeCentral asks Redis for the request, on behalf of the meters from first on.
func (x *exchange) chargeCentral(first int, now time.Duration) *Fault {
	e, m := x.conn.engine, &x.metering
	r := &m.remote
	asked := len(r.places)
	for i := first; i < len(m.meters); i++ {
		r.places = append(r.places, i)
		r.charges = append(r.charges, x.centralCharge(m.meters[i], &m.charges[i]))
		r.verdicts = append(r.verdicts, central.Verdict{})
	}
	m.delayed = true
	admitted, err := x.askStore(now, r.charges[asked:], r.verdicts[asked:])
	r.answered = time.Since(e.started)
	switch {
	case errors.Is(err, central.ErrGone):
		m.drop(first)
		x.giveBack()
		return e.faults.clientGone
	case err != nil:
		return x.doWithoutStore(first, asked)
	case !admitted:
		return x.refuse(first)
	}
	return nil
}

// askStore waits for Redis, until the client leaves.
func (x *exchange) askStore(now time.Duration, charges []central.Charge, verdicts []central.Verdict) (bool, error) {
	gone, end := x.conn.wait()
	defer end()
	return x.snap.limitStore.Take(now, gone, charges, verdicts)
}

func (x *exchange) centralCharge(m *meter, c *limiter.Charge) central.Charge {
	return central.Charge{Rule: m.central, Bucket: x.digest(m), Tier: c.Tier, Own: c.Own, Passes: m.onStoreError != failDeny}
}

// doWithoutStore decides in the store's stead, as the limits from first on say. A shadow has no say in this either.
func (x *exchange) doWithoutStore(first, asked int) *Fault {
	e, m := x.conn.engine, &x.metering
	now := time.Since(e.started)
	for i := first; i < len(m.meters); i++ {
		m.meters[i].counts.degraded.Add(1)
		if m.meters[i].onStoreError == failDeny && !m.meters[i].rule.Shadow() {
			m.drop(first)
			x.giveBack()
			x.reopens = x.snap.limitStore.Reopens(now)
			return e.faults.limitStore
		}
	}
	for i := first; i < len(m.meters); i++ {
		if m.meters[i].onStoreError != failLocal {
			continue
		}
		m.remote.places[asked+i-first] = -1
		if !e.limiter.Take(now, m.charges[i:i+1], m.verdicts[i:i+1]) {
			return x.refuse(i)
		}
	}
	return nil
}

// digest names the bucket that a meter counts the request in, the same in all gateways.
func (x *exchange) digest(m *meter) central.Bucket {
	s := x.keySource()
	b := m.digest(&s)
	x.scratch = s.scratch
	return b
}

// digest names the bucket of such requests: by all that they have in common, each part followed by what it is and how
// long, so that no two lists of parts read the same.
func (m *meter) digest(s *keySource) central.Bucket {
	b := s.scratch[:0]
	for _, p := range m.parts {
		switch p.kind {
		case keyClient:
			if s.client == "" {
				b = appendAddress(b, s.address)
			} else {
				b = sealPart(append(b, s.client...), len(b), partPresent)
			}
		case keyAddress:
			b = appendAddress(b, s.address)
		case keyRoute:
			b = sealPart(append(b, s.route...), len(b), partPresent)
		case keyHost:
			b = sealPart(appendHostName(b, s.host), len(b), partPresent)
		case keyMethod:
			b = sealPart(append(b, s.method...), len(b), partPresent)
		case keyHeader:
			b = s.appendHeader(b, p.name)
		case keyClaim:
			if value, found := s.claims[p.name]; found {
				b = sealPart(append(b, value...), len(b), partPresent)
			} else {
				b = sealPart(b, len(b), partAbsent)
			}
		}
	}
	s.scratch = b
	sum := sha256.Sum256(b)
	return central.Bucket(sum[:len(central.Bucket{})])
}

func sealPart(b []byte, start int, kind uint64) []byte {
	n := len(b) - start
	return append(binary.BigEndian.AppendUint32(b, uint32(n)), byte(kind))
}

func appendAddress(b []byte, a netip.Addr) []byte {
	start := len(b)
	switch a = a.Unmap(); {
	case a.Is4():
		four := a.As4()
		b = append(b, four[:]...)
	case a.IsValid():
		sixteen := a.As16()
		b = append(b, sixteen[:]...)
	}
	return sealPart(b, start, partAddress)
}

// toolWait is how long an operator waits for Redis.
const toolWait = 2 * time.Second

// ErrLimitStore says that the Redis which has the buckets of a limit cannot be asked.
var ErrLimitStore = errors.New("the limit's store cannot be asked")

func storeTrouble(err error) error { return fmt.Errorf("%w: %w", ErrLimitStore, err) }
