package wire

import "bytes"

// RequestLine is a parsed request line; the slices point into the line. Minor is the digit after "HTTP/1.".
type RequestLine struct {
	Method, Target []byte
	Minor          int
}

// ParseRequestLine reads a request line without its CRLF (RFC 9112, section 3): a token, one SP, a target
// without spaces or controls, one SP, HTTP/1.0 or HTTP/1.1. The form of the target is the caller's to
// judge. It fails with ErrLine for a CR or LF, with ErrVersion for another HTTP version, else with ErrStart.
func ParseRequestLine(line []byte) (RequestLine, error) {
	i := tokenPrefix(line)
	if i == 0 || i >= len(line) || line[i] != ' ' {
		return RequestLine{}, startFault(line)
	}
	method, rest := line[:i:i], line[i+1:]

	i = bytes.IndexByte(rest, ' ')
	if i <= 0 || firstControl(rest[:i], 0) < i {
		return RequestLine{}, startFault(line)
	}
	target, version := rest[:i:i], rest[i+1:]

	minor, ok := parseVersion(version)
	if !ok {
		return RequestLine{}, versionFault(line, version)
	}
	return RequestLine{Method: method, Target: target, Minor: minor}, nil
}

// StatusLine is a parsed status line. Minor is the digit after "HTTP/1."; Reason points into the line and
// may be empty.
type StatusLine struct {
	Minor, Code int
	Reason      []byte
}

// ParseStatusLine reads a status line without its CRLF (RFC 9112, section 4). A missing reason is
// accepted, with or without the SP before it, for many servers send it so.
//
// The code must be within 100-599: outside of it there is no class to tell an interim response from a
// final one, so two readers could disagree on where the response ends (RFC 9110, section 15).
// It fails with ErrLine for a CR or LF, with ErrVersion for another HTTP version, else with ErrStart.
func ParseStatusLine(line []byte) (StatusLine, error) {
	version, rest, _ := bytes.Cut(line, []byte{' '})
	minor, ok := parseVersion(version)
	if !ok {
		return StatusLine{}, versionFault(line, version)
	}
	digits, reason, _ := bytes.Cut(rest, []byte{' '})
	if len(digits) != 3 || digits[0] < '1' || digits[0] > '5' || !isDigit(digits[1]) || !isDigit(digits[2]) {
		return StatusLine{}, startFault(line)
	}
	if !FieldValue(reason) {
		return StatusLine{}, startFault(line)
	}
	code := int(digits[0]-'0')*100 + int(digits[1]-'0')*10 + int(digits[2]-'0')
	return StatusLine{Minor: minor, Code: code, Reason: reason}, nil
}

func parseVersion(b []byte) (minor int, ok bool) {
	switch string(b) {
	case "HTTP/1.1":
		return 1, true
	case "HTTP/1.0":
		return 0, true
	}
	return 0, false
}

// versionFault is the fault of a line whose version is not one of ours. Only what is plainly a version
// earns "not supported"; anything else is a malformed line.
func versionFault(line, version []byte) error {
	if number, ok := bytes.CutPrefix(version, []byte("HTTP/")); ok && Token(number) {
		return ErrVersion
	}
	return startFault(line)
}

func startFault(line []byte) error {
	if bytes.ContainsAny(line, "\r\n") {
		return ErrLine
	}
	return ErrStart
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
