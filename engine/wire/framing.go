package wire

import "math"

// Kind is how the end of a message body is found.
type Kind uint8

const (
	NoBody     Kind = iota // the message ends with its head
	Length                 // Content-Length bytes follow
	Chunked                // chunks and a trailer section follow
	UntilClose             // a response that ends when its connection does
)

// Framing is where a message body ends. Length is in bytes and zero for every Kind but [Length]; with
// Length it may be zero too, which a Content-Length of 0 declares.
type Framing struct {
	Kind   Kind
	Length int64
}

// empty reports whether no byte follows the head.
func (f Framing) empty() bool { return f.Kind == NoBody || f.Kind == Length && f.Length == 0 }

// RequestFraming decides how the body of a request is framed (RFC 9112, section 6.3). A request without
// Content-Length and Transfer-Encoding has none. It fails with ErrLength, ErrCoding or ErrConflict; it
// does not allocate.
func RequestFraming(minor int, fields []Field) (Framing, error) {
	d, err := declare(minor, fields)
	if err != nil {
		return Framing{}, err
	}
	return d.framing(NoBody), nil
}

// ResponseFraming decides how the body of the response to a method is framed (RFC 9112, section 6.3).
// A response to HEAD, and any 1xx, 204 or 304, has none whatever its fields declare; what they declare
// must make sense all the same. It fails with ErrLength, ErrCoding or ErrConflict; it does not allocate.
//
// It does not know the tunnel that a 2xx to CONNECT opens: the gateway never sends CONNECT.
func ResponseFraming(method []byte, code, minor int, fields []Field) (Framing, error) {
	d, err := declare(minor, fields)
	if err != nil {
		return Framing{}, err
	}
	if string(method) == "HEAD" || code < 200 || code == 204 || code == 304 {
		return Framing{Kind: NoBody}, nil
	}
	return d.framing(UntilClose), nil
}

// declared is what the fields of a head say of its body.
type declared struct {
	hasLength bool
	chunked   bool
	length    int64
}

func declare(minor int, fields []Field) (d declared, err error) {
	for i := range fields {
		switch f := &fields[i]; {
		case EqualFold(f.Name, "content-length"):
			err = d.noteLength(f.Value)
		case EqualFold(f.Name, "transfer-encoding"):
			err = d.noteCoding(minor, f.Value)
		}
		if err != nil {
			return declared{}, err
		}
	}
	return d, nil
}

func (d *declared) noteLength(value []byte) error {
	n, ok := parseLength(value)
	switch {
	case d.chunked:
		return ErrConflict
	case !ok || d.hasLength:
		return ErrLength
	}
	d.hasLength, d.length = true, n
	return nil
}

func (d *declared) noteCoding(minor int, value []byte) error {
	switch {
	case d.hasLength:
		return ErrConflict
	case d.chunked || minor == 0 || !EqualFold(value, "chunked"):
		return ErrCoding
	}
	d.chunked = true
	return nil
}

// framing is the verdict once all fields are noted; undeclared is the Kind of a head that says nothing.
func (d *declared) framing(undeclared Kind) Framing {
	switch {
	case d.chunked:
		return Framing{Kind: Chunked}
	case d.hasLength:
		return Framing{Kind: Length, Length: d.length}
	}
	return Framing{Kind: undeclared}
}

// maxLengthDigits is what the largest int64 takes; more could only be padding.
const maxLengthDigits = 19

func parseLength(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > maxLengthDigits {
		return 0, false
	}
	for _, c := range b {
		digit := int64(c - '0')
		if !isDigit(c) || n > (math.MaxInt64-digit)/10 {
			return 0, false
		}
		n = n*10 + digit
	}
	return n, true
}
