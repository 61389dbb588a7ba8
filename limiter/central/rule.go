package central

import (
	"encoding/base64"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

// Bucket names what the requests of a bucket have in common: a digest of it that nobody can aim at another's, the
// same in all gateways. 128 bits of SHA-256 will do.
type Bucket [16]byte

// Rule is a limiter.Spec that is decided in Redis. It is immutable but for a memory of rates, and safe for
// concurrent use. Gateways that have rules of one name share their buckets; where they differ, as while a change is
// rolled out, each decides by its own, and what was taken under the other counts.
type Rule struct {
	spec  limiter.Spec
	base  *policy
	tiers map[string]*policy
	own   atomic.Pointer[map[limiter.Rate]*policy] // of credentials; replaced as a whole
}

// maxOwnRates is how many rates of credentials a rule remembers. More are reckoned anew for each request.
const maxOwnRates = 1024

// NewRule makes a rule of a spec that package limiter has found good. The error wraps a *limiter.SpecError if
// Redis cannot count so.
func NewRule(s limiter.Spec) (*Rule, error) {
	r := &Rule{spec: s, tiers: map[string]*policy{}}
	r.own.Store(&map[limiter.Rate]*policy{})
	var err error
	if r.base, err = newPolicy(&s, s.Rate, "", "rule"); err != nil {
		return nil, fmt.Errorf("cannot make rule %q: %w", s.Name, err)
	}
	for tier, rate := range s.Tiers {
		if r.tiers[tier], err = newPolicy(&s, rate, tier, "tier:"+tier); err != nil {
			return nil, fmt.Errorf("cannot make rule %q for tier %q: %w", s.Name, tier, err)
		}
	}
	return r, nil
}

// Shadow says whether the rule only counts.
func (r *Rule) Shadow() bool { return r.spec.Shadow }

// policy finds what holds for a client: its credential's own rate wins over its tier's.
func (r *Rule) policy(tier string, own limiter.Rate) *policy {
	if own != (limiter.Rate{}) {
		if p := r.ownPolicy(own); p != nil {
			return p
		}
	}
	if p := r.tiers[tier]; p != nil {
		return p
	}
	return r.base
}

// ownPolicy is that of a credential's rate; nil if there can be none.
func (r *Rule) ownPolicy(rate limiter.Rate) *policy {
	known := *r.own.Load()
	if p := known[rate]; p != nil {
		return p
	}
	spec := limiter.Spec{Algorithm: r.spec.Algorithm, Rate: rate, Burst: r.spec.Burst}
	if spec.Check() != nil {
		return nil
	}
	p, err := newPolicy(&r.spec, rate, "", ownField(rate))
	if err != nil {
		return nil
	}
	if len(known) < maxOwnRates {
		more := maps.Clone(known)
		more[rate] = p
		r.own.Store(&more) // another rate that came in this moment comes again
	}
	return p
}

func ownField(rate limiter.Rate) string {
	return "own:" + strconv.FormatInt(rate.N, 10) + "/" + rate.Per.String()
}

// fieldPolicy is the policy of a field in Redis; nil if the rule has none for it, any more.
func (r *Rule) fieldPolicy(field string) *policy {
	kind, rest, _ := strings.Cut(field, ":")
	switch kind {
	case "rule":
		return r.base
	case "tier":
		return r.tiers[rest]
	case "own":
		tokens, period, _ := strings.Cut(rest, "/")
		n, err := strconv.ParseInt(tokens, 10, 64)
		per, err2 := time.ParseDuration(period)
		if err == nil && err2 == nil {
			return r.ownPolicy(limiter.Rate{N: n, Per: per})
		}
	}
	return nil
}

// key is the name of a bucket in Redis.
func (r *Rule) key(prefix string, b Bucket) string {
	dst := make([]byte, 0, len(prefix)+len(r.spec.Name)+len("limit::{}")+22)
	dst = append(dst, prefix...)
	dst = append(dst, "limit:"...)
	dst = append(dst, r.spec.Name...)
	dst = append(dst, ":{"...)
	dst = base64.RawURLEncoding.AppendEncode(dst, b[:])
	return string(append(dst, '}'))
}
