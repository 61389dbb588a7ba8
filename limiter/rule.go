package limiter

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// Rule is a Spec at work. It is immutable but for its buckets and counters, and safe for concurrent use.
// A reload makes new rules, which find the buckets of the old ones by name.
type Rule struct {
	spec  Spec
	key   Key // what the keys of its buckets begin with
	base  *plan
	tiers []tier
	own   *ownRates
}

type tier struct {
	name string
	plan *plan
}

// Name is the rule's name.
func (r *Rule) Name() string { return r.spec.Name }

// Shadow says whether the rule only counts.
func (r *Rule) Shadow() bool { return r.spec.Shadow }

// Algorithm is how the rule counts.
func (r *Rule) Algorithm() Algorithm { return r.spec.Algorithm }

// Key begins the key of a bucket of this rule.
func (r *Rule) Key() Key { return r.key }

// plan finds the plan for a client: its credential's own rate wins over its tier's.
func (r *Rule) plan(tier string, own Rate) *plan {
	if tier == "" && own == (Rate{}) {
		return r.base
	}
	return r.special(tier, own)
}

func (r *Rule) special(tier string, own Rate) *plan {
	if own != (Rate{}) {
		if p := r.own.plan(r, own); p != nil {
			return p
		}
	}
	for i := range r.tiers {
		if r.tiers[i].name == tier {
			return r.tiers[i].plan
		}
	}
	return r.base
}

// plans is every plan that the rule has at present, with the name of its tier; the credentials' own rates
// come last, without one.
func (r *Rule) plans() []tier {
	all := append([]tier{{plan: r.base}}, r.tiers...)
	for _, p := range *r.own.list.Load() {
		all = append(all, tier{plan: p})
	}
	return all
}

// overflows is how many buckets of a plan stand in for those that the table has no room for.
const overflows = 64

// plan is a name space of buckets that share a policy: a rule's own rate, a tier's, or that of
// credentials. It outlives reloads, which only change its policy. The buckets' words say by their epoch
// which policy they were written under.
type plan struct {
	id       uint64 // in its place in a tag
	shared   bool   // its buckets are those of shared rules
	policy   atomic.Pointer[policy]
	before   [epochs]atomic.Pointer[policy] // by epoch
	overflow [overflows]atomic.Uint64       // words, by group
}

// read is the value of a word under the policy that is current, and that policy.
func (p *plan) read(word uint64, now int64) (value uint64, current *policy) {
	current = p.policy.Load()
	if word>>valueBits == current.epoch {
		return word & valueMask, current
	}
	if old := p.before[word>>valueBits].Load(); old != nil {
		return current.adopt(old, word&valueMask, now), current
	}
	return 0, current
}

// change gives a plan another policy, of the next epoch. It is for one caller at a time.
func (p *plan) change(to *policy) {
	if last := p.policy.Load(); last != nil {
		to.epoch = (last.epoch + 1) % epochs
	}
	p.before[to.epoch].Store(to)
	p.policy.Store(to)
}

// maxOwnRates is how many different rates of credentials a rule knows. Those of credentials that come
// later are not known to it: they have the rate that they would have without.
const maxOwnRates = 1024

// ownRates is the plans of a rule for the rates that credentials bring along. It outlives reloads.
type ownRates struct {
	limiter *Limiter
	list    atomic.Pointer[[]*plan] // sorted; replaced as a whole
	mu      sync.Mutex              // held by who replaces it, or the spec
	spec    *Spec                   // that its plans follow; nil: there is no such rule yet, or any more
}

func newOwnRates(l *Limiter) *ownRates {
	o := &ownRates{limiter: l}
	o.list.Store(new([]*plan))
	return o
}

func compareRate(p *plan, r Rate) int {
	q := p.policy.Load().rate
	switch {
	case q == r:
		return 0
	case q.Per < r.Per || q.Per == r.Per && q.N < r.N:
		return -1
	}
	return 1
}

// plan finds the plan of a rate, and makes it when it is seen for the first time; nil if it cannot be.
func (o *ownRates) plan(r *Rule, rate Rate) *plan {
	if r.spec.Algorithm == SlidingWindow && rate.N > MaxSliding { // it may be known from another algorithm
		return nil
	}
	list := *o.list.Load()
	if i, found := slices.BinarySearchFunc(list, rate, compareRate); found {
		return list[i]
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	list = *o.list.Load()
	i, found := slices.BinarySearchFunc(list, rate, compareRate)
	if found {
		return list[i]
	}
	if len(list) >= maxOwnRates || o.spec == nil {
		return nil
	}
	spec := Spec{Algorithm: o.spec.Algorithm, Rate: rate, Burst: o.spec.Burst, Shared: o.spec.Shared}
	if spec.Check() != nil {
		return nil
	}
	p := &plan{shared: o.spec.Shared}
	p.change(o.limiter.policy(o.spec, rate, ownName))
	if !o.limiter.plans.add(p, false) {
		return nil
	}
	longer := slices.Insert(slices.Clone(list), i, p) // not list, which then would be allocated by every call
	o.list.Store(&longer)
	return p
}

// follow makes the rates those of another spec of the rule, or of none, and returns what changes by it.
// Rates that are seen for the first time from now on follow it already.
func (o *ownRates) follow(s *Spec) (changes []change) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.spec = s
	if s == nil {
		return nil
	}
	for _, p := range *o.list.Load() {
		last := p.policy.Load()
		if to := o.limiter.policy(s, last.rate, ownName); !to.same(last) {
			changes = append(changes, change{p, to, false})
		}
	}
	return changes
}

// sortedTiers is the names of a spec's tiers.
func sortedTiers(s *Spec) []string { return slices.Sorted(maps.Keys(s.Tiers)) }
