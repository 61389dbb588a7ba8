package engine

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/limiter"
	"github.com/sluice-gateway/sluice/limiter/central"
)

// newLimiter makes the limiter of an engine, which outlives every snapshot.
func newLimiter(file *config.File, epoch time.Time) (*limiter.Limiter, error) {
	o := limiter.Options{Capacity: file.Limits.Capacity, Epoch: epoch}
	_, _ = rand.Read(o.Secret[:]) // never fails
	if c := file.Cluster; c != nil {
		var err error
		if o.Secret, err = bucketSecret(c); err != nil {
			return nil, err
		}
		o.Interval = c.Interval
	}
	return limiter.New(o), nil
}

// limitSource is what a meter is made of, beside its rule.
type limitSource struct {
	config.Limit
	central *central.Rule
}

// limits prepares the rules and their meters. They are in force once the snapshot's update is committed.
func (c *compiler) limits() {
	c.snap.meters = map[string]*meter{}
	c.snap.quota = quotaFields{
		legacy: slices.Contains(c.file.Limits.Headers, "x-ratelimit"), ietf: slices.Contains(c.file.Limits.Headers, "ietf"),
	}
	var specs []limiter.Spec
	var sources []limitSource
	for i, file := range c.file.Limit {
		key := fmt.Sprintf("limit[%d]", i)
		if !c.sound(key) {
			continue
		}
		spec := limitSpec(file)
		spec.Shared = c.shared(file)
		if err := spec.Check(); err != nil {
			c.limitFault(key, err)
			continue
		}
		specs, sources = append(specs, spec), append(sources, limitSource{file, c.central(key, file, spec)})
	}
	update, err := c.limiter.Prepare(specs)
	if err != nil {
		c.fault("limit", "%v", err)
		return
	}
	c.snap.update = update
	for i, rule := range update.Rules() {
		c.snap.meters[rule.Name()] = c.meter(sources[i], rule)
	}
}

// shared says whether the gateways of a cluster count a limit together: always, or while Redis does not.
func (c *compiler) shared(f config.Limit) bool {
	return f.Scope == "cluster" || f.Scope == "redis" && f.OnStoreError == "local" && c.file.Cluster != nil && !c.alone
}

func limitSpec(f config.Limit) limiter.Spec {
	s := limiter.Spec{
		Name: f.Name, Rate: limiter.Rate(f.Rate), Burst: f.Burst, Cost: f.Cost, MaxWait: f.MaxWait, Shadow: f.Mode == "shadow",
		Algorithm: map[string]limiter.Algorithm{
			"token_bucket": limiter.TokenBucket, "fixed_window": limiter.FixedWindow,
			"sliding_window": limiter.SlidingWindow, "leaky_bucket": limiter.LeakyBucket,
		}[f.Algorithm],
		Tiers: map[string]limiter.Rate{}, Parts: strings.Join(f.Key, "\n"),
	}
	for tier, rate := range f.Tiers {
		s.Tiers[tier] = limiter.Rate(rate)
	}
	return s
}

// limitFault puts what the limiter says of a spec at the key of the file that it concerns.
func (c *compiler) limitFault(key string, err error) {
	var bad *limiter.SpecError
	if !errors.As(err, &bad) {
		c.fault(key, "%v", err)
		return
	}
	field, tier, _ := strings.Cut(bad.Field, ".")
	name := map[string]string{"Rate": "rate", "Burst": "burst", "Cost": "cost", "MaxWait": "max_wait", "Tiers": "tiers." + tier}[field]
	c.fault(key+"."+name, "%s", bad.Reason)
}

func (c *compiler) meter(f limitSource, rule *limiter.Rule) *meter {
	m := &meter{rule: rule, central: f.central, guard: f.BeforeAuth, hidden: f.Hidden, counts: &meterCounts{}}
	m.onStoreError = map[string]storeFailure{"local": failLocal, "allow": failAllow, "deny": failDeny}[f.OnStoreError]
	if c.last != nil && c.last.meters[f.Name] != nil {
		m.counts = c.last.meters[f.Name].counts
	}
	for _, part := range f.Key {
		m.parts = append(m.parts, newKeyPart(part))
		m.perClient = m.perClient || part == "client"
	}
	return m
}

// mostLimits is how many limits a route can have: an exchange keeps a verdict for each.
const mostLimits = 16

// checkLimits finds faults in what a route says of limits.
func (c *compiler) checkLimits(key string, r *config.Route) {
	if len(r.Limits) > mostLimits {
		c.fault(key, "at most %d limits", mostLimits)
	}
	for _, name := range r.Limits {
		if wait := c.longestWait(name); r.Timeout > 0 && wait >= r.Timeout {
			c.fault(key, "requests may wait up to %v for %q, and the route gives up after %v", wait, name, r.Timeout)
		}
	}
}

// meterLists is the limits of routes: those that are asked before authentication, and the others.
type meterLists struct{ guards, limits []*meter }

// meters finds limits by their names, those that Redis decides on last.
func (c *compiler) meters(names []string) (l meterLists) {
	for _, name := range names {
		switch m := c.snap.meters[name]; {
		case m == nil: // faulted above
		case m.guard:
			l.guards = append(l.guards, m)
		default:
			l.limits = append(l.limits, m)
		}
	}
	for _, list := range [][]*meter{l.guards, l.limits} {
		slices.SortStableFunc(list, func(a, b *meter) int { return a.elsewhere() - b.elsewhere() })
	}
	return l
}

// elsewhere is 1 if Redis decides, else 0.
func (m *meter) elsewhere() int {
	if m.central != nil {
		return 1
	}
	return 0
}

// longestWait is how long a limit may make a request wait for its turn.
func (c *compiler) longestWait(name string) time.Duration {
	i := slices.IndexFunc(c.file.Limit, func(l config.Limit) bool { return l.Name == name })
	if i < 0 || c.file.Limit[i].Algorithm != "leaky_bucket" {
		return 0
	}
	return c.file.Limit[i].MaxWait
}
