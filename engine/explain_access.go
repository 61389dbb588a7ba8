package engine

import (
	"cmp"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/auth"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/wire"
)

// noteAccess notes who may pass the route, and what it is charged to. It returns why what the request shows
// cannot be good; nil if it can, or if nobody is asked.
func (o *offline) noteAccess(index int) *Fault {
	x, e := o.x, &o.explanation
	for _, m := range x.route.guards {
		o.noteLimit(m)
	}
	fault := o.noteMethods(index)
	for _, m := range x.route.limits {
		o.noteLimit(m)
	}
	if slices.ContainsFunc(e.Limits, func(l ExplainedLimit) bool { return l.Mode != "shadow" }) {
		e.Provided = append(e.Provided, "no limit refuses it")
	}
	return fault
}

// noteMethods does what authenticate does, as far as one can without asking whether a credential is good.
// From here on the exchange has a principal that stands for any, unless nobody is asked for one.
func (o *offline) noteMethods(index int) *Fault {
	x, e, f := o.x, &o.explanation, o.engine.faults
	names := x.snap.file.Route[index].Auth
	anything, bad := false, false
	for i := range x.route.carriers {
		c := &x.route.carriers[i]
		fits := false
		for _, m := range c.methods {
			shown := x.shown(m)
			anything = anything || shown != ShownNothing
			fits = fits || shown == ShownCredential || shown == ShownNothing
			e.Methods = append(e.Methods, ExplainedMethod{
				Name: m.name, Header: writtenHeader(x.snap.file, m.name), Scheme: scheme(m), Shown: shown, Upstream: c.forward,
			})
		}
		bad = bad || !fits
	}
	slices.SortFunc(e.Methods, func(a, b ExplainedMethod) int {
		return cmp.Compare(slices.Index(names, a.Name), slices.Index(names, b.Name))
	})
	e.Preflight = x.preflight()
	if len(e.Methods) == 0 || e.Preflight {
		return nil
	}
	x.principal = anyClient()
	e.Provided = append(e.Provided, "its credential is good")
	if len(x.route.scopes.List()) > 0 {
		e.Provided = append(e.Provided, "it has the scopes "+strings.Join(x.route.scopes.List(), " and "))
	}
	switch {
	case bad:
		return f.credentials
	case !anything:
		return f.noCredentials
	}
	return nil
}

// shown looks at the place where a method would find a credential.
func (x *exchange) shown(m *method) Shown {
	value, n := x.sole(m.header)
	switch {
	case n == 0:
		return ShownNothing
	case n > 1:
		return ShownSeveral
	}
	if m.bearer {
		if _, ok := auth.BearerToken(value); !ok {
			return ShownOther
		}
	} else if auth.CheckKey(value) != nil {
		return ShownOther
	}
	return ShownCredential
}

func scheme(m *method) string {
	if m.bearer {
		return "Bearer"
	}
	return ""
}

// writtenHeader is the header of a method as the configuration writes it.
func writtenHeader(file *config.File, name string) string {
	kind, table, _ := strings.Cut(name, ":")
	switch kind {
	case "keys":
		return file.Auth.Keys.Header
	case "jwt":
		return file.Auth.JWT[table].Header
	}
	return "Authorization"
}

// anyClient stands for whoever will have been authenticated. What is in it is for people to read.
func anyClient() *auth.Principal {
	scopes, err := auth.NewScopes([]string{"(its", "scopes)"}) // which is their order, too
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return &auth.Principal{Client: "(the client)", User: "(the user)", Tier: "(its tier, if it has one)", Scopes: scopes}
}

func (o *offline) noteLimit(m *meter) {
	x := o.x
	i := slices.IndexFunc(x.snap.file.Limit, func(l config.Limit) bool { return l.Name == m.rule.Name() })
	f := &x.snap.file.Limit[i]
	l := ExplainedLimit{
		Name: f.Name, Guard: m.guard, Algorithm: f.Algorithm, Key: []ExplainedPart{}, Rate: f.Rate.String(), Burst: f.Burst, Cost: f.Cost,
		Mode: f.Mode, Hidden: m.hidden,
		OwnRate: m.perClient && slices.ContainsFunc(o.explanation.Methods, func(m ExplainedMethod) bool { return m.Name == "keys" }),
	}
	if m.central != nil {
		l.Scope, l.OnStoreError = f.Scope, f.OnStoreError
	}
	if f.Algorithm == "leaky_bucket" {
		l.MaxWait = f.MaxWait.String()
	}
	for tier, rate := range f.Tiers {
		if l.Tiers == nil {
			l.Tiers = map[string]string{}
		}
		l.Tiers[tier] = rate.String()
	}
	for _, p := range m.parts {
		l.Key = append(l.Key, o.part(p))
	}
	o.explanation.Limits = append(o.explanation.Limits, l)
}

// part is what a part of a key is in this request; see keySource.
func (o *offline) part(p keyPart) ExplainedPart {
	x, e := o.x, ExplainedPart{Part: p.String()}
	switch p.kind {
	case keyClient:
		if x.principal != nil {
			e.Note = "the authenticated client"
			return e
		}
		return o.addressPart(e)
	case keyAddress:
		return o.addressPart(e)
	case keyRoute:
		e.Value = x.route.name
	case keyHost:
		e.Value = string(appendHostName(nil, x.host))
	case keyMethod:
		e.Value = string(x.method)
	case keyHeader:
		return o.headerPart(e, p.name)
	case keyClaim:
		e.Note = "not there"
		if x.principal != nil {
			e.Note = "the credential's, if it has one"
		}
	}
	return e
}

func (o *offline) addressPart(e ExplainedPart) ExplainedPart {
	if a := o.x.clientKey(); a.IsValid() {
		e.Value = a.String()
	} else {
		e.Note = "a unix socket has no address"
	}
	return e
}

func (o *offline) headerPart(e ExplainedPart, name string) ExplainedPart {
	values := []string{}
	for _, f := range o.x.fields {
		if wire.EqualFold(f.Name, name) {
			values = append(values, string(f.Value))
		}
	}
	switch {
	case len(values) == 0:
		e.Note = "not there"
	case o.x.snap.holdsCredentials(name):
		e.Note = "a credential"
	default:
		e.Value = strings.Join(values, ", ")
	}
	return e
}

// holdsCredentials says whether a header may hold a credential, here or at another route.
func (s *snapshot) holdsCredentials(name string) bool {
	for _, m := range s.methods {
		if strings.EqualFold(m.header, name) {
			return true
		}
	}
	return strings.EqualFold(name, "authorization")
}

// noteWithheld notes which of the request's credentials are for the gateway alone.
func (o *offline) noteWithheld() {
	x := o.x
	for _, f := range x.fields {
		name := string(f.Name)
		if x.snap.holdsCredentials(name) && !x.passes(f.Name) && !slices.Contains(o.explanation.Withheld, name) {
			o.explanation.Withheld = append(o.explanation.Withheld, name)
		}
	}
}
