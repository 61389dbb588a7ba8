package config

import (
	"net"
	"net/url"
	"slices"
	"strings"
)

func (l *loader) checkDestinations() {
	f := l.file
	l.checkNameSpace()
	for _, name := range sortedKeys(f.Upstream) {
		l.checkUpstream(childKey("upstream", name), f.Upstream[name])
	}
	for _, name := range sortedKeys(f.Split) {
		key, weights := childKey("split", name)+".weights", f.Split[name].Weights
		total := 0
		for _, target := range sortedKeys(weights) {
			total += max(0, weights[target])
			l.checkDestination(childKey(key, target), target)
		}
		if len(weights) > 0 && total == 0 && !l.faulted(key) {
			l.fault(key, "all weights are 0: no request has anywhere to go")
		}
	}
	for _, name := range sortedKeys(f.Switch) {
		key, s := childKey("switch", name), f.Switch[name]
		for _, value := range sortedKeys(s.Cases) {
			l.checkDestination(childKey(key+".cases", value), s.Cases[value])
		}
		if s.Default != "" {
			l.checkDestination(key+".default", s.Default)
		}
	}
	l.checkCycles()
}

// checkNameSpace wants every destination's name to be its own, whatever its kind.
func (l *loader) checkNameSpace() {
	seen := make(map[string]string)
	claim := func(kind string, names []string) {
		for _, name := range names {
			if first, taken := seen[name]; taken {
				l.fault(childKey(kind, name), "the name is taken by %s", childKey(first, name))
				continue
			}
			seen[name] = kind
		}
	}
	claim("upstream", sortedKeys(l.file.Upstream))
	claim("split", sortedKeys(l.file.Split))
	claim("switch", sortedKeys(l.file.Switch))
}

// destinations lists the names that a route may lead to.
func (l *loader) destinations() []string {
	return slices.Concat(sortedKeys(l.file.Upstream), sortedKeys(l.file.Split), sortedKeys(l.file.Switch))
}

func (l *loader) checkDestination(key, name string) {
	f := l.file
	if f.Upstream[name] != nil || f.Split[name] != nil || f.Switch[name] != nil || l.faulted(key) {
		return
	}
	l.suggest(key, nearest(name, l.destinations()), "there is no upstream, split or switch %q", name)
}

func (l *loader) checkUpstream(key string, u *Upstream) {
	seen := make(map[string]int)
	for i, target := range u.Targets {
		if target.URL == nil {
			continue
		}
		l.checkProtocol(elementKey(key+".targets", i), u.Protocol, target.URL.Scheme)
		place := placeOf(target.URL)
		if first, taken := seen[place]; taken {
			l.fault(elementKey(key+".targets", i), "the same as %s: give that one more weight", elementKey("targets", first))
			continue
		}
		seen[place] = i
	}
	l.checkUpstreamTLS(key, u)
	if u.Pipeline > 0 && u.Protocol != "http1" {
		l.fault(key+".pipeline", "is for protocol = \"http1\": %s shares connections by itself", u.Protocol)
	}
	if u.Health != nil && u.Health.Timeout > u.Health.Interval && !l.faulted(key+".health.interval") {
		l.fault(key+".health.timeout", "is longer than interval: probes would pile up")
	}
}

// placeOf tells where a target is, however it is written.
func placeOf(u *url.URL) string {
	if u.Scheme == "unix" {
		return u.Opaque
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

func (l *loader) checkProtocol(key, protocol, scheme string) {
	if protocol == "h2" && scheme != "https" {
		l.fault(key, "protocol = \"h2\" needs https://; without TLS it is \"h2c\"")
	}
	if protocol == "h2c" && scheme != "http" {
		l.fault(key, "protocol = \"h2c\" is without TLS; for https:// it is \"h2\"")
	}
}

func (l *loader) checkUpstreamTLS(key string, u *Upstream) {
	t := u.TLS
	switch {
	case t.Cert != "" && t.Key == "":
		l.fault(key+".tls.key", "missing: the key of %q", t.Cert)
	case t.Cert == "" && t.Key != "":
		l.fault(key+".tls.cert", "missing: the certificate of %q", t.Key)
	}
	isHTTPS := func(t Target) bool { return t.URL == nil || t.URL.Scheme == "https" }
	if t != (UpstreamTLS{}) && !slices.ContainsFunc(u.Targets, isHTTPS) && len(u.Targets) > 0 {
		l.fault(key+".tls", "no target is https://")
	}
}

// checkCycles looks for splits and switches that lead back to themselves. Each circle is told once.
func (l *loader) checkCycles() {
	clean := make(map[string]bool)
	var trail []string
	var visit func(name string)
	visit = func(name string) {
		if start := slices.Index(trail, name); start >= 0 {
			circle := append(slices.Clone(trail[start:]), name)
			l.fault(l.destinationKey(name), "leads back to itself: %s", strings.Join(circle, " -> "))
			return
		}
		if clean[name] {
			return
		}
		trail = append(trail, name)
		for _, next := range l.leadsTo(name) {
			visit(next)
		}
		trail = trail[:len(trail)-1]
		clean[name] = true
	}
	for _, name := range l.destinations() {
		visit(name)
	}
}

// leadsTo lists where a split or switch sends requests, each name once.
func (l *loader) leadsTo(name string) []string {
	var next []string
	if s := l.file.Split[name]; s != nil {
		next = append(next, sortedKeys(s.Weights)...)
	}
	if s := l.file.Switch[name]; s != nil {
		for _, value := range sortedKeys(s.Cases) {
			next = append(next, s.Cases[value])
		}
		next = append(next, s.Default)
	}
	slices.Sort(next)
	return slices.Compact(next)
}

func (l *loader) destinationKey(name string) string {
	if l.file.Split[name] != nil {
		return childKey("split", name)
	}
	return childKey("switch", name)
}
