package engine

import (
	"bytes"
	"math/bits"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/wire"
)

// destination is what a route's `to` names: an upstream, or a choice between destinations. The
// graph has no cycles; the loader refuses them.
type destination struct {
	name string
	pool *pool // of an upstream; else one of the two choices
	*split
	*headerSwitch
}

// choose follows switches and splits to the upstream that takes this request.
func (x *exchange) choose(d *destination) (*destination, *Fault) {
	for d.pool == nil {
		if d.split != nil {
			d = d.split.pick(x.draw(d.split))
		} else {
			d = d.headerSwitch.pick(x.value(d.headerSwitch.header))
		}
		if d == nil {
			return nil, x.conn.engine.faults.noVariant
		}
		x.variant = d.name
	}
	return d, nil
}

// headerSwitch chooses by the exact value of a request header.
type headerSwitch struct {
	header   string // lower-case
	cases    map[string]*destination
	fallback *destination // nil: 404
}

func (s *headerSwitch) pick(value []byte) *destination {
	if d, ok := s.cases[string(value)]; ok {
		return d
	}
	return s.fallback
}

// split shares requests by weight.
type split struct {
	sticky stickiness
	header string // lower-case name, of sticky header
	cookie string
	seed   uint64 // sets splits apart: the same client is not always in the first part of all of them
	parts  []splitPart
	total  uint64
}

type splitPart struct {
	to    *destination
	below uint64 // of the weights up to and with this part
}

// stickiness is what a split hashes to send a client to the same side every time.
type stickiness uint8

const (
	stickyNot    stickiness = iota
	stickyClient            // who the client is, or its address if it is nobody
	stickyAddress
	stickyHeader
	stickyCookie
)

// newSplit orders the parts by name, so that a change of weights moves as few clients as it can.
func newSplit(name string, weights map[string]int, destinations map[string]*destination) *split {
	s := &split{seed: xxhash.Sum64String(name)}
	names := make([]string, 0, len(weights))
	for n := range weights {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		if w := weights[n]; w > 0 {
			s.total += uint64(w)
			s.parts = append(s.parts, splitPart{to: destinations[n], below: s.total})
		}
	}
	return s
}

// pick maps draw, which is uniform over all of uint64, to a part in proportion to the weights.
func (s *split) pick(draw uint64) *destination {
	point, _ := bits.Mul64(draw, s.total)
	for _, p := range s.parts {
		if point < p.below {
			return p.to
		}
	}
	panic("BUG: a point beyond the last part")
}

// draw gives a number for a split: random, or a hash of what the split sticks to. A client that
// shows no such header or cookie sticks by its address.
func (x *exchange) draw(s *split) uint64 {
	var key []byte
	switch s.sticky {
	case stickyNot:
		return x.conn.engine.random()
	case stickyHeader:
		key = x.value(s.header)
	case stickyCookie:
		key = x.cookie(s.cookie)
	}
	if p := x.principal; s.sticky == stickyClient && p != nil {
		x.scratch = append(x.scratch[:0], p.Client...)
		key = x.scratch
	}
	if len(key) == 0 {
		address := x.clientKey().As16()
		x.scratch = append(x.scratch[:0], address[:]...)
		key = x.scratch
	}
	return mix(xxhash.Sum64(key) ^ s.seed)
}

// hashKey is what a pool hashes of the request to choose its target. What the request lacks is replaced by
// the address of its client.
func (x *exchange) hashKey() uint64 {
	h := &x.pool.hashOn
	var key []byte
	switch h.kind {
	case hashNothing:
		return 0
	case hashHeader:
		key = x.value(h.name)
	case hashCookie:
		key = x.cookie(h.name)
	case hashPath:
		key = x.path
	case hashClient:
		if x.principal != nil {
			x.scratch = append(x.scratch[:0], x.principal.Client...)
			key = x.scratch
		}
	}
	if len(key) == 0 {
		address := x.clientKey().As16()
		x.scratch = append(x.scratch[:0], address[:]...)
		key = x.scratch
	}
	return mix(xxhash.Sum64(key))
}

// hashOn is what a pool with balance = "hash" looks at.
type hashOn struct {
	kind hashKind
	name string // of a header, in lower case, or of a cookie
}

type hashKind uint8

const (
	hashNothing hashKind = iota // another policy
	hashClient
	hashAddress
	hashHeader
	hashCookie
	hashPath
)

func newHashOn(u *config.Upstream) hashOn {
	if u.Balance != "hash" {
		return hashOn{}
	}
	kind, name, _ := strings.Cut(u.HashOn, ":")
	switch kind {
	case "ip":
		return hashOn{kind: hashAddress}
	case "header":
		return hashOn{hashHeader, strings.ToLower(name)}
	case "cookie":
		return hashOn{hashCookie, name}
	case "path":
		return hashOn{kind: hashPath}
	}
	return hashOn{kind: hashClient}
}

// mix is the finalizer of SplitMix64: it makes the high bits, which choose the part, depend on all.
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// value is the first line of a request's field.
func (x *exchange) value(name string) []byte {
	for _, f := range x.fields {
		if wire.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return nil
}

// cookie is the value of a cookie of the request (RFC 6265 section 4.2).
func (x *exchange) cookie(name string) []byte {
	for _, f := range x.fields {
		if !wire.EqualFold(f.Name, "cookie") {
			continue
		}
		for rest := f.Value; len(rest) > 0; {
			var pair []byte
			pair, rest, _ = bytes.Cut(rest, []byte{';'})
			key, value, ok := bytes.Cut(bytes.TrimSpace(pair), []byte{'='})
			if ok && string(key) == name {
				return value
			}
		}
	}
	return nil
}
