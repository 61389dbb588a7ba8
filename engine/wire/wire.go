// Package wire is the strict HTTP/1.x grammar (RFC 9112) that both sides of the gateway share.
//
// A message that two parsers could read differently is refused, whatever other software would make of
// it. The grammar, where it is narrower than the RFC:
//
//	request  = [ CRLF ] method SP target SP version CRLF fields body
//	response = version SP code [ SP reason ] CRLF fields body
//	version  = "HTTP/1.0" / "HTTP/1.1"
//	method   = token
//	target   = 1*( any byte but SP and controls )
//	code     = "1".."5" 2DIGIT
//	fields   = *( token ":" OWS value OWS CRLF ) CRLF
//	value    = *( any byte but controls; HTAB is allowed )
//	body     = "" / length bytes / chunked / everything until close (responses only)
//	chunked  = *( size [ ext ] CRLF data CRLF ) 1*16"0" [ ext ] CRLF fields
//	size     = 1*16HEXDIG
//	ext      = ";" *( any byte but controls; HTAB is allowed )
//
// So there is no bare CR or LF, no folded line, no space before a colon or around a chunk size. A message
// has at most one Content-Length or at most one Transfer-Encoding, whose only value is "chunked", and
// never both.
//
// The gateway pulls: [ReadRequestHead] and [ReadHead] take a head off a connection, the Parse functions,
// [Host], [RequestFraming] and [ResponseFraming] judge it, and [Body] reads the body that follows. None of
// them takes a byte that belongs to the next message.
package wire

import "errors"

// The ways in which a stream fails. They are fixed values: none allocates or carries a byte of the peer.
// Which one a bad message earns depends on its bytes and on the limits, never on how the network cut them.
var (
	// ErrLine: a CR or LF alone, or a header block that does not end with one empty line (RFC 9112, 2.2).
	ErrLine = errors.New("wire: bad line ending")
	// ErrFold: a line that begins with whitespace, as obsolete folding does (RFC 9112, 5.2).
	ErrFold = errors.New("wire: folded header line")
	// ErrName: a field name that is empty, not a token, or followed by whitespace (RFC 9112, 5.1).
	ErrName = errors.New("wire: bad field name")
	// ErrValue: a control character other than HTAB in a field value (RFC 9110, 5.5).
	ErrValue = errors.New("wire: bad field value")
	// ErrHost: no Host in an HTTP/1.1 request, or more than one in any (RFC 9112, 3.2).
	ErrHost = errors.New("wire: missing or repeated Host")
	// ErrLength: a Content-Length that is repeated or not a plain number below 2^63 (RFC 9112, 6.3).
	ErrLength = errors.New("wire: bad Content-Length")
	// ErrCoding: a Transfer-Encoding that is repeated, not exactly "chunked", or used with HTTP/1.0
	// (RFC 9112, 6.1).
	ErrCoding = errors.New("wire: unsupported Transfer-Encoding")
	// ErrConflict: both Content-Length and Transfer-Encoding (RFC 9112, 6.3).
	ErrConflict = errors.New("wire: both Content-Length and Transfer-Encoding")
	// ErrChunk: a chunk that is malformed, or chunks that carry far more framing than data (RFC 9112, 7.1).
	ErrChunk = errors.New("wire: bad chunk")
	// ErrTrailer: a trailer section that is malformed, above 8 KiB, or names a field that may not come
	// after the body (RFC 9110, 6.5.1).
	ErrTrailer = errors.New("wire: bad trailer")
	// ErrVersion: a start line whose version is neither HTTP/1.0 nor HTTP/1.1 (RFC 9110, 15.6.6).
	ErrVersion = errors.New("wire: unsupported HTTP version")
	// ErrStart: a request or status line of any other wrong shape (RFC 9112, 3 and 4).
	ErrStart = errors.New("wire: bad start line")
	// ErrHeadTooLarge: a head longer than the limit, or a field line longer than the buffer (RFC 6585, 5).
	ErrHeadTooLarge = errors.New("wire: head too large")
	// ErrTargetTooLong: a start line that alone is longer than the limit or the buffer (RFC 9112, 3).
	ErrTargetTooLong = errors.New("wire: start line too long")
)

// IsViolation says whether err is one of this package's sentinels: the peer broke the grammar, as
// opposed to a connection that failed.
func IsViolation(err error) bool {
	for _, v := range [...]error{
		ErrLine, ErrFold, ErrName, ErrValue, ErrHost, ErrLength, ErrCoding, ErrConflict, ErrChunk,
		ErrTrailer, ErrVersion, ErrStart, ErrHeadTooLarge, ErrTargetTooLong,
	} {
		if errors.Is(err, v) {
			return true
		}
	}
	return false
}
