package wire

import (
	"math"
	"testing"
)

// smuggled are the declarations that two parsers could read differently. They are refused in requests and
// in responses alike.
var smuggled = []struct {
	fields string
	err    error
}{
	{"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", ErrConflict}, // CL.TE
	{"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", ErrConflict}, // TE.CL
	{"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", ErrConflict},
	{"Content-Length: 5\r\nTransfer-Encoding: identity\r\n", ErrConflict},
	{"transfer-encoding: chunked\r\nX: y\r\ncontent-length: x\r\n", ErrConflict},

	{"Transfer-Encoding: xchunked\r\n", ErrCoding}, // TE.TE: one side does not see it
	{"Transfer-Encoding: chunkedx\r\n", ErrCoding},
	{"Transfer-Encoding: chunked, identity\r\n", ErrCoding}, // chunked is not last
	{"Transfer-Encoding: identity, chunked\r\n", ErrCoding},
	{"Transfer-Encoding: gzip, chunked\r\n", ErrCoding}, // legal, but a coding that is not ours to undo
	{"Transfer-Encoding: chunked, chunked\r\n", ErrCoding},
	{"Transfer-Encoding: chunked,\r\n", ErrCoding}, // an empty element
	{"Transfer-Encoding: ,chunked\r\n", ErrCoding},
	{"Transfer-Encoding: chunked;q=1\r\n", ErrCoding}, // a parameter
	{"Transfer-Encoding: \"chunked\"\r\n", ErrCoding},
	{"Transfer-Encoding: \xa0chunked\r\n", ErrCoding}, // a space in Latin-1 only
	{"Transfer-Encoding: chun\tked\r\n", ErrCoding},
	{"Transfer-Encoding: identity\r\n", ErrCoding},
	{"Transfer-Encoding:\r\n", ErrCoding},
	{"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", ErrCoding}, // twice, even if equal
	{"Transfer-Encoding: chunked\r\nTransfer-encoding: x\r\n", ErrCoding},
	{"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n", ErrCoding},

	{"Content-Length: 5\r\nContent-Length: 5\r\n", ErrLength}, // twice, even if equal
	{"Content-Length: 5\r\nContent-Length: 6\r\n", ErrLength},
	{"Content-Length: 5\r\ncontent-length: 5\r\n", ErrLength},
	{"Content-Length: 5, 5\r\n", ErrLength}, // a list, even if equal
	{"Content-Length: 5,\r\n", ErrLength},
	{"Content-Length: +5\r\n", ErrLength}, // what strtol takes
	{"Content-Length: -5\r\n", ErrLength},
	{"Content-Length: -0\r\n", ErrLength},
	{"Content-Length: 0x5\r\n", ErrLength},
	{"Content-Length: 5 5\r\n", ErrLength},
	{"Content-Length: 5\t5\r\n", ErrLength},
	{"Content-Length: 5.0\r\n", ErrLength},
	{"Content-Length: 5e1\r\n", ErrLength},
	{"Content-Length: 1_0\r\n", ErrLength}, // what Go and Python literals take
	{"Content-Length: 5;x\r\n", ErrLength},
	{"Content-Length: \xd9\xa5\r\n", ErrLength}, // an Arabic five
	{"Content-Length:\r\n", ErrLength},
	{"Content-Length: x\r\n", ErrLength},
	{"Content-Length: 9223372036854775808\r\n", ErrLength},  // 2^63
	{"Content-Length: 18446744073709551621\r\n", ErrLength}, // 2^64+5: five after overflow
	{"Content-Length: 00000000000000000005\r\n", ErrLength}, // 20 digits, whatever they are
}

func TestFramingRefusesWhatIsAmbiguous(t *testing.T) {
	for _, tt := range smuggled {
		fields := mustFields(t, tt.fields)
		if f, err := RequestFraming(1, fields); err != tt.err {
			t.Errorf("request %q: %v, %v; want %v", tt.fields, f, err, tt.err)
		}
		// A response without a body is read by its code, and yet such fields show a broken upstream.
		for _, code := range []int{100, 200, 204, 304, 502} {
			if f, err := ResponseFraming([]byte("HEAD"), code, 1, fields); err != tt.err {
				t.Errorf("response %d %q: %v, %v; want %v", code, tt.fields, f, err, tt.err)
			}
		}
	}
}

func TestRequestFraming(t *testing.T) {
	for _, tt := range []struct {
		minor  int
		fields string
		want   Framing
		err    error
	}{
		{1, "", Framing{}, nil}, // never until close: the client waits for the answer
		{0, "", Framing{}, nil},
		{1, "Content-Length: 0\r\n", Framing{Kind: Length}, nil},
		{1, "CONTENT-LENGTH:\t5 \r\n", Framing{Length, 5}, nil},
		{0, "Content-Length: 5\r\n", Framing{Length, 5}, nil},
		{1, "Content-Length: 007\r\n", Framing{Length, 7}, nil}, // no parser reads octal here
		{1, "Content-Length: 9223372036854775807\r\n", Framing{Length, math.MaxInt64}, nil},
		{1, "Transfer-Encoding: chunked\r\n", Framing{Kind: Chunked}, nil},
		{1, "transfer-encoding: CHUNKED \r\n", Framing{Kind: Chunked}, nil},
		{1, "Content_Length: 5\r\nX-Transfer-Encoding: chunked\r\n", Framing{}, nil}, // other names
		{0, "Transfer-Encoding: chunked\r\n", Framing{}, ErrCoding},                  // RFC 9112, 6.1
	} {
		got, err := RequestFraming(tt.minor, mustFields(t, tt.fields))
		if got != tt.want || err != tt.err {
			t.Errorf("RequestFraming(1.%d, %q) = %v, %v", tt.minor, tt.fields, got, err)
		}
	}
}

func TestResponseFraming(t *testing.T) {
	const length, chunked = "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"
	for _, tt := range []struct {
		method string
		code   int
		minor  int
		fields string
		want   Framing
		err    error
	}{
		{"GET", 200, 1, "", Framing{Kind: UntilClose}, nil},
		{"GET", 200, 0, "", Framing{Kind: UntilClose}, nil},
		{"GET", 200, 1, length, Framing{Length, 5}, nil},
		{"GET", 200, 1, chunked, Framing{Kind: Chunked}, nil},
		{"GET", 200, 0, chunked, Framing{}, ErrCoding},
		{"head", 200, 1, length, Framing{Length, 5}, nil}, // methods are case-sensitive
		{"HEAD", 200, 1, length, Framing{}, nil},          // would be the length of a GET
		{"HEAD", 200, 1, chunked, Framing{}, nil},
		{"HEAD", 200, 1, "", Framing{}, nil},
		{"GET", 100, 1, length, Framing{}, nil},
		{"GET", 101, 1, "", Framing{}, nil},
		{"GET", 204, 1, length, Framing{}, nil},
		{"GET", 204, 1, chunked, Framing{}, nil},
		{"GET", 304, 1, length, Framing{}, nil},
		{"GET", 205, 1, "", Framing{Kind: UntilClose}, nil}, // has no exception (RFC 9112, 6.3)
	} {
		got, err := ResponseFraming([]byte(tt.method), tt.code, tt.minor, mustFields(t, tt.fields))
		if got != tt.want || err != tt.err {
			t.Errorf("ResponseFraming(%s, %d, 1.%d, %q) = %v, %v", tt.method, tt.code, tt.minor, tt.fields, got, err)
		}
	}
}

func mustFields(t *testing.T, lines string) []Field {
	t.Helper()
	fields, err := ParseFields(nil, []byte(lines+"\r\n"))
	if err != nil {
		t.Fatalf("%q: %v", lines, err)
	}
	return fields
}
