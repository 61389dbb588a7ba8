package wire

import (
	"bytes"
	"encoding/binary"
	"iter"
	"math/bits"
)

// tokenBytes marks the bytes of a token: tchar of RFC 9110, 5.6.2.
var tokenBytes = [256]bool{
	'!': true, '#': true, '$': true, '%': true, '&': true, '\'': true, '*': true, '+': true, '-': true, '.': true,
	'^': true, '_': true, '`': true, '|': true, '~': true,
	'0': true, '1': true, '2': true, '3': true, '4': true, '5': true, '6': true, '7': true, '8': true, '9': true,
	'A': true, 'B': true, 'C': true, 'D': true, 'E': true, 'F': true, 'G': true, 'H': true, 'I': true, 'J': true,
	'K': true, 'L': true, 'M': true, 'N': true, 'O': true, 'P': true, 'Q': true, 'R': true, 'S': true, 'T': true,
	'U': true, 'V': true, 'W': true, 'X': true, 'Y': true, 'Z': true,
	'a': true, 'b': true, 'c': true, 'd': true, 'e': true, 'f': true, 'g': true, 'h': true, 'i': true, 'j': true,
	'k': true, 'l': true, 'm': true, 'n': true, 'o': true, 'p': true, 'q': true, 'r': true, 's': true, 't': true,
	'u': true, 'v': true, 'w': true, 'x': true, 'y': true, 'z': true,
}

// Token reports whether b is a token (RFC 9110, 5.6.2): one byte or more, all of them tchar.
func Token(b []byte) bool {
	for _, c := range b {
		if !tokenBytes[c] {
			return false
		}
	}
	return len(b) > 0
}

// FieldValue reports whether b may stand as a field value: no control character other than HTAB
// (RFC 9110, 5.5). Bytes above 127 are allowed; so is the empty value.
func FieldValue(b []byte) bool {
	for {
		i := firstControl(b)
		if i == len(b) {
			return true
		}
		if b[i] != '\t' {
			return false
		}
		b = b[i+1:]
	}
}

// firstControl is the index of the first control character in b, HTAB among them, or len(b).
func firstControl(b []byte) int {
	rest := b
	for len(rest) >= 8 {
		if m := controls(rest); m != 0 {
			return len(b) - len(rest) + bits.TrailingZeros64(m)/8
		}
		rest = rest[8:]
	}
	// A tail is passed with one more word, which overlaps the clean one before it.
	if len(b) >= 8 {
		return len(b) - 8 + bits.TrailingZeros64(controls(b[len(b)-8:]))/8
	}
	for i, c := range rest {
		if isControl(c) {
			return i
		}
	}
	return len(b)
}

// controls sets the top bit of each of the first eight bytes that is a control, the first byte lowest.
// Only the lowest bit set is exact: its borrow can spoil the bytes above it, and no others.
func controls(b []byte) uint64 {
	x := binary.LittleEndian.Uint64(b)
	del := x ^ 0x7f7f7f7f7f7f7f7f
	return ((x-0x2020202020202020)&^x | (del-0x0101010101010101)&^del) & 0x8080808080808080
}

func isControl(c byte) bool { return c < ' ' || c == 0x7f }

// EqualFold reports whether a equals lower when the case of ASCII letters is ignored. The second
// argument must be in lower case already.
func EqualFold(a []byte, lower string) bool {
	return len(a) == len(lower) && equalFold(a, lower) // small enough to be inlined: most names differ in length
}

func equalFold(a []byte, lower string) bool {
	for i, c := range a {
		if lowerASCII(c) != lower[i] {
			return false
		}
	}
	return true
}

func lowerASCII(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}

// Tokens iterates over the elements of a comma-separated list, trimmed, empty ones left out (RFC 9110,
// 5.6.1). It knows no quoted strings: use it for lists of tokens, such as Connection. An element need not
// be a token; elements point into value. Ranging over it does not allocate.
func Tokens(value []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for rest, more := value, true; more; {
			var tok []byte
			tok, rest, more = bytes.Cut(rest, []byte{','})
			if tok = trimOWS(tok); len(tok) > 0 && !yield(tok) {
				return
			}
		}
	}
}

// HasToken reports whether a comma-separated list holds token, the case of ASCII letters ignored. See
// [Tokens] for what a list is. It does not allocate.
func HasToken(value, token []byte) bool {
	for tok := range Tokens(value) {
		if equalFoldBytes(tok, token) {
			return true
		}
	}
	return false
}

func equalFoldBytes(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if lowerASCII(a[i]) != lowerASCII(b[i]) {
			return false
		}
	}
	return true
}

// trimOWS cuts optional whitespace, SP and HTAB and nothing else, from both ends (RFC 9110, 5.6.3).
func trimOWS(b []byte) []byte {
	for len(b) > 0 && isOWS(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isOWS(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

func isOWS(c byte) bool { return c == ' ' || c == '\t' }
