package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// isScalar reports whether a field holds one value that the file writes as a string, number or boolean.
func isScalar(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[Rate](), reflect.TypeFor[StatusRange](), reflect.TypeFor[Secret](),
		reflect.TypeFor[netip.Prefix](), reflect.TypeFor[*url.URL]():
		return true
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int64, reflect.Float64:
		return true
	}
	return false
}

// isText reports whether a scalar is written as a string.
func isText(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[time.Duration](), reflect.TypeFor[Size]():
		return true
	}
	switch t.Kind() {
	case reflect.Bool, reflect.Int, reflect.Int64, reflect.Float64:
		return false
	}
	return true
}

// scalar reads one value and holds it against the tag's enum, kind, min and max.
func (l *loader) scalar(dst reflect.Value, raw any, key string, tag reflect.StructTag) {
	if isText(dst.Type()) {
		text, ok := raw.(string)
		if !ok {
			l.wrongType(dst.Type(), raw, key)
			return
		}
		if !l.text(dst, text, key, tag) {
			return
		}
	} else if !setNumber(dst, raw) {
		l.wrongType(dst.Type(), raw, key)
		return
	}
	if message := outOfRange(dst, tag); message != "" {
		l.fault(key, "%s", message)
	}
}

// setNumber stores a boolean or number; a whole number will do for a fraction, not the other way round.
func setNumber(dst reflect.Value, raw any) bool {
	switch raw := raw.(type) {
	case bool:
		if dst.Kind() == reflect.Bool {
			dst.SetBool(raw)
			return true
		}
	case int64:
		if dst.CanInt() {
			dst.SetInt(raw)
			return true
		}
		if dst.CanFloat() {
			dst.SetFloat(float64(raw))
			return true
		}
	case float64:
		if dst.CanFloat() {
			dst.SetFloat(raw)
			return true
		}
	}
	return false
}

// text parses a string into what the field holds. On a fault the field keeps its default.
func (l *loader) text(dst reflect.Value, text, key string, tag reflect.StructTag) bool {
	var err error
	switch p := dst.Addr().Interface().(type) {
	case *string:
		*p = text
		return l.word(text, key, tag)
	case *Secret:
		return l.secret(p, text, key, tag)
	case *time.Duration:
		err = assign(p, text, parseDuration)
	case *Size:
		err = assign(p, text, parseSize)
	case *Rate:
		err = assign(p, text, parseRate)
	case *StatusRange:
		err = assign(p, text, parseStatusRange)
	case **url.URL:
		err = assign(p, text, parseTarget)
	case *netip.Prefix:
		return l.prefix(p, text, key)
	}
	if err != nil {
		l.suggest(key, guessUnit(dst, text), "%v, not %q", err, withoutPassword(text))
	}
	return err == nil
}

func assign[T any](dst *T, text string, parse func(string) (T, error)) error {
	v, err := parse(text)
	if err == nil {
		*dst = v
	}
	return err
}

// word holds a string against its enum and kind.
func (l *loader) word(text, key string, tag reflect.StructTag) bool {
	if enum, ok := tag.Lookup("enum"); ok && !inEnum(text, enum) {
		l.suggest(key, nearest(text, strings.Split(enum, "|")), "want %s, not %q", listEnum(enum), text)
		return false
	}
	if text == "" {
		return true // whether it may be empty is for required to say
	}
	if message, guess := checkKind(tag.Get("kind"), text); message != "" {
		l.suggest(key, guess, "%s", message)
		return false
	}
	return true
}

func inEnum(text, enum string) bool {
	for word := range strings.SplitSeq(enum, "|") {
		if text == word && !strings.HasSuffix(word, ":") {
			return true
		}
		name, ok := strings.CutPrefix(text, word)
		if !ok || !strings.HasSuffix(word, ":") || name == "" {
			continue
		}
		if word != "header:" && word != "cookie:" || isToken(name) {
			return true
		}
	}
	return false
}

func (l *loader) prefix(dst *netip.Prefix, text, key string) bool {
	prefix, err := netip.ParsePrefix(text)
	if err == nil && prefix == prefix.Masked() {
		*dst = prefix
		return true
	}
	guess := ""
	if addr, addrErr := netip.ParseAddr(text); addrErr == nil {
		guess = netip.PrefixFrom(addr, addr.BitLen()).String()
	} else if err == nil {
		guess = prefix.Masked().String()
	}
	l.suggest(key, guess, "want a range of addresses such as \"10.0.0.0/8\", not %q", text)
	return false
}

// outOfRange holds a number, duration or size against the tag's min and max.
func outOfRange(v reflect.Value, tag reflect.StructTag) string {
	var n float64
	switch {
	case v.CanInt():
		n = float64(v.Int())
	case v.CanFloat():
		n = v.Float()
	default:
		return ""
	}
	if low, ok := tag.Lookup("min"); ok && !(n >= parseBound(v.Type(), low)) {
		return fmt.Sprintf("must be at least %s", low)
	}
	if high, ok := tag.Lookup("max"); ok && !(n <= parseBound(v.Type(), high)) {
		return fmt.Sprintf("must be at most %s", high)
	}
	return ""
}

// parseBound reads a min or max in the notation of the field that has it.
func parseBound(t reflect.Type, text string) float64 {
	var bound float64
	var err error
	switch t {
	case reflect.TypeFor[time.Duration]():
		var d time.Duration
		d, err = parseDuration(text)
		bound = float64(d)
	case reflect.TypeFor[Size]():
		var s Size
		s, err = parseSize(text)
		bound = float64(s)
	default:
		bound, err = strconv.ParseFloat(text, 64)
	}
	if err != nil {
		panic(fmt.Sprintf("BUG: tag of a %s field: bound %q: %v", t, text, err))
	}
	return bound
}
