package telemetry

import "bytes"

// The bounds of a tracestate (W3C Trace Context section 3.3.1).
const (
	mostStateMembers = 32
	longestStateKey  = 256
	longestTenant    = 241
	longestSystem    = 14
	longestState     = 256 // a value
)

// stateCheck holds the tracestate of a request, all of its lines, against the grammar. One that breaks it
// anywhere is dropped whole.
type stateCheck struct {
	members int
	bad     bool
}

func (s *stateCheck) read(line []byte) {
	for more := true; more && !s.bad; {
		var member []byte
		member, line, more = bytes.Cut(line, []byte{','})
		if member = bytes.Trim(member, " \t"); len(member) == 0 {
			continue // empty members are allowed
		}
		key, value, ok := bytes.Cut(member, []byte{'='})
		s.members++
		s.bad = !ok || s.members > mostStateMembers || !validStateKey(key) || !validStateValue(value)
	}
}

func validStateKey(key []byte) bool {
	tenant, system, multi := bytes.Cut(key, []byte{'@'})
	if !multi {
		return len(key) <= longestStateKey && keyChars(key) && isLower(key[0])
	}
	return len(tenant) <= longestTenant && keyChars(tenant) && (isLower(tenant[0]) || isDigit(tenant[0])) &&
		len(system) <= longestSystem && keyChars(system) && isLower(system[0])
}

// keyChars says whether b is made of what keys are made of, and is not empty.
func keyChars(b []byte) bool {
	for _, c := range b {
		if !isLower(c) && !isDigit(c) && c != '_' && c != '-' && c != '*' && c != '/' {
			return false
		}
	}
	return len(b) > 0
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// validStateValue: visible characters and spaces but "," and "=", the last of them no space, which trimming has
// seen to.
func validStateValue(value []byte) bool {
	for _, c := range value {
		if c < ' ' || c > '~' || c == '=' {
			return false
		}
	}
	return len(value) > 0 && len(value) <= longestState
}
