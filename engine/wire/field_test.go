package wire

import "testing"

func TestParseFields(t *testing.T) {
	for _, tt := range []struct {
		block string
		want  string // name=value, joined by |
		err   error
	}{
		{"\r\n", "", nil}, // no fields at all
		{"Host: a\r\n\r\n", "Host=a", nil},
		{"Host:a\r\nX:\r\n\r\n", "Host=a|X=", nil},                       // no whitespace, no value
		{"A: \t b c \t\r\nB: \"q, r\"\r\n\r\n", "A=b c|B=\"q, r\"", nil}, // trimmed outside, kept inside
		{"A: 1\r\na: 2\r\nA: 1\r\n\r\n", "A=1|a=2|A=1", nil},             // order, case and repetition survive
		{"A: b:c\r\n\r\n", "A=b:c", nil},                                 // only the first colon counts
		{"A: gr\xfc\xdfe\r\n\r\n", "A=gr\xfc\xdfe", nil},                 // obs-text

		{"", "", ErrLine},                     // the empty line is missing
		{"A: b\r\n", "", ErrLine},             // the same after a field
		{"A: b", "", ErrLine},                 // cut in a line
		{"A: b\r", "", ErrLine},               // cut in a line ending
		{"A: b\n\r\n", "", ErrLine},           // bare LF ends a line elsewhere
		{"A: b\r\n\n", "", ErrLine},           // bare LF as the empty line
		{"\n", "", ErrLine},                   // bare LF and nothing else
		{"A: b\rX: y\r\n\r\n", "", ErrLine},   // bare CR ends a line elsewhere
		{"A\r: b\r\n\r\n", "", ErrLine},       // bare CR in a name
		{"\rA: b\r\n\r\n", "", ErrLine},       // bare CR in front
		{"A: b\r\r\n\r\n", "", ErrLine},       // two CR
		{"A: b\r\n\r\nC: d\r\n", "", ErrLine}, // bytes behind the end

		{" A: b\r\n\r\n", "", ErrFold},            // whitespace between start line and fields
		{"A: b\r\n c\r\n\r\n", "", ErrFold},       // folding with SP
		{"A: b\r\n\tc\r\n\r\n", "", ErrFold},      // folding with HTAB
		{"A: b\r\n \r\n\r\n", "", ErrFold},        // folding of nothing
		{"A: chunked\r\n x\r\n\r\n", "", ErrFold}, // hides the end of a value
		{" x\ry\r\n\r\n", "", ErrFold},            // the first fault of a line is the one told

		{"A : b\r\n\r\n", "", ErrName},          // space before the colon: another name elsewhere
		{"A\t: b\r\n\r\n", "", ErrName},         // the same with HTAB
		{": b\r\n\r\n", "", ErrName},            // no name
		{"A b: c\r\n\r\n", "", ErrName},         // space within
		{"A\x00: b\r\n\r\n", "", ErrName},       // NUL
		{"\x0bA: b\r\n\r\n", "", ErrName},       // VT, which isspace() skips
		{"A\xa0: b\r\n\r\n", "", ErrName},       // Latin-1 no-break space
		{"A(x): b\r\n\r\n", "", ErrName},        // a delimiter
		{"\"A\": b\r\n\r\n", "", ErrName},       // quotes
		{"A\r\n\r\n", "", ErrName},              // no colon
		{"\x7fA: b\r\n\r\n", "", ErrName},       // DEL
		{"GET / HTTP/1.1\r\n\r\n", "", ErrName}, // a second request line

		{"A: b\x00\r\n\r\n", "", ErrValue},       // NUL
		{"A: \x0bchunked\r\n\r\n", "", ErrValue}, // VT is not whitespace
		{"A: b\x0c\r\n\r\n", "", ErrValue},       // neither is FF
		{"A: \x1b[31m\r\n\r\n", "", ErrValue},    // ESC, for those who read logs
		{"A: b\x7f\r\n\r\n", "", ErrValue},       // DEL
	} {
		before := []Field{{Name: []byte("kept")}}
		fields, err := ParseFields(before, []byte(tt.block))
		if got := flat(fields[1:]); got != tt.want || err != tt.err {
			t.Errorf("ParseFields(%q) = %q, %v; want %q, %v", tt.block, got, err, tt.want, tt.err)
		}
	}
}
