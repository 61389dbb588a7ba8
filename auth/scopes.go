package auth

import (
	"slices"
	"strings"
)

// Scopes is a set of OAuth 2.0 scopes (RFC 6749 section 3.3): sorted, each once. The zero value is empty.
type Scopes struct {
	list []string
	text string
}

// NewScopes makes a set. It fails with the first name that is not a scope-token.
func NewScopes(names []string) (Scopes, error) {
	list := slices.Clone(names)
	for _, name := range list {
		if !validScope(name) {
			return Scopes{}, &ScopeError{Name: name}
		}
	}
	slices.Sort(list)
	list = slices.Compact(list)
	return Scopes{list: list, text: strings.Join(list, " ")}, nil
}

// ScopeError says which name is no scope-token.
type ScopeError struct{ Name string }

func (e *ScopeError) Error() string { return "auth: not a scope: " + strings.ToValidUTF8(e.Name, "?") }

// validScope accepts 1*( %x21 / %x23-5B / %x5D-7E ), RFC 6749 section 3.3.
func validScope(name string) bool {
	for i := range len(name) {
		if c := name[i]; c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return name != ""
}

// String is the set as a request or token would write it: separated by spaces, in order.
func (s Scopes) String() string { return s.text }

// List is the names in order. The caller must not change it.
func (s Scopes) List() []string { return s.list }

// Has says whether the set holds every one of the needed scopes. Scopes match exactly.
func (s Scopes) Has(needed Scopes) bool {
	i := 0
	for _, name := range needed.list {
		for i < len(s.list) && s.list[i] < name {
			i++
		}
		if i == len(s.list) || s.list[i] != name {
			return false
		}
	}
	return true
}
