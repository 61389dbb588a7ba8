package limiter

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrTooMany is what Prepare fails with when there are more rules and tiers than can be told apart.
var ErrTooMany = errors.New("limiter: too many rules and tiers")

// Update is a set of rules that has been checked, and is not in force yet.
type Update struct {
	limiter *Limiter
	version uint64
	rules   []*Rule
	changes []change
	book    *book // for the first shared rule, or as it was
}

// change is a plan with the policy that it is to have.
type change struct {
	plan   *plan
	policy *policy
	fresh  bool // the plan is new
}

// Prepare makes rules of specs, in their order, and changes nothing. The rules may be used once the
// update is committed. The error of a spec that cannot be wraps a *SpecError.
func (l *Limiter) Prepare(specs []Spec) (*Update, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := &Update{limiter: l, version: l.update}
	seen := map[string]bool{}
	fresh := 0
	for _, s := range specs {
		if err := s.Check(); err != nil {
			return nil, fmt.Errorf("cannot make rule %q: %w", s.Name, err)
		}
		if seen[s.Name] {
			return nil, fmt.Errorf("cannot make rule %q: %w", s.Name, &SpecError{"Name", "there are two"})
		}
		seen[s.Name] = true
		u.rules = append(u.rules, u.rule(s, l.rules[s.Name]))
	}
	for _, c := range u.changes {
		if c.fresh {
			fresh++
		}
	}
	if !l.plans.keep(fresh) {
		return nil, ErrTooMany
	}
	if u.book = l.book.Load(); u.book == nil && slices.ContainsFunc(specs, func(s Spec) bool { return s.Shared }) {
		u.book = newBook(l.capacity, len(l.ledger.peers), l.plans)
	}
	return u, nil
}

// rule makes a rule, with the plans of the rule that it replaces, if there is one.
func (u *Update) rule(s Spec, last *Rule) *Rule {
	s.Cost = max(s.Cost, 1)
	r := &Rule{spec: s, key: u.limiter.Hostile(0, []byte(s.Name)), own: newOwnRates(u.limiter)}
	old := map[string]*plan{}
	var base *plan
	if last != nil && last.spec.Shared == s.Shared { // else its buckets are elsewhere
		r.own, base = last.own, last.base
		for _, t := range last.tiers {
			old[t.name] = t.plan
		}
	}
	r.base = u.plan(base, s.Shared, u.limiter.policy(&r.spec, s.Rate, ""))
	for _, name := range sortedTiers(&s) {
		p := u.plan(old[name], s.Shared, u.limiter.policy(&r.spec, s.Tiers[name], name))
		r.tiers = append(r.tiers, tier{name, p})
	}
	return r
}

// plan takes note of the policy that a plan gets, which is a new one if there was none.
func (u *Update) plan(p *plan, shared bool, to *policy) *plan {
	switch {
	case p == nil:
		p = &plan{shared: shared}
		u.changes = append(u.changes, change{p, to, true})
	case !to.same(p.policy.Load()):
		u.changes = append(u.changes, change{p, to, false})
	}
	return p
}

// Rules is the rules, in the order of their specs.
func (u *Update) Rules() []*Rule { return u.rules }

// Commit puts the rules in force at now. Buckets go on where they were: what a client has used stays
// used, as far as the new rule's limit goes, and drains at its rate. Requests that still hold older rules
// are decided by the new rates. Commit panics if another update has been committed since Prepare.
func (u *Update) Commit(now time.Duration) {
	l := u.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	if u.version != l.update {
		panic("BUG: the limiter's rules changed between Prepare and Commit")
	}
	l.update++
	l.book.Store(u.book)
	for _, r := range u.rules {
		u.changes = append(u.changes, r.own.follow(&r.spec)...)
	}
	changed := false
	for _, c := range u.changes {
		c.plan.change(c.policy)
		if c.fresh && !l.plans.add(c.plan, true) {
			panic("BUG: no id left for a plan that there was room for")
		}
		changed = changed || !c.fresh
	}
	l.plans.release()
	needed := map[*plan]bool{}
	next := map[string]*Rule{}
	for _, r := range u.rules {
		next[r.spec.Name] = r
		for _, t := range r.plans() {
			needed[t.plan] = true
		}
	}
	var gone []*plan
	for name, r := range l.rules {
		if next[name] == nil || next[name].own != r.own {
			r.own.follow(nil)
		}
		for _, t := range r.plans() {
			if !needed[t.plan] {
				gone = append(gone, t.plan)
				needed[t.plan] = true
			}
		}
	}
	l.rules = next
	l.ledger.name(u.rules, clamp(now))
	unused := l.plans.retire(gone)
	if changed || len(unused) > 0 {
		l.sweep(clamp(now))
	}
	l.plans.recycle(unused)
	for _, c := range u.changes {
		c.plan.convertOverflow(clamp(now))
	}
}

// sweep translates every bucket into the units of its plan's current policy, and empties those of plans
// that are no more.
func (l *Limiter) sweep(now int64) {
	for _, t := range l.tables() {
		for i := range t.slots() {
			t.slot(i).renew(l.plans, now)
		}
	}
}

// renew brings a slot's word up to date.
func (s *slot) renew(plans *plans, now int64) {
	for {
		tag := s.tag.Load()
		word := s.word.Load()
		if tag&stateMask != stateLive || word == owned || s.tag.Load() != tag {
			return
		}
		p := plans.get(tag)
		if p == nil {
			if !s.own(tag, word) {
				continue
			}
			s.tag.Store(tag &^ stateMask &^ nameMask)
			s.word.Store(0)
			return
		}
		value, policy := p.read(word, now)
		if word>>valueBits == policy.epoch || s.word.CompareAndSwap(word, policy.epoch<<valueBits|value) {
			return
		}
	}
}

// convertOverflow does the same for the words that stand in for many.
func (p *plan) convertOverflow(now int64) {
	for i := range p.overflow {
		for w := &p.overflow[i]; ; {
			word := w.Load()
			value, policy := p.read(word, now)
			if word>>valueBits == policy.epoch || w.CompareAndSwap(word, policy.epoch<<valueBits|value) {
				break
			}
		}
	}
}
