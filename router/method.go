package router

import (
	"fmt"
	"slices"
	"strings"
)

// methodSet is a set of methods: one bit for each method that a table knows, and one for all others.
type methodSet uint32

const (
	otherMethod methodSet = 1 << iota
	methodGet
	methodPost
	methodPut
	methodDelete
	methodPatch
	methodHead
	methodOptions
	firstExtraMethod

	anyMethod = ^methodSet(0)
)

// standardMethods are the methods that have a fixed bit, in the order of the bits.
var standardMethods = [...]string{"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"}

// maxExtraMethods is how many methods beyond the standard ones have a bit in a methodSet.
const maxExtraMethods = 32 - 1 - len(standardMethods)

// methodNames gives methods their bits. It is filled while routes are compiled and then only read.
type methodNames struct {
	extra []string // methods beyond the standard ones; extra[i] has the bit firstExtraMethod << i
	allow []namedMethod
}

type namedMethod struct {
	name string
	bit  methodSet
}

// bit returns the bit of a method, otherMethod if no route names it.
func (m *methodNames) bit(method []byte) methodSet {
	switch string(method) {
	case "GET":
		return methodGet
	case "POST":
		return methodPost
	case "PUT":
		return methodPut
	case "DELETE":
		return methodDelete
	case "PATCH":
		return methodPatch
	case "HEAD":
		return methodHead
	case "OPTIONS":
		return methodOptions
	}
	for i, name := range m.extra {
		if name == string(method) {
			return firstExtraMethod << i
		}
	}
	return otherMethod
}

// set turns a route's methods into a set, giving bits to methods not seen before. No methods at all
// mean any method.
func (m *methodNames) set(methods []string) (methodSet, error) {
	if len(methods) == 0 {
		return anyMethod, nil
	}
	var set methodSet
	for i, name := range methods {
		switch {
		case slices.Contains(methods[:i], name):
			return 0, fmt.Errorf("method %s is given twice", name)
		case name == "CONNECT" || name == "TRACE":
			return 0, fmt.Errorf("method %s is always refused and cannot be routed", name)
		case !isToken(name):
			return 0, fmt.Errorf("method %q is not a token (RFC 9110, 9.1)", name)
		}
		bit := m.bit([]byte(name))
		if bit == otherMethod {
			if len(m.extra) == maxExtraMethods {
				return 0, fmt.Errorf("method %s: a table has room for %d methods beyond the standard ones", name, maxExtraMethods)
			}
			bit = firstExtraMethod << len(m.extra)
			m.extra = append(m.extra, name)
		}
		set |= bit
	}
	return set, nil
}

// freeze sorts the names for appendNames.
func (m *methodNames) freeze() {
	for i, name := range standardMethods {
		m.allow = append(m.allow, namedMethod{name, methodGet << i})
	}
	for i, name := range m.extra {
		m.allow = append(m.allow, namedMethod{name, firstExtraMethod << i})
	}
	slices.SortFunc(m.allow, func(a, b namedMethod) int { return strings.Compare(a.name, b.name) })
}

// appendNames appends the names in the set, sorted, as an Allow header has them.
func (m *methodNames) appendNames(dst []byte, set methodSet) []byte {
	first := true
	for _, method := range m.allow {
		if set&method.bit == 0 {
			continue
		}
		if !first {
			dst = append(dst, ", "...)
		}
		dst = append(dst, method.name...)
		first = false
	}
	return dst
}

// isToken reports whether s is a token of RFC 9110, 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		b := s[i]
		alphanumeric := '0' <= b && b <= '9' || 'a' <= b|0x20 && b|0x20 <= 'z'
		if !alphanumeric && strings.IndexByte("!#$%&'*+-.^_`|~", b) < 0 {
			return false
		}
	}
	return s != ""
}
