package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Secret is a value that must not be seen: whatever prints, formats or marshals it gets "(secret)" instead.
// The zero value is no secret, and shows as empty.
//
// It is no string because fmt, given a verb it has no use for, prints strings deep inside a struct
// without asking their methods; a pointer it prints as an address.
type Secret struct {
	value *string
}

// NewSecret hides a value; the empty one makes no secret.
func NewSecret(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{value: &value}
}

// IsSet reports whether there is a secret.
func (s Secret) IsSet() bool { return s.value != nil }

// Reveal gives the value itself, for the one place that needs it; "" when there is none.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// String gives "(secret)", or "" when there is none.
func (s Secret) String() string {
	if !s.IsSet() {
		return ""
	}
	return "(secret)"
}

// GoString gives the same as String in quotes, for %#v.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// Format gives the same as String for every verb, %x and %d too.
func (s Secret) Format(state fmt.State, verb rune) {
	if verb == 'q' || verb == 'v' && state.Flag('#') {
		fmt.Fprint(state, s.GoString())
		return
	}
	fmt.Fprint(state, s.String())
}

// MarshalText gives the same as String.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON gives the same as String.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// secret follows env: and file:. No message of it, nor of its caller, may hold the value.
func (l *loader) secret(dst *Secret, text, key string, tag reflect.StructTag) bool {
	value := text
	if name, ok := strings.CutPrefix(text, "env:"); ok {
		if value, ok = l.lookupEnv(name); !ok || value == "" {
			l.fault(key, "environment variable %q is not set, or empty", name)
			return false
		}
	} else if path, ok := strings.CutPrefix(text, "file:"); ok {
		data, err := l.readFile(path)
		if err != nil {
			l.fault(key, "cannot read the secret from %q: %s", path, cause(err))
			return false
		}
		value = strings.TrimRight(string(data), "\r\n")
		if value == "" {
			l.fault(key, "file %q is empty", path)
			return false
		}
	}
	*dst = NewSecret(value)
	if message, _ := checkKind(tag.Get("kind"), value); message != "" && value != "" {
		l.fault(key, "%s", message)
		return false
	}
	return true
}

func (l *loader) lookupEnv(name string) (string, bool) {
	if l.env.LookupEnv == nil {
		return "", false
	}
	return l.env.LookupEnv(name)
}

func (l *loader) readFile(path string) ([]byte, error) {
	if l.env.ReadFile == nil || path == "" {
		return nil, errors.New("no such file")
	}
	return l.env.ReadFile(resolvePath(path, l.file.source.folder, "path"))
}
