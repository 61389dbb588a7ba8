package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

const (
	maxToken = 8 << 10 // bytes of a bearer token, signature included
	maxKid   = 256
)

// refusal is why a token must not pass. It wraps ErrInvalid, and costs nothing to return.
type refusal string

func (r refusal) Error() string { return ErrInvalid.Error() + ": " + string(r) }

// Unwrap is ErrInvalid.
func (r refusal) Unwrap() error { return ErrInvalid }

// BearerToken takes the token out of the value of an Authorization field: the scheme "bearer" in any case,
// spaces, and one token68 of at most 8 KiB (RFC 6750 section 2.1, RFC 9110 section 11.2). It returns a
// part of value. It is not ok when the scheme is another, or when anything but the token follows.
func BearerToken(value []byte) (token []byte, ok bool) {
	const scheme = "bearer"
	if len(value) <= len(scheme) || len(value) > 2*maxToken || value[len(scheme)] != ' ' ||
		!bytes.EqualFold(value[:len(scheme)], []byte(scheme)) {
		return nil, false
	}
	token = bytes.TrimLeft(value[len(scheme):], " ")
	if len(token) > maxToken || !isToken68(token) {
		return nil, false
	}
	return token, true
}

// token68Bytes has a one for ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/".
var token68Bytes = [256]byte{
	'-': 1, '.': 1, '_': 1, '~': 1, '+': 1, '/': 1,
	'0': 1, '1': 1, '2': 1, '3': 1, '4': 1, '5': 1, '6': 1, '7': 1, '8': 1, '9': 1,
	'A': 1, 'B': 1, 'C': 1, 'D': 1, 'E': 1, 'F': 1, 'G': 1, 'H': 1, 'I': 1, 'J': 1, 'K': 1, 'L': 1, 'M': 1,
	'N': 1, 'O': 1, 'P': 1, 'Q': 1, 'R': 1, 'S': 1, 'T': 1, 'U': 1, 'V': 1, 'W': 1, 'X': 1, 'Y': 1, 'Z': 1,
	'a': 1, 'b': 1, 'c': 1, 'd': 1, 'e': 1, 'f': 1, 'g': 1, 'h': 1, 'i': 1, 'j': 1, 'k': 1, 'l': 1, 'm': 1,
	'n': 1, 'o': 1, 'p': 1, 'q': 1, 'r': 1, 's': 1, 't': 1, 'u': 1, 'v': 1, 'w': 1, 'x': 1, 'y': 1, 'z': 1,
}

// isToken68 accepts one or more of those bytes, and then "=" as often as one likes. It looks at all bytes
// without a branch, since nearly every token is good.
func isToken68(token []byte) bool {
	body := bytes.TrimRight(token, "=")
	if len(body) == 0 {
		return false
	}
	all := byte(1)
	for ; len(body) >= 8; body = body[8:] { // tokens are long, and the loop took longer than what is in it
		all &= token68Bytes[body[0]] & token68Bytes[body[1]] & token68Bytes[body[2]] & token68Bytes[body[3]] &
			token68Bytes[body[4]] & token68Bytes[body[5]] & token68Bytes[body[6]] & token68Bytes[body[7]]
	}
	for _, c := range body {
		all &= token68Bytes[c]
	}
	return all == 1
}

// parsed is a token taken apart. Nothing in it is proven.
type parsed struct {
	alg, kid string
	claims   members
}

// parse takes apart a JWS in compact serialisation (RFC 7515 section 7.1) that holds a JWT.
func parse(token []byte) (parsed, error) {
	head, rest, _ := bytes.Cut(token, []byte("."))
	body, signature, found := bytes.Cut(rest, []byte("."))
	if !found || bytes.IndexByte(signature, '.') >= 0 {
		return parsed{}, refusal("not three parts")
	}
	header, ok := decodePart(head)
	if !ok {
		return parsed{}, refusal("the header is not base64url")
	}
	payload, ok := decodePart(body)
	if !ok {
		return parsed{}, refusal("the payload is not base64url")
	}
	if sum, ok := decodePart(signature); !ok || len(sum) == 0 {
		return parsed{}, refusal("the signature is not base64url")
	}
	p, err := parseHeader(header)
	if err != nil {
		return parsed{}, err
	}
	if p.claims, ok = parseMembers(payload); !ok {
		return parsed{}, refusal("the payload is not a JSON object with distinct names")
	}
	return p, nil
}

// decodePart decodes base64url as RFC 7515 section 2 has it: no padding, and one spelling only. The
// decoder of the standard library skips line ends and ignores bits that mean nothing, hence the way back.
func decodePart(part []byte) ([]byte, bool) {
	data := make([]byte, base64.RawURLEncoding.DecodedLen(len(part)))
	n, err := base64.RawURLEncoding.Decode(data, part)
	if err != nil || base64.RawURLEncoding.EncodeToString(data[:n]) != string(part) {
		return nil, false
	}
	return data[:n], true
}

// parseHeader reads what a JOSE header says of the key, and refuses what could change how the signature
// is to be understood: extensions, unencoded or packed payloads, encryption, keys brought along.
func parseHeader(data []byte) (parsed, error) {
	header, ok := parseMembers(data)
	if !ok {
		return parsed{}, refusal("the header is not a JSON object with distinct names")
	}
	for _, name := range [...]string{"crit", "b64", "zip", "enc", "jwk", "jku", "x5u", "x5c"} {
		if _, found := header[name]; found {
			return parsed{}, refusal("the header has " + name)
		}
	}
	if raw, found := header["typ"]; found {
		if typ, ok := raw.text(); !ok || !isTokenType(typ) {
			return parsed{}, refusal("typ is not that of an access token")
		}
	}
	var p parsed
	if p.alg, ok = header["alg"].text(); !ok {
		return parsed{}, refusal("alg is not a string")
	}
	if raw, found := header["kid"]; found {
		if p.kid, ok = raw.text(); !ok || len(p.kid) > maxKid {
			return parsed{}, refusal("kid is not a string of a bearable length")
		}
	}
	return p, nil
}

// isTokenType accepts JWT (RFC 7519 section 5.1) and at+jwt (RFC 9068 section 2.1), in short or as a
// whole media type.
func isTokenType(typ string) bool {
	const prefix = "application/"
	if len(typ) > len(prefix) && strings.EqualFold(typ[:len(prefix)], prefix) {
		typ = typ[len(prefix):]
	}
	return strings.EqualFold(typ, "JWT") || strings.EqualFold(typ, "at+jwt")
}

// members is a JSON object, its values not yet decoded.
type members map[string]value

// value is one valid JSON value without space around it; nil: there is none.
type value json.RawMessage

// parseMembers reads one JSON object and nothing else. Names that occur twice are refused: two readers
// could believe different ones. Text that is not UTF-8 is refused, since decoding would make it equal to other such text.
func parseMembers(data []byte) (members, bool) {
	if !utf8.Valid(data) || !json.Valid(data) {
		return nil, false
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	if open, err := decoder.Token(); err != nil || open != json.Delim('{') {
		return nil, false
	}
	m := members{}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, false
		}
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return nil, false
		}
		if _, found := m[name.(string)]; found {
			return nil, false
		}
		m[name.(string)] = value(raw)
	}
	return m, true
}

// text decodes a string.
func (v value) text() (string, bool) {
	if len(v) == 0 || v[0] != '"' {
		return "", false
	}
	var text string
	if err := json.Unmarshal(v, &text); err != nil {
		return "", false
	}
	return text, true
}

// texts decodes an array of strings.
func (v value) texts() ([]string, bool) {
	if len(v) == 0 || v[0] != '[' {
		return nil, false
	}
	var items []json.RawMessage
	if err := json.Unmarshal(v, &items); err != nil {
		return nil, false
	}
	texts := make([]string, len(items))
	for i, item := range items {
		var ok bool
		if texts[i], ok = value(item).text(); !ok {
			return nil, false
		}
	}
	return texts, true
}
