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
	return len(b) > 0 && tokenPrefix(b) == len(b)
}

// FieldValue reports whether b may stand as a field value: no control character other than HTAB
// (RFC 9110, 5.5). Bytes above 127 are allowed; so is the empty value.
func FieldValue(b []byte) bool {
	at := firstControl(b, 0)
	for at < len(b) && b[at] == '\t' {
		at = firstControl(b, at+1)
	}
	return at == len(b)
}

// firstControl is the index of the first control character in b at or behind from, HTAB among them, or
// len(b).
func firstControl(b []byte, from int) int {
	i := from
	for ; i <= len(b)-8; i += 8 {
		if m := controls(binary.LittleEndian.Uint64(b[i:])); m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	for i < len(b) && !isControl(b[i]) {
		i++
	}
	return i
}

// tokenPrefix counts the bytes of a token at the front of b.
func tokenPrefix(b []byte) int {
	i := 0
	// Fast path: names are words joined by hyphens.
	for ; i <= len(b)-8; i += 8 {
		if m := wordBytes(binary.LittleEndian.Uint64(b[i:])); m != every {
			i += bits.TrailingZeros64(m^every) / 8
			break
		}
	}
	for i < len(b) && tokenBytes[b[i]] {
		i++
	}
	return i
}

// The functions below judge eight bytes at once and set the top bit of each byte that qualifies, the
// first byte lowest. No sum carries into the next byte, for its terms are below 0x80 with room between.
const (
	ones  = 0x0101010101010101
	every = 0x80 * ones
)

// controls finds the bytes that isControl.
func controls(x uint64) uint64 {
	low := x &^ every
	return (low + 1*ones | ^(low + 0x60*ones)) &^ x & every
}

// wordBytes finds letters and hyphens.
func wordBytes(x uint64) uint64 {
	low := x &^ every
	letter := low | 0x20*ones
	letters := (letter + (0x80-'a')*ones) &^ (letter + (0x7f-'z')*ones)
	return (letters | ^((low ^ '-'*ones) + 0x7f*ones)) &^ x & every
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
	from, to := 0, len(b)
	for from < to && isOWS(b[from]) {
		from++
	}
	for from < to && isOWS(b[to-1]) {
		to--
	}
	return b[from:to]
}

func isOWS(c byte) bool { return c == ' ' || c == '\t' }
