package wire

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// errWaiting stands for a peer that sends nothing more.
var errWaiting = errors.New("still waiting")

// What is wrong must be refused with what has arrived: the peer may never send more.
func TestHeadIsRefusedAtItsLine(t *testing.T) {
	for _, tt := range []struct {
		sent string
		good string // what is returned: the lines before the bad one
		err  error
	}{
		{"GET / HTTP/1.1\n", "", ErrLine},
		{"\n", "", ErrLine},
		{"GET / HTTP/1.1\r\nHost: a\n", "GET / HTTP/1.1\r\n", ErrLine},
		{"GET / HTTP/1.1\r\n\n", "GET / HTTP/1.1\r\n", ErrLine}, // a bare LF as the end
		{" GET / HTTP/1.1\r\n", "", ErrStart},
		{"\tGET / HTTP/1.1\r\n", "", ErrStart},
		{"GET / HTTP/1.1\r\n Host: a\r\n", "GET / HTTP/1.1\r\n", ErrFold},
		{"GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n", "GET / HTTP/1.1\r\nHost: a\r\n", ErrFold},
		{"GET / HTTP/1.1\r\n \n", "GET / HTTP/1.1\r\n", ErrFold}, // of two faults, the first byte's
		{"\r\n\r\n", "", ErrStart},                               // one empty line is excused, not two
		{"\r\n\n", "", ErrLine},
		{"\r\n \r\n", "", ErrStart},
	} {
		for name, cut := range cuts {
			src := io.MultiReader(strings.NewReader(tt.sent), iotest.ErrReader(errWaiting))
			head, err := ReadRequestHead(bufio.NewReaderSize(cut(src), 64), nil, 64)
			if err != tt.err || string(head) != tt.good {
				t.Errorf("%s %q = %q, %v; want %q, %v", name, tt.sent, head, err, tt.good, tt.err)
			}
		}
	}
}

func TestHeadEndsAtItsEmptyLine(t *testing.T) {
	for _, tt := range []struct{ stream, head string }{
		{get, get},
		{get + get, get},                                 // the next one stays
		{"\r\n" + get + "body", get},                     // one CRLF too many (RFC 9112, 2.2)
		{"x\r\n\r\n\r\n", "x\r\n\r\n"},                   // no field at all; start lines are judged elsewhere
		{"x\r\ny\r\n\r\nz\n", "x\r\ny\r\n\r\n"},          // what follows is not looked at
		{"a\rb\r\nc\rd\r\n\r\n", "a\rb\r\nc\rd\r\n\r\n"}, // a bare CR is left to the parsers
	} {
		for name, cut := range cuts {
			br := bufio.NewReaderSize(cut(strings.NewReader(tt.stream)), 64)
			head, err := ReadRequestHead(br, []byte("kept"), 64)
			if err != nil || string(head) != "kept"+tt.head {
				t.Errorf("%s %q = %q, %v", name, tt.stream, head, err)
			}
			rest, _ := io.ReadAll(br)
			if want := tt.stream[strings.Index(tt.stream, tt.head)+len(tt.head):]; string(rest) != want {
				t.Errorf("%s %q leaves %q, want %q", name, tt.stream, rest, want)
			}
		}
	}
}

// A response that begins with an empty line is no response: its sender and its reader have lost step.
func TestReadHeadExcusesNoEmptyLine(t *testing.T) {
	for _, stream := range []string{"\r\n", "\r\nHTTP/1.1 200 OK\r\n\r\n", "\r\n\r\n"} {
		head, err := ReadHead(bufio.NewReader(strings.NewReader(stream)), nil, 64)
		if err != ErrStart || len(head) > 0 {
			t.Errorf("%q = %q, %v", stream, head, err)
		}
	}
}

func TestHeadLimits(t *testing.T) {
	pad := func(n int) string { return strings.Repeat("x", n) }
	for _, tt := range []struct {
		name, stream string
		limit        int
		err          error
	}{
		{"exactly the limit", get, len(get), nil},
		{"what follows does not count", get + pad(100), len(get), nil},
		{"the empty line in front does not count", "\r\n" + get, len(get), nil},
		{"one byte over", get, len(get) - 1, ErrHeadTooLarge},
		{"a field over", post + "A: " + pad(100), 64, ErrHeadTooLarge},
		{"many fields over", post + strings.Repeat("A: b\r\n", 10), 64, ErrHeadTooLarge},
		{"the start line over", "GET /" + pad(100), 64, ErrTargetTooLong},
		{"a start line that fills the limit", "GET /" + pad(64-16) + " HTTP/1.1\r\n", 64, ErrHeadTooLarge},
		{"a start line one byte over", "GET /" + pad(64-15) + " HTTP/1.1\r\n", 64, ErrTargetTooLong},
		{"a bad line before the limit", "GET / HTTP/1.1\r\nA: b\n" + pad(100), 64, ErrLine},
		{"a bad line across it", "GET / HTTP/1.1\r\nA: b" + pad(100) + "\n", 64, ErrHeadTooLarge},
		{"a start line beyond the buffer", "GET /" + pad(300), 1 << 10, ErrTargetTooLong},
		{"a field beyond the buffer", post + "A: " + pad(300), 1 << 10, ErrHeadTooLarge},
		{"a head beyond the buffer, its lines not", "x\r\n" + strings.Repeat("A: "+pad(60)+"\r\n", 5) + "\r\n", 1 << 10, nil},
		{"no room at all", get, 0, ErrTargetTooLong},
	} {
		for name, cut := range cuts {
			src := io.MultiReader(strings.NewReader(tt.stream), iotest.ErrReader(errWaiting))
			if _, err := ReadRequestHead(bufio.NewReaderSize(cut(src), 128), nil, tt.limit); err != tt.err {
				t.Errorf("%s, %s: %v, want %v", tt.name, name, err, tt.err)
			}
		}
	}
}

func TestHeadTellsAnIdleEndFromACut(t *testing.T) {
	deadline := errors.New("i/o timeout")
	for _, tt := range []struct {
		sent     string
		end, err error
	}{
		{"", io.EOF, io.EOF},
		{"G", io.EOF, io.ErrUnexpectedEOF},
		{"\r", io.EOF, io.ErrUnexpectedEOF},
		{"\r\n", io.EOF, io.ErrUnexpectedEOF}, // something came, if not the start of a request
		{"GET / HTTP/1.1\r\n", io.EOF, io.ErrUnexpectedEOF},
		{"GET / HTTP/1.1\r\nHost: a\r\n\r", io.EOF, io.ErrUnexpectedEOF},
		{"", deadline, deadline}, // the caller compares: nothing is wrapped
		{"\r", deadline, deadline},
		{"GET / HTTP/1.1\r\nHo", deadline, deadline},
	} {
		for name, cut := range cuts {
			src := io.MultiReader(strings.NewReader(tt.sent), iotest.ErrReader(tt.end))
			if _, err := ReadRequestHead(bufio.NewReader(cut(src)), nil, 64); err != tt.err {
				t.Errorf("%s %q, then %v: %v, want %v", name, tt.sent, tt.end, err, tt.err)
			}
		}
	}
}

func TestCutStartLine(t *testing.T) {
	for _, tt := range []struct {
		head, line, block string
		err               error
	}{
		{get, "GET / HTTP/1.1", "Host: a\r\n\r\n", nil},
		{"\r\n", "", "", nil}, // empty: for the parsers to refuse
		{"", "", "", ErrLine},
		{"GET / HTTP/1.1", "", "", ErrLine},
		{"GET / HTTP/1.1\nHost: a\r\n\r\n", "", "", ErrLine},
		{"\n", "", "", ErrLine},
	} {
		line, block, err := CutStartLine([]byte(tt.head))
		if string(line) != tt.line || string(block) != tt.block || err != tt.err {
			t.Errorf("CutStartLine(%q) = %q, %q, %v", tt.head, line, block, err)
		}
	}
}

func TestIsViolation(t *testing.T) {
	for err, want := range map[error]bool{
		ErrFold: true, ErrTargetTooLong: true, io.EOF: false, io.ErrUnexpectedEOF: false, errWaiting: false,
	} {
		if IsViolation(err) != want {
			t.Errorf("IsViolation(%v) = %v", err, !want)
		}
	}
}
