package introspection

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/sluice-gateway/sluice/auth"
)

const (
	nameMax   = 256              // bytes of a client, a user, a tier, a jti, a claim
	scopesMax = 256              // names
	dateMax   = 253402300799     // the last second of the year 9999
	leeway    = 30 * time.Second // by which our clock may be behind the authority's
)

var (
	errAnswer   = errors.New("the authority's answer is not one of RFC 7662")
	errInactive = errors.New("it is not active")
	errRefresh  = errors.New("it is a refresh token")
	errNobody   = errors.New("nothing in the answer names its client")
	errDate     = errors.New("exp, nbf or iat is not a date")
	errJTI      = errors.New("its jti is not a name")
	errEarly    = errors.New("it is not valid yet")
)

// answer is the members of an answer, of which active is true or false.
type answer struct {
	active  bool
	members map[string]json.RawMessage
}

// decode reads an answer (RFC 7662 section 2.2). Names of members are compared exactly.
func decode(data []byte) (*answer, error) {
	a := &answer{}
	if err := json.Unmarshal(data, &a.members); err != nil {
		return nil, errAnswer // its own text may quote the answer
	}
	switch string(a.members["active"]) {
	case "true":
		a.active = true
	case "false":
	default:
		return nil, errAnswer
	}
	return a, nil
}

// judge tells whom a token stands for by the authority's answer, or why it must not pass.
func (i *Introspector) judge(a *answer, now time.Time) (*auth.Principal, error) {
	switch {
	case !a.active:
		return nil, invalid(errInactive)
	case a.refreshes():
		return nil, invalid(errRefresh)
	}
	p := &auth.Principal{
		Method: "introspection:" + i.config.Name,
		Client: a.name("client_id"),
		User:   a.name("sub"),
		Scopes: a.scopes(),
		Issuer: a.name("iss"),
		Claims: a.kept(i.config.ClaimNames),
	}
	p.Subject = p.User
	if p.Client == "" {
		p.Client = p.Subject
	}
	if p.Client == "" {
		return nil, invalid(errNobody)
	}
	if p.User == "" {
		p.User = p.Client
	}
	if i.config.TierClaim != "" {
		p.Tier = a.name(i.config.TierClaim)
	}
	// A jti that cannot be recorded could not be revoked either.
	if p.Credential = a.name("jti"); p.Credential == "" && a.has("jti") {
		return nil, invalid(errJTI)
	}
	return p, a.dates(p, now)
}

// dates reads when the token is valid. exp is taken as it stands: the authority goes by it too.
func (a *answer) dates(p *auth.Principal, now time.Time) error {
	var from time.Time
	var ok [3]bool
	p.Expires, ok[0] = a.date("exp")
	p.IssuedAt, ok[1] = a.date("iat")
	from, ok[2] = a.date("nbf")
	switch {
	case ok != [3]bool{true, true, true}:
		return invalid(errDate)
	case p.Expired(now):
		return invalid(errExpired)
	case now.Add(leeway).Before(from):
		return invalid(errEarly)
	}
	return nil
}

// refreshes says whether the token only serves to get others. Authorities call those active too, for the
// type that they are asked for is no more than a hint.
func (a *answer) refreshes() bool {
	for _, name := range [...]string{"token_type", "token_use", "typ"} {
		switch strings.ToLower(a.text(name)) {
		case "refresh", "refresh_token":
			return true
		}
	}
	return false
}

// has says whether a member is there. Some authorities write null for one that is not.
func (a *answer) has(name string) bool {
	raw := a.members[name]
	return raw != nil && string(raw) != "null"
}

// text is a member that is a string; anything else is empty.
func (a *answer) text(name string) (text string) {
	if raw := a.members[name]; raw == nil || json.Unmarshal(raw, &text) != nil {
		return ""
	}
	return text
}

// name is a member that may stand in a header field and in a log: printable, no space at its ends, of a
// bounded length; anything else is empty. The replacement character is refused because decoding puts it in
// the place of halves of surrogate pairs: different names would become one.
func (a *answer) name(member string) string {
	text := a.text(member)
	if len(text) > nameMax || text != strings.TrimSpace(text) {
		return ""
	}
	for _, r := range text {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return ""
		}
	}
	return text
}

// date is a NumericDate (RFC 7519 section 2) or, where there is none, zero. It is not ok when it is neither.
func (a *answer) date(name string) (date time.Time, ok bool) {
	if !a.has(name) {
		return time.Time{}, true
	}
	number, err := strconv.ParseFloat(string(a.members[name]), 64) // as JSON, it is no "Inf" or "NaN"
	if err != nil || number < 0 || number > dateMax {
		return time.Time{}, false
	}
	whole, fraction := math.Modf(number)
	return time.Unix(int64(whole), int64(fraction*1e9)), true
}

// scopes is the member scope. One that is no list of scopes gives none: the token is known, and allowed
// nothing.
func (a *answer) scopes() auth.Scopes {
	text := a.text("scope")
	if strings.Count(text, " ") >= scopesMax {
		return auth.Scopes{}
	}
	var names []string
	for name := range strings.SplitSeq(text, " ") {
		if name != "" {
			names = append(names, name)
		}
	}
	scopes, err := auth.NewScopes(names)
	if err != nil {
		return auth.Scopes{}
	}
	return scopes
}

// kept is those of the wanted members that are names, numbers or booleans.
func (a *answer) kept(wanted []string) map[string]string {
	if len(wanted) == 0 {
		return nil
	}
	kept := make(map[string]string, len(wanted))
	for _, member := range wanted {
		raw := a.members[member]
		if text := a.name(member); text != "" {
			kept[member] = text
		} else if len(raw) > 0 && len(raw) <= nameMax && (raw[0] == '-' || raw[0] == 't' || raw[0] == 'f' || '0' <= raw[0] && raw[0] <= '9') {
			kept[member] = string(raw)
		}
	}
	return kept
}
