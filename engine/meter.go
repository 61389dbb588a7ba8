package engine

import (
	"bytes"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/engine/wire"
	"github.com/sluice-gateway/sluice/limiter"
	"github.com/sluice-gateway/sluice/limiter/central"
)

// meter is a [[limit]] as the routes that name it use it.
type meter struct {
	rule   *limiter.Rule
	parts  []keyPart
	guard  bool // asked before authentication
	hidden bool // clients are not told of it
	// perClient says that clients have buckets of their own: then a credential's own rate wins. A limit that
	// protects something all share is not for a client to be freed of.
	perClient    bool
	counts       *meterCounts
	central      *central.Rule // that is asked in Redis; nil: the limit is this process's
	onStoreError storeFailure  // what holds while Redis does not decide
}

// meterCounts is what came of a limit. It outlives reloads.
type meterCounts struct {
	refused  atomic.Uint64
	shadowed atomic.Uint64 // would have been refused
	degraded atomic.Uint64 // were decided without the store
}

// keyPart is one of the things that requests of a bucket have in common.
type keyPart struct {
	kind keyKind
	name string // of a header, in lower case, or of a claim
}

type keyKind uint8

const (
	keyClient keyKind = iota
	keyAddress
	keyRoute
	keyHost
	keyMethod
	keyHeader
	keyClaim
)

func newKeyPart(text string) keyPart {
	kind, name, _ := strings.Cut(text, ":")
	switch kind {
	case "ip":
		return keyPart{kind: keyAddress}
	case "route":
		return keyPart{kind: keyRoute}
	case "host":
		return keyPart{kind: keyHost}
	case "method":
		return keyPart{kind: keyMethod}
	case "header":
		return keyPart{keyHeader, strings.ToLower(name)}
	case "claim":
		return keyPart{keyClaim, name}
	}
	return keyPart{kind: keyClient}
}

// String is the part as the configuration writes it.
func (p keyPart) String() string {
	return [...]string{"client", "ip", "route", "host", "method", "header:", "claim:"}[p.kind] + p.name
}

// What a bucket's key says of a part that requests may lack, or have in two forms. The forms must not
// meet: a client that calls itself 192.0.2.1 is not the one at that address.
const (
	partAbsent uint64 = iota
	partPresent
	partAddress
)

// metering is what an exchange knows of the limits that it was charged to: for each of them its meter, its
// charge and the verdict.
type metering struct {
	meters   []*meter
	charges  []limiter.Charge
	verdicts []limiter.Verdict
	remote   remote // of those that are decided in Redis, which then say nothing in verdicts
	refused  *meter // the one that the request has to wait for longest
	delayed  bool   // it has waited for a turn
	waiter   waiter // for a turn, while it waits
}

func (m *metering) reset() {
	clear(m.meters)
	clear(m.charges)
	clear(m.verdicts)
	m.meters, m.charges, m.verdicts, m.refused, m.delayed = m.meters[:0], m.charges[:0], m.verdicts[:0], nil, false
	m.remote.reset()
}

// verdict is what a limit says of a request, whoever decides on it.
type verdict interface {
	Limit() int64
	Window() time.Duration
	Remaining() int64
	Reset() time.Duration
	RetryAfter() time.Duration
	Turn() time.Duration
}

// verdict is that of the i-th limit.
func (m *metering) verdict(i int) verdict {
	if v := m.remote.verdict(i); v != nil {
		return v
	}
	return &m.verdicts[i]
}

// refuses says whether the i-th limit does not admit the request.
func (m *metering) refuses(i int) bool {
	if v := m.remote.verdict(i); v != nil {
		return v.Refused
	}
	return m.verdicts[i].Refused
}

// drop takes back that limits from first on were asked.
func (m *metering) drop(first int) {
	m.meters, m.charges, m.verdicts = m.meters[:first], m.charges[:first], m.verdicts[:first]
}

// charge asks meters for the request, all or nothing; what earlier ones took is given back if one
// refuses. Those that Redis decides on come last. A request that is admitted may have to wait for its turn.
func (x *exchange) charge(meters []*meter) *Fault {
	if len(meters) == 0 {
		return nil
	}
	e, m := x.conn.engine, &x.metering
	first := len(m.meters)
	elsewhere := len(meters) // the first that Redis decides on
	group := e.limiter.Address(0, x.network())
	for i, meter := range meters {
		if meter.central != nil {
			elsewhere = min(elsewhere, i)
		}
		m.meters = append(m.meters, meter)
		m.charges = append(m.charges, x.chargeOf(meter, group))
		m.verdicts = append(m.verdicts, limiter.Verdict{})
	}
	elsewhere += first
	now := x.limitsNow()
	if elsewhere > first && !e.limiter.Take(now, m.charges[first:elsewhere], m.verdicts[first:elsewhere]) {
		m.drop(elsewhere)
		return x.refuse(first)
	}
	if elsewhere < len(m.meters) {
		if fault := x.chargeCentral(elsewhere, now); fault != nil {
			return fault
		}
	}
	waits := false
	for i := first; i < len(m.verdicts); i++ {
		if m.refuses(i) {
			m.meters[i].counts.shadowed.Add(1)
		}
		waits = waits || m.awaited(i)
	}
	if waits {
		return x.awaitTurn(first, now)
	}
	return nil
}

// limitsNow is the time by the limiter's clock: that at which the request was read, unless it has waited for a turn
// or for somebody who knows its credentials.
func (x *exchange) limitsNow() time.Duration {
	if x.waited() {
		return time.Since(x.conn.engine.started)
	}
	return x.served.Sub(x.conn.engine.started)
}

// waited says whether the request had to wait before it was forwarded.
func (x *exchange) waited() bool { return x.metering.delayed || x.patience.armed != nil }

// chargeOf is what the request asks of a meter.
func (x *exchange) chargeOf(m *meter, group limiter.Key) limiter.Charge {
	c := limiter.Charge{Rule: m.rule, Key: x.bucket(m), Group: group}
	if p := x.principal; p != nil {
		c.Tier = p.Tier
		if m.perClient {
			c.Own = limiter.Rate(p.Rate)
		}
	}
	return c
}

// refuse finds out which of the meters from first on is to blame, and gives back what others took.
func (x *exchange) refuse(first int) *Fault {
	m := &x.metering
	var longest time.Duration
	for i := first; i < len(m.verdicts); i++ {
		if !m.refuses(i) || m.meters[i].rule.Shadow() {
			continue
		}
		if wait := m.verdict(i).RetryAfter(); m.refused == nil || wait > longest {
			m.refused, longest = m.meters[i], wait
		}
	}
	m.refused.counts.refused.Add(1)
	x.giveBack()
	return x.conn.engine.faults.limited
}

// giveBack gives back all that was taken for the request.
func (x *exchange) giveBack() {
	e, m := x.conn.engine, &x.metering
	e.limiter.GiveBack(x.limitsNow(), m.verdicts)
	if len(m.remote.verdicts) > 0 {
		x.snap.limitStore.GiveBack(m.remote.verdicts)
	}
}

// keySource is what keys are made from: a request's side of it, or what an operator says of one; see
// limitKeySource.
type keySource struct {
	address netip.Addr // that identifies the client
	client  string     // whom the client has proven to be; empty: nobody, and its address has to do
	route   string
	host    []byte
	method  []byte
	fields  []wire.Field
	claims  map[string]string
	scratch []byte
}

// bucket is the key that a meter counts the request under.
func (x *exchange) bucket(m *meter) limiter.Key {
	s := x.keySource()
	k := m.bucket(x.conn.engine.limiter, &s)
	x.scratch = s.scratch
	return k
}

func (x *exchange) keySource() keySource {
	s := keySource{
		address: x.clientKey(), route: x.route.name, host: x.host, method: x.method, fields: x.fields, scratch: x.scratch,
	}
	if p := x.principal; p != nil {
		s.client, s.claims = p.Client, p.Claims
	}
	return s
}

// bucket is the key that the meter counts such requests under.
func (m *meter) bucket(l *limiter.Limiter, s *keySource) limiter.Key {
	k := m.rule.Key()
	for _, p := range m.parts {
		switch p.kind {
		case keyClient:
			k = s.clientPart(l, k)
		case keyAddress:
			k = addressPart(l, k, s.address)
		case keyRoute:
			k = k.Trusted(s.route)
		case keyHost:
			s.scratch = appendHostName(s.scratch[:0], s.host)
			k = l.Hostile(k, s.scratch)
		case keyMethod:
			k = l.Hostile(k, s.method)
		case keyHeader:
			k = s.headerPart(l, k, p.name)
		case keyClaim:
			k = s.claimPart(l, k, p.name)
		}
	}
	return k
}

func addressPart(l *limiter.Limiter, k limiter.Key, a netip.Addr) limiter.Key {
	return l.Address(k.Number(partAddress), a)
}

func (s *keySource) clientPart(l *limiter.Limiter, k limiter.Key) limiter.Key {
	if s.client == "" {
		return addressPart(l, k, s.address)
	}
	s.scratch = append(s.scratch[:0], s.client...)
	return l.Hostile(k.Number(partPresent), s.scratch)
}

// headerPart adds every field of the name, in order: a second one does not hide the first.
func (s *keySource) headerPart(l *limiter.Limiter, k limiter.Key, name string) limiter.Key {
	for _, f := range s.fields {
		if wire.EqualFold(f.Name, name) {
			k = l.Hostile(k.Number(partPresent), f.Value)
		}
	}
	return k.Number(partAbsent)
}

// appendHeader is headerPart for a digest.
func (s *keySource) appendHeader(b []byte, name string) []byte {
	for _, f := range s.fields {
		if wire.EqualFold(f.Name, name) {
			b = sealPart(append(b, f.Value...), len(b), partPresent)
		}
	}
	return sealPart(b, len(b), partAbsent)
}

func (s *keySource) claimPart(l *limiter.Limiter, k limiter.Key, name string) limiter.Key {
	value, found := s.claims[name]
	if !found {
		return k.Number(partAbsent)
	}
	s.scratch = append(s.scratch[:0], value...)
	return l.Hostile(k.Number(partPresent), s.scratch)
}

// appendHostName appends a host in the one form that all spellings of it share: without port, final dot
// and capitals.
func appendHostName(dst, host []byte) []byte {
	if i := bytes.LastIndexByte(host, ':'); i >= 0 && bytes.IndexByte(host[i:], ']') < 0 {
		host = host[:i]
	}
	host = bytes.TrimSuffix(host, []byte("."))
	for _, c := range host {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	return dst
}

// network is the group of clients that share a bucket when there is no room for one each: 256 addresses of
// IPv4, or what one subscriber of IPv6 may have.
func (x *exchange) network() netip.Addr {
	a, bits := x.client, 48
	if a.Is4() {
		bits = 24
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil {
		return a
	}
	return p.Addr()
}

// limitToBlame is the name of the limit that refused the request; empty if none did, or a hidden one.
func (x *exchange) limitToBlame() string {
	if m := x.metering.refused; m != nil && !m.hidden {
		return m.rule.Name()
	}
	return ""
}
