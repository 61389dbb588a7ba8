package router

import (
	"bytes"
	"errors"
)

// Faults of a path, reported by [AppendNormalized]. Each is a client's fault (400).
var (
	// ErrPathForm: the path does not start with "/", or holds a raw "?" or "#".
	ErrPathForm = errors.New("router: path is not an absolute path without query and fragment")
	// ErrPathControl: the path holds a control character, raw or percent-encoded.
	ErrPathControl = errors.New("router: path holds a control character")
	// ErrPathEscape: a "%" is not followed by two hexadecimal digits.
	ErrPathEscape = errors.New("router: path holds a bad percent-escape")
	// ErrPathSlash: the path holds a raw backslash, or an encoded slash or backslash that the
	// policy refuses.
	ErrPathSlash = errors.New("router: path holds a backslash or an encoded slash")
	// ErrPathDots: dot segments lead above the root, or hide behind a path parameter ("..;x") or an
	// encoded slash ("..%2Fx"), where an upstream may see what the gateway did not.
	ErrPathDots = errors.New("router: path has dot segments that leave the root or hide")
)

// SlashPolicy says what %2F and %5C in a path do.
type SlashPolicy uint8

const (
	// RejectEncodedSlash refuses the path with ErrPathSlash. It is the zero value.
	RejectEncodedSlash SlashPolicy = iota
	// KeepEncodedSlash keeps them encoded, as bytes inside a segment.
	KeepEncodedSlash
)

// pathClass sorts the bytes of a path by what normalisation does with them. The bits serve isPlain: two
// neighbours that share one of the low bits may make an empty or a dot segment.
type pathClass uint8

const (
	classUnreserved pathClass = 0x00 // RFC 3986 unreserved: stands raw, and is decoded when escaped
	classRaw        pathClass = 0x10 // allowed raw, but means something else when escaped
	classDot        pathClass = 0x01 // unreserved, and may make a dot segment
	classSlash      pathClass = 0x03

	classSuspect   pathClass = 0x80 // set in all below: the path is not plain
	classEncode    pathClass = 0x80 // not allowed raw: percent-encoded
	classBackslash pathClass = 0x84
	classPercent   pathClass = 0x88
	classControl   pathClass = 0x8C
	classForm      pathClass = 0x90 // ends a path: "?" and "#"
)

// pathClasses is a constant table: the class of every byte.
var pathClasses = classifyPathBytes()

func classifyPathBytes() (table [256]pathClass) {
	mark := func(class pathClass, bytes string) {
		for i := range len(bytes) {
			table[bytes[i]] = class
		}
	}
	for b := range table {
		table[b] = classEncode
		if b < 0x20 {
			table[b] = classControl
		}
	}
	mark(classControl, "\x7f")
	mark(classUnreserved, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_~")
	mark(classRaw, "!$&'()*+,;=:@") // sub-delims and the rest of pchar
	mark(classDot, ".")
	mark(classSlash, "/")
	mark(classBackslash, `\`)
	mark(classPercent, "%")
	mark(classForm, "?#")
	return table
}

// AppendNormalized appends the normal form of rawPath, a path without its query, to dst. The rules:
//
//  1. The path starts with "/".
//  2. Escapes of unreserved characters are decoded, once; other escapes get upper-case digits.
//  3. Bytes that may not stand raw in a path are escaped; control characters are refused.
//  4. Repeated slashes are merged, then "." and ".." segments are resolved (RFC 3986, 5.2.4), on the
//     decoded form. A trailing slash stays: "/a/." is "/a/", "/a/b/.." is "/a/".
//  5. Encoded slashes and backslashes follow the policy; a raw backslash is always refused.
//
// The result is at most three times as long as rawPath, and normalising it again changes nothing.
// On a fault dst is returned as it came, with one of the ErrPath errors. dst must not overlap
// rawPath; nothing is allocated while dst has room.
func AppendNormalized(dst, rawPath []byte, p SlashPolicy) ([]byte, error) {
	if isPlain(rawPath) {
		return append(dst, rawPath...), nil
	}
	if len(rawPath) == 0 || rawPath[0] != '/' {
		return dst, ErrPathForm
	}
	out, err := appendSegments(dst, rawPath[1:], p)
	if err != nil {
		return dst, err
	}
	return out, nil
}

// isPlain reports whether path is surely in normal form: no escape, nothing to escape, no slash or dot
// beside another. It is the fast path, without a branch for each byte; false only means "look closer".
func isPlain(path []byte) bool {
	if len(path) == 0 || path[0] != '/' {
		return false
	}
	var found, before pathClass
	for _, b := range path {
		class := pathClasses[b]
		found |= class & (before | classSuspect)
		before = class
	}
	return found&(classSlash|classSuspect) == 0
}

// appendSegments appends "/" and the normal form of raw, which is a path less its first slash.
// Before each segment the output ends in "/"; root is where that stops being removable.
func appendSegments(out, raw []byte, p SlashPolicy) ([]byte, error) {
	out = append(out, '/')
	root := len(out)
	for more := true; more; {
		var segment []byte
		var err error
		segment, raw, more = bytes.Cut(raw, []byte{'/'})
		start := len(out)
		if out, err = appendSegment(out, segment, p); err != nil {
			return nil, err
		}
		switch written := out[start:]; {
		case len(written) == 0:
		case string(written) == ".":
			out = out[:start]
		case string(written) == "..":
			if start == root {
				return nil, ErrPathDots
			}
			out = out[:bytes.LastIndexByte(out[:start-1], '/')+1]
		case hidesDots(written):
			return nil, ErrPathDots
		case more:
			out = append(out, '/')
		}
	}
	return out, nil
}

// appendSegment appends one segment with its escapes in normal form; it does not judge dots.
func appendSegment(out, segment []byte, p SlashPolicy) ([]byte, error) {
	for i := 0; i < len(segment); i++ {
		b := segment[i]
		switch pathClasses[b] {
		case classUnreserved, classRaw, classDot:
			out = append(out, b)
		case classEncode:
			out = appendEscape(out, b)
		case classControl:
			return nil, ErrPathControl
		case classBackslash:
			return nil, ErrPathSlash
		case classPercent:
			decoded, ok := unescape(segment[i:])
			if !ok {
				return nil, ErrPathEscape
			}
			i += 2
			switch pathClasses[decoded] {
			case classUnreserved, classDot:
				out = append(out, decoded)
				continue
			case classControl:
				return nil, ErrPathControl
			case classSlash, classBackslash:
				if p == RejectEncodedSlash {
					return nil, ErrPathSlash
				}
			}
			out = appendEscape(out, decoded)
		default:
			return nil, ErrPathForm
		}
	}
	return out, nil
}

// hidesDots reports whether a normalised segment, itself no dot segment, holds one for a reader that
// drops path parameters or takes an encoded slash for a slash.
func hidesDots(segment []byte) bool {
	if bytes.IndexByte(segment, '.') < 0 {
		return false
	}
	for more := true; more; {
		var part []byte
		part, segment, more = cutEncoded(segment, "%2F", "%5C")
		part, _, _ = bytes.Cut(part, []byte{';'})
		part, _, _ = cutEncoded(part, "%3B", "%3B")
		if string(part) == "." || string(part) == ".." {
			return true
		}
	}
	return false
}

// cutEncoded cuts s at the first of two escapes.
func cutEncoded(s []byte, a, b string) (before, after []byte, found bool) {
	for i := 0; i+len(a) <= len(s); i++ {
		if escape := s[i : i+len(a)]; string(escape) == a || string(escape) == b {
			return s[:i], s[i+len(a):], true
		}
	}
	return s, nil, false
}

// unescape reads the escape that s, which starts with "%", begins with.
func unescape(s []byte) (decoded byte, ok bool) {
	if len(s) < 3 {
		return 0, false
	}
	high, low := unhex(s[1]), unhex(s[2])
	return high<<4 | low&0xF, high != notHex && low != notHex
}

const notHex = 0xFF

func unhex(b byte) byte {
	switch {
	case '0' <= b && b <= '9':
		return b - '0'
	case 'A' <= b && b <= 'F':
		return b - 'A' + 10
	case 'a' <= b && b <= 'f':
		return b - 'a' + 10
	}
	return notHex
}

func appendEscape(dst []byte, b byte) []byte {
	const digits = "0123456789ABCDEF"
	return append(dst, '%', digits[b>>4], digits[b&0xF])
}
