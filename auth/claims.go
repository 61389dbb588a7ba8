package auth

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	maxClaim       = 256          // bytes of a client, a user, a tier, a jti, a claim that is kept
	maxClaimScopes = 256          // names in one claim
	maxDate        = 253402300799 // the last second of the year 9999
	maxNumber      = 32           // bytes of a date, as it is written
)

// proof is a token that has been found to be in order, and what must still be looked at on every use.
type proof struct {
	principal  *Principal
	from       time.Time // of nbf and iat the later, less the leeway; zero: always
	until      time.Time // exp and the leeway; zero: for ever
	alg        *algorithm
	generation uint64 // of the keys that verified it
}

// timely fails when now is not within the token's time (RFC 7519 sections 4.1.4 to 4.1.6).
func (p *proof) timely(now time.Time) error {
	if p.over(now) {
		return refusal("expired")
	}
	if now.Before(p.from) {
		return refusal("not valid yet")
	}
	return nil
}

func (p *proof) over(now time.Time) bool { return !p.until.IsZero() && !now.Before(p.until) }

// judge holds claims against what the issuer is configured to demand, times aside, and tells whom they
// stand for.
func (i *Issuer) judge(claims members) (*proof, error) {
	for _, name := range i.config.Require {
		if v := claims[name]; v == nil || string(v) == "null" {
			return nil, refusal("no claim " + strconv.Quote(name))
		}
	}
	if issuer, ok := claims["iss"].text(); !ok || issuer != i.config.Issuer {
		return nil, refusal("iss is another")
	}
	if !i.meant(claims["aud"]) {
		return nil, refusal("aud is another")
	}
	client, ok := claims[i.config.Client].name()
	if !ok {
		return nil, refusal("no claim names the client")
	}
	p := &Principal{
		Method: i.method,
		Client: client,
		User:   client,
		Scopes: claims.scopes(),
		Issuer: i.config.Issuer,
		Claims: claims.kept(i.config.Claims),
	}
	if subject, ok := claims["sub"].name(); ok {
		p.User, p.Subject = subject, subject
	}
	if i.config.Tier != "" {
		p.Tier, _ = claims[i.config.Tier].name()
	}
	// A jti that cannot be recorded could not be revoked either.
	if jti, found := claims["jti"]; found {
		if p.Credential, ok = jti.name(); !ok {
			return nil, refusal("jti is not a name")
		}
	}
	return i.dates(p, claims)
}

// dates reads when the token is valid.
func (i *Issuer) dates(p *Principal, claims members) (*proof, error) {
	result := &proof{principal: p}
	if exp, found := claims["exp"]; found {
		at, ok := exp.date()
		if !ok {
			return nil, refusal("exp is not a date")
		}
		result.until = at.Add(i.config.Leeway)
		p.Expires = result.until
	}
	for _, name := range [...]string{"nbf", "iat"} {
		v, found := claims[name]
		if !found {
			continue
		}
		at, ok := v.date()
		if !ok {
			return nil, refusal(name + " is not a date")
		}
		if from := at.Add(-i.config.Leeway); result.from.IsZero() || from.After(result.from) {
			result.from = from
		}
		if name == "iat" {
			p.IssuedAt = at
		}
	}
	return result, nil
}

// meant says whether one of the audiences is ours (RFC 7519 section 4.1.3).
func (i *Issuer) meant(aud value) bool {
	if one, ok := aud.text(); ok {
		return slices.Contains(i.config.Audiences, one)
	}
	several, ok := aud.texts()
	return ok && slices.ContainsFunc(several, func(one string) bool {
		return slices.Contains(i.config.Audiences, one)
	})
}

// name decodes a string that may stand in a header field and in a log: printable, no space at its ends,
// of a bounded length. The replacement character is refused because decoding puts it in the place of
// halves of surrogate pairs: different names would become one.
func (v value) name() (string, bool) {
	text, ok := v.text()
	if !ok || text == "" || len(text) > maxClaim || text != strings.TrimSpace(text) {
		return "", false
	}
	for _, r := range text {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return "", false
		}
	}
	return text, true
}

// date decodes a NumericDate (RFC 7519 section 2): a number, with a fraction perhaps, from 1970 to 9999.
func (v value) date() (time.Time, bool) {
	if len(v) == 0 || len(v) > maxNumber || (v[0] != '-' && (v[0] < '0' || v[0] > '9')) {
		return time.Time{}, false
	}
	if whole, err := strconv.ParseInt(string(v), 10, 64); err == nil {
		return time.Unix(whole, 0), 0 <= whole && whole <= maxDate
	}
	number, err := strconv.ParseFloat(string(v), 64)
	if err != nil || !(0 <= number && number <= maxDate) {
		return time.Time{}, false
	}
	whole, fraction := math.Modf(number)
	return time.Unix(int64(whole), int64(fraction*1e9)), true
}

// scopes unites scope (RFC 9068 section 2.2.3) and scp, which some issuers write as an array and some as
// one string. A claim that is no list of scopes gives none: the token is known, and allowed nothing.
func (m members) scopes() Scopes {
	var all []string
	for _, name := range [...]string{"scope", "scp"} {
		names, ok := []string(nil), false
		if text, isText := m[name].text(); isText {
			ok = strings.Count(text, " ") < maxClaimScopes
			if ok && text != "" {
				names = strings.Split(text, " ")
			}
		} else if name == "scp" {
			names, ok = m[name].texts()
		}
		if !ok || len(names) > maxClaimScopes {
			continue
		}
		if _, err := NewScopes(names); err == nil {
			all = append(all, names...)
		}
	}
	union, err := NewScopes(all)
	if err != nil {
		panic("BUG: scopes that are valid apart are not so together: " + err.Error())
	}
	return union
}

// kept is those of the named claims that are names, numbers or booleans.
func (m members) kept(wanted []string) map[string]string {
	if len(wanted) == 0 {
		return nil
	}
	kept := make(map[string]string, len(wanted))
	for _, claim := range wanted {
		v := m[claim]
		if text, ok := v.name(); ok {
			kept[claim] = text
		} else if v.isScalar() && len(v) <= maxClaim {
			kept[claim] = string(v)
		}
	}
	return kept
}

// isScalar says whether the value is a number or a boolean.
func (v value) isScalar() bool {
	return len(v) > 0 && (v[0] == '-' || v[0] == 't' || v[0] == 'f' || '0' <= v[0] && v[0] <= '9')
}
