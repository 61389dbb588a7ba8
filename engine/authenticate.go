package engine

import (
	"errors"
	"time"

	"github.com/sluice-gateway/sluice/auth"
	"github.com/sluice-gateway/sluice/engine/telemetry"
	"github.com/sluice-gateway/sluice/engine/wire"
)

// carrier is a header that can carry credentials for a route, and the methods that may accept them.
type carrier struct {
	header  string // in lower case
	methods []*method
	forward bool // one of the methods wants the target to see what it accepts
}

// forwards says whether the target is to see what p, if it is known, was accepted by: one issuer's wish is not
// another's.
func (c *carrier) forwards(p *auth.Principal) bool {
	for _, m := range c.methods {
		if p != nil && m.name == p.Method {
			return m.forward
		}
	}
	return c.forward
}

// authenticate finds out who the request is from, and whether that is enough for the route. One credential
// that a method of the route accepts suffices; but whoever shows more than one must be the same client by
// all of them, and whoever shows one that is not good is refused, whatever else he shows.
func (x *exchange) authenticate() *Fault {
	r, f := x.route, x.conn.engine.faults
	if len(r.carriers) == 0 || x.preflight() {
		return nil
	}
	if x.recording.on {
		defer x.stepped(telemetry.StepAuthenticate, time.Now())
	}
	var unavailable bool
	for i := range r.carriers {
		value, n := x.sole(r.carriers[i].header)
		if n == 0 {
			continue
		}
		x.presented |= 1 << i
		if n > 1 {
			return f.credentials
		}
		p, err := x.verify(&r.carriers[i], value)
		switch {
		case errors.Is(err, auth.ErrUnavailable):
			unavailable = true
		case err != nil, x.revoked(p), x.principal != nil && disagree(x.principal, p):
			x.principal = nil
			return f.credentials
		case x.principal == nil:
			x.principal = p
		}
	}
	switch {
	case unavailable:
		x.principal = nil
		return f.authStore
	case x.principal == nil:
		return f.noCredentials
	case x.conn.engine.revocations.unknown.Load():
		x.principal = nil
		return f.authStore
	case !x.principal.Scopes.Has(r.scopes):
		return f.scope
	}
	return nil
}

// disagree says whether two credentials stand for different people.
func disagree(a, b *auth.Principal) bool {
	return a.Client != b.Client || a.Subject != "" && b.Subject != "" && a.Subject != b.Subject
}

func (x *exchange) revoked(p *auth.Principal) bool {
	return x.conn.engine.revocations.list.Revoked(p, x.served)
}

// verify asks the methods of a carrier, in the route's order, for one that accepts what it carries.
func (x *exchange) verify(c *carrier, value []byte) (*auth.Principal, error) {
	x.patience.life = x.conn.engine.life
	result := auth.ErrInvalid
	for _, m := range c.methods {
		credential := value
		if m.bearer {
			var ok bool
			if credential, ok = auth.BearerToken(value); !ok {
				continue
			}
		}
		p, err := m.Authenticate(&x.patience, credential, x.served)
		if err == nil {
			return p, nil
		}
		if errors.Is(err, auth.ErrUnavailable) {
			result = err
		}
	}
	return nil, result
}

// sole is the value of a field, and how many there are of that name.
func (x *exchange) sole(name string) (value []byte, n int) {
	for _, f := range x.fields {
		if wire.EqualFold(f.Name, name) {
			if n++; n == 1 {
				value = f.Value
			}
		}
	}
	return value, n
}

// preflight says whether a browser asks for permission (Fetch standard, section 4.8): it sends no
// credentials, and what it asks about will come with them. It has no body and asks for no other protocol:
// a target that switched would be open to whoever calls himself a preflight.
func (x *exchange) preflight() bool {
	if string(x.method) != "OPTIONS" || len(x.upgrade) > 0 || x.framing.Kind == wire.Chunked || x.framing.Length > 0 {
		return false
	}
	_, origins := x.sole("origin")
	_, methods := x.sole("access-control-request-method")
	return origins == 1 && methods == 1
}

// appendChallenges appends a WWW-Authenticate field for each method of the route (RFC 9110 section 11.6.1).
// A bearer token that was shown and is not good is called so; one that is missing is not (RFC 6750 section
// 3.1).
func (x *exchange) appendChallenges(dst []byte) []byte {
	if x.route == nil {
		return dst
	}
	for i := range x.route.carriers {
		for _, m := range x.route.carriers[i].methods {
			dst = append(dst, "WWW-Authenticate: "...)
			dst = append(dst, m.challenge...)
			if m.bearer && x.presented&(1<<i) != 0 {
				dst = append(dst, `, error="invalid_token"`...)
			}
			dst = append(dst, "\r\n"...)
		}
	}
	return dst
}

// appendScopeChallenge appends which scopes the client would need.
func (x *exchange) appendScopeChallenge(dst []byte) []byte {
	for i := range x.route.carriers {
		for _, m := range x.route.carriers[i].methods {
			if m.name == x.principal.Method {
				dst = append(dst, "WWW-Authenticate: "...)
				dst = append(dst, m.challenge...)
				dst = append(dst, `, error="insufficient_scope", scope="`...)
				dst = append(dst, x.route.scopes.String()...)
				return append(dst, "\"\r\n"...)
			}
		}
	}
	return dst
}

// identityHeaders are the fields that tell targets who the client is; an empty name is not sent.
type identityHeaders struct{ user, scopes, tier string }

// appendIdentity appends who the client is. What the client itself said of that has been dropped.
func (x *exchange) appendIdentity(dst []byte) []byte {
	p := x.principal
	if p == nil {
		return dst
	}
	names := &x.snap.identity
	dst = appendText(dst, names.user, p.User)
	dst = appendText(dst, names.scopes, p.Scopes.String())
	return appendText(dst, names.tier, p.Tier)
}

func appendText(dst []byte, name, value string) []byte {
	if name == "" || value == "" {
		return dst
	}
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}

// carriesCredential says whether a field is for the gateway only.
func (r *route) carriesCredential(name []byte, p *auth.Principal) bool {
	for i := range r.carriers {
		if c := &r.carriers[i]; wire.EqualFold(name, c.header) && !c.forwards(p) {
			return true
		}
	}
	return false
}

// held takes note of whose answer is under way, so that it can be cut when the credential is revoked, and one
// without end when it expires.
func (x *exchange) held(endless bool) {
	x.conn.endless.Store(endless)
	x.conn.holder.Store(x.principal)
}
