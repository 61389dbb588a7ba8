package limiter

import (
	"encoding/binary"
	"maps"
	"time"

	"github.com/dchest/siphash"
)

// ownName stands for the name of a tier where a rate comes from credentials. No tier has such a name.
const ownName = "\x00"

// policy makes the policy of a rule for one of its rates: that of a tier, or of no tier, or of credentials.
func (l *Limiter) policy(s *Spec, rate Rate, tier string) *policy {
	p := newPolicy(s, rate, l.unix)
	if s.Shared {
		p.own, p.patience = tier == ownName, l.ledger.interval
		p.rule = l.content(s, rate, tier)
	}
	return p
}

// content names a rule by what it says, so that nodes whose rules say different things under one name do not
// mix them up. Of credentials' rates, the deltas themselves say which.
func (l *Limiter) content(s *Spec, rate Rate, tier string) uint64 {
	if tier == ownName {
		rate = Rate{}
	}
	var b []byte
	for _, text := range []string{s.Name, s.Parts, tier} {
		b = binary.AppendUvarint(b, uint64(len(text)))
		b = append(b, text...)
	}
	for _, n := range []int64{int64(s.Algorithm), s.Burst, max(s.Cost, 1), int64(s.MaxWait), rate.N, int64(rate.Per)} {
		b = binary.AppendVarint(b, n)
	}
	return siphash.Hash(l.secret[0], l.secret[1], b)
}

// late is how long after a reload deltas of the rules before it are still taken for those of the rules that
// replaced them: peers reload at other moments.
const late = int64(5 * time.Second)

// name makes the rules known to deltas.
func (g *ledger) name(rules []*Rule, now int64) {
	names, plans := map[uint64]shared{}, map[*plan]bool{}
	for _, r := range rules {
		if !r.spec.Shared {
			continue
		}
		for _, t := range append([]tier{{plan: r.base}}, r.tiers...) {
			names[t.plan.policy.Load().rule] = shared{plan: t.plan}
			plans[t.plan] = true
		}
		names[r.own.limiter.content(&r.spec, Rate{}, ownName)] = shared{own: r.own, rule: r}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	maps.DeleteFunc(g.names, func(_ uint64, s shared) bool { return s.plan != nil && !plans[s.plan] })
	g.former, g.reload = g.names, now
	g.names = names
}

// find says which rule a delta is about.
func (g *ledger) find(rule uint64, now int64) (shared, bool) {
	s, found := g.names[rule]
	if !found && now-g.reload < late {
		s, found = g.former[rule]
	}
	return s, found
}
