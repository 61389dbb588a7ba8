package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// chunkings are chunked bodies with all that a reader should make of them.
var chunkings = []struct {
	stream, payload, trailers string
	err                       error
}{
	{"0\r\n\r\n", "", "", nil},
	{"5\r\nhello\r\n0\r\n\r\n", "hello", "", nil},
	{"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world", "", nil},
	{"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789", "", nil}, // either case
	{"0000000000000005\r\nhello\r\n00\r\n\r\n", "hello", "", nil},                        // padded, still 16 digits
	{"2\r\n\r\n\r\n0\r\n\r\n", "\r\n", "", nil},                                          // payload is not framing
	{"1;a\r\nx\r\n0;b=\"c d\";e\r\n\r\n", "x", "", nil},                                  // extensions
	{"1;\r\nx\r\n0\r\n\r\n", "x", "", nil},                                               // an empty one
	{"0\r\nETag: x\r\nX-Sum: 1\r\n\r\n", "", "ETag=x|X-Sum=1", nil},

	{"0x5\r\nhello\r\n0\r\n\r\n", "", "", ErrChunk},                              // zero elsewhere, five elsewhere
	{" 5\r\nhello\r\n0\r\n\r\n", "", "", ErrChunk},                               // what strtol skips
	{"\t5\r\nhello\r\n0\r\n\r\n", "", "", ErrChunk},                              //
	{"5 \r\nhello\r\n0\r\n\r\n", "", "", ErrChunk},                               // padding of old servers
	{"5\t\r\nhello\r\n0\r\n\r\n", "", "", ErrChunk},                              //
	{"5 ;a\r\nhello\r\n0\r\n\r\n", "", "", ErrChunk},                             // "bad" whitespace (RFC 9112, 7.1.1)
	{"-1\r\nhello\r\n0\r\n\r\n", "", "", ErrChunk},                               // a sign
	{"+5\r\nhello\r\n0\r\n\r\n", "", "", ErrChunk},                               //
	{"5_0\r\nhello\r\n0\r\n\r\n", "", "", ErrChunk},                              //
	{"\r\nhello\r\n0\r\n\r\n", "", "", ErrChunk},                                 // no digit
	{";a\r\nhello\r\n0\r\n\r\n", "", "", ErrChunk},                               // no digit before an extension
	{"g\r\nhello\r\n0\r\n\r\n", "", "", ErrChunk},                                // the first byte that is no digit
	{"00000000000000005\r\nhello\r\n0\r\n\r\n", "", "", ErrChunk},                // 17 digits
	{"8000000000000000\r\n", "", "", ErrChunk},                                   // 2^63
	{"10000000000000005\r\nhello\r\n", "", "", ErrChunk},                         // five after overflow
	{"5\nhello\r\n0\r\n\r\n", "", "", ErrChunk},                                  // bare LF
	{"5\rhello\r\n0\r\n\r\n", "", "", ErrChunk},                                  // bare CR
	{"5\r\r\nhello\r\n0\r\n\r\n", "", "", ErrChunk},                              // two CR
	{"5;a\nhello\r\n0\r\n\r\n", "", "", ErrChunk},                                // bare LF in an extension: TERM.EXT
	{"5;a\rb\r\nhello\r\n0\r\n\r\n", "", "", ErrChunk},                           // bare CR in an extension
	{"5;\x00\r\nhello\r\n0\r\n\r\n", "", "", ErrChunk},                           // a control in an extension
	{"5\r\nhello0\r\n\r\n", "hello", "", ErrChunk},                               // no CRLF behind payload
	{"5\r\nhelloXX0\r\n\r\n", "hello", "", ErrChunk},                             // two other bytes: EXT.TERM
	{"5\r\nhello\n0\r\n\r\n", "hello", "", ErrChunk},                             // bare LF behind payload
	{"5\r\nhello\r0\r\n\r\n", "hello", "", ErrChunk},                             // bare CR behind payload
	{"5\r\nhello!\r\n0\r\n\r\n", "hello", "", ErrChunk},                          // payload too long
	{"0\n\r\n", "", "", ErrChunk},                                                // bare LF at the last chunk
	{"1;" + strings.Repeat("a", 1<<10) + "\r\nx\r\n0\r\n\r\n", "", "", ErrChunk}, // a line without end

	{"0\r\n\n", "", "", ErrTrailer},                                // bare LF as the end
	{"0\r\n\rX", "", "", ErrTrailer},                               // bare CR as the end
	{"0\r\nA: b\n\r\n", "", "", ErrTrailer},                        // bare LF
	{"0\r\nA: b\rc\r\n\r\n", "", "", ErrTrailer},                   // bare CR
	{"0\r\nA: b\r\n c\r\n\r\n", "", "", ErrTrailer},                // folding
	{"0\r\n A: b\r\n\r\n", "", "", ErrTrailer},                     //
	{"0\r\nA : b\r\n\r\n", "", "", ErrTrailer},                     // space before the colon
	{"0\r\nA: \x00\r\n\r\n", "", "", ErrTrailer},                   // NUL
	{"0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "", "", ErrTrailer}, // the next request, a CRLF too early
	{"0\r\nContent-Length: 5\r\n\r\n", "", "", ErrTrailer},         // framing, after the fact
	{"0\r\ntransfer-encoding: chunked\r\n\r\n", "", "", ErrTrailer},
	{"0\r\nHost: b\r\n\r\n", "", "", ErrTrailer},            // routing
	{"0\r\nAuthorization: x\r\n\r\n", "", "", ErrTrailer},   // authentication
	{"0\r\nIf-Match: x\r\n\r\n", "", "", ErrTrailer},        // conditions
	{"0\r\nA: b\r\nTrailer: A\r\n\r\n", "", "", ErrTrailer}, //
	{"0\r\nA: " + strings.Repeat("b", 8<<10) + "\r\n\r\n", "", "", ErrTrailer},
}

func TestBodyChunked(t *testing.T) {
	const next = "GET / HTTP/1.1\r\n"
	for _, tt := range chunkings {
		for name, cut := range cuts {
			br := bufio.NewReader(cut(strings.NewReader(tt.stream + next)))
			payload, b, err := readBody(br, Framing{Kind: Chunked})
			if payload != tt.payload || err != tt.err || b.Done() != (err == nil) || flat(b.Trailers()) != tt.trailers {
				t.Errorf("%s %q = %q %q, %v; want %q %q, %v", name, tt.stream, payload, flat(b.Trailers()), err,
					tt.payload, tt.trailers, tt.err)
			}
			if rest, _ := io.ReadAll(br); err == nil && string(rest) != next {
				t.Errorf("%s %q left %q to the next message", name, tt.stream, rest)
			}
		}
	}
}

func TestBodyLength(t *testing.T) {
	for name, cut := range cuts {
		br := bufio.NewReaderSize(cut(strings.NewReader("hello world")), 16)
		payload, b, err := readBody(br, Framing{Length, 5})
		if payload != "hello" || err != nil || !b.Done() || b.Len() != 0 {
			t.Errorf("%s: %q, %v, %d to come", name, payload, err, b.Len())
		}
		if rest, _ := io.ReadAll(br); string(rest) != " world" {
			t.Errorf("%s: left %q to the next message", name, rest)
		}
	}
}

func TestBodyUntilClose(t *testing.T) {
	for name, cut := range cuts {
		payload, b, err := readBody(bufio.NewReader(cut(strings.NewReader("hello"))), Framing{Kind: UntilClose})
		if payload != "hello" || err != nil || !b.Done() || b.Len() != -1 {
			t.Errorf("%s: %q, %v", name, payload, err)
		}
	}
}

func TestBodyEmpty(t *testing.T) {
	for _, f := range []Framing{{Kind: NoBody}, {Kind: Length}} {
		var b Body
		b.Reset(bufio.NewReader(iotest.ErrReader(errors.New("must not be read"))), f)
		if n, err := b.Read(make([]byte, 1)); !b.Done() || n != 0 || err != io.EOF {
			t.Errorf("%v: %d, %v", f, n, err)
		}
	}
	var zero Body
	if n, err := zero.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("zero Body: %d, %v", n, err)
	}
}

// A connection that ends within a message never looks like the end of the message.
func TestBodyCutAnywhereIsUnexpectedEOF(t *testing.T) {
	type message struct {
		stream string
		f      Framing
	}
	messages := []message{{"hello", Framing{Length, 5}}}
	for _, tt := range chunkings {
		if tt.err == nil {
			messages = append(messages, message{tt.stream, Framing{Kind: Chunked}})
		}
	}
	for _, m := range messages {
		for at := range m.stream {
			for name, cut := range cuts {
				_, b, err := readBody(bufio.NewReader(cut(strings.NewReader(m.stream[:at]))), m.f)
				if err != io.ErrUnexpectedEOF || b.Done() || b.Trailers() != nil {
					t.Errorf("%s %q: %v", name, m.stream[:at], err)
				}
			}
		}
	}
}

func TestBodyKeepsTheErrorOfTheConnection(t *testing.T) {
	reset := errors.New("connection reset")
	for _, f := range []Framing{{Length, 9}, {Kind: Chunked}, {Kind: UntilClose}} {
		br := bufio.NewReader(io.MultiReader(strings.NewReader("5\r\nhel"), iotest.ErrReader(reset)))
		_, b, err := readBody(br, f)
		if err != reset || b.Done() {
			t.Errorf("%v: %v", f, err)
		}
		if _, again := b.Read(make([]byte, 1)); again != reset {
			t.Errorf("%v: %v when read again", f, again)
		}
	}
}

// Streaming needs every byte as soon as it is there: a Read that has one must not wait for another.
func TestBodyGivesWhatIsThere(t *testing.T) {
	for _, tt := range []struct {
		name  string
		f     Framing
		reads []string // what the connection gives, one by one
		want  []string // what Read gives
	}{
		{"an event at a time", Framing{Kind: Chunked},
			[]string{"3\r\none\r\n", "3\r\ntwo\r\n", "0\r\n\r\n"}, []string{"one", "two"}},
		{"several chunks of one read", Framing{Kind: Chunked},
			[]string{"1\r\na\r\n1\r\nb\r\n", "0\r\n\r\n"}, []string{"ab"}},
		{"half a chunk", Framing{Kind: Chunked},
			[]string{"6\r\nabc", "def\r", "\n0\r\n\r\n"}, []string{"abc", "def"}},
		{"a size without its data", Framing{Kind: Chunked},
			[]string{"1\r\na\r\n2\r", "\n", "bc\r\n0\r\n\r\n"}, []string{"a", "bc"}},
		{"length", Framing{Length, 4}, []string{"ab", "c", "d"}, []string{"ab", "c", "d"}},
		{"until close", Framing{Kind: UntilClose}, []string{"ab", "c"}, []string{"ab", "c"}},
	} {
		var (
			b    Body
			conn = &scripted{reads: tt.reads}
			p    = make([]byte, 8<<10) // larger than the buffer of br, so that reads may bypass it
		)
		b.Reset(bufio.NewReader(conn), tt.f)
		for _, want := range tt.want {
			if n, err := b.Read(p); string(p[:n]) != want || err != nil {
				t.Fatalf("%s: read %q, %v; want %q", tt.name, p[:n], err, want)
			}
		}
		if n, err := b.Read(p); n != 0 || err != io.EOF {
			t.Errorf("%s: then %q, %v", tt.name, p[:n], err)
		}
	}
}

// The end of a message that has arrived is known without another Read, so that the connection can be
// given back at once.
func TestBodyIsDoneWithItsLastBytes(t *testing.T) {
	var b Body
	b.Reset(bufio.NewReader(strings.NewReader("5\r\nhello\r\n0\r\n\r\n")), Framing{Kind: Chunked})
	if n, err := b.Read(make([]byte, 5)); n != 5 || err != nil || !b.Done() {
		t.Errorf("%d, %v, done %v", n, err, b.Done())
	}
}

func TestChunkFramingIsBoundedByPayload(t *testing.T) {
	long := ";" + strings.Repeat("x", 500)
	for _, tt := range []struct {
		name  string
		chunk string
		err   error
	}{
		{"one byte a chunk", "1\r\nx\r\n", nil}, // wasteful, but what some flush
		{"one byte a chunk, padded size", "0000000000000001\r\nx\r\n", ErrChunk},
		{"one byte a chunk, long extension", "1" + long + "\r\nx\r\n", ErrChunk},
		{"payload pays for its extension", "200" + long + "\r\n" + strings.Repeat("x", 512) + "\r\n", nil},
	} {
		stream := strings.Repeat(tt.chunk, 20_000) + "0\r\n\r\n"
		if _, _, err := readBody(bufio.NewReader(strings.NewReader(stream)), Framing{Kind: Chunked}); err != tt.err {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.err)
		}
	}
}

// cuts are ways in which a network hands out the same bytes.
var cuts = map[string]func(io.Reader) io.Reader{
	"whole":           func(r io.Reader) io.Reader { return r },
	"byte by byte":    iotest.OneByteReader,
	"half by half":    iotest.HalfReader,
	"error with data": iotest.DataErrReader,
}

// scripted gives one string per Read, then io.EOF.
type scripted struct{ reads []string }

func (s *scripted) Read(p []byte) (int, error) {
	if len(s.reads) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.reads[0])
	s.reads = s.reads[1:]
	return n, nil
}

// readBody reads a body to its end; the end itself is no error.
func readBody(br *bufio.Reader, f Framing) (payload string, b *Body, err error) {
	b = new(Body)
	b.Reset(br, f)
	var out bytes.Buffer
	p := make([]byte, 7) // shorter than most payloads and no divisor of them
	for {
		n, err := b.Read(p)
		out.Write(p[:n])
		switch {
		case n == 0 && err == nil:
			return out.String(), b, io.ErrNoProgress
		case err == io.EOF:
			return out.String(), b, nil
		case err != nil:
			return out.String(), b, err
		}
	}
}

// flat writes fields as name=value, joined by |.
func flat(fields []Field) string {
	var parts []string
	for _, f := range fields {
		parts = append(parts, string(f.Name)+"="+string(f.Value))
	}
	return strings.Join(parts, "|")
}

// TestBodyReady: Ready tells whether Read would wait, for every way of a body to arrive in two parts; and to ask changes
// nothing of what is read.
func TestBodyReady(t *testing.T) {
	for _, tt := range chunkings {
		for cut := range len(tt.stream) {
			var arrived bytes.Buffer
			waits := false
			arrived.WriteString(tt.stream[:cut])
			br := bufio.NewReaderSize(readerFunc(func(p []byte) (int, error) {
				if arrived.Len() == 0 {
					waits = true
					return 0, io.ErrNoProgress
				}
				return arrived.Read(p)
			}), 16<<10)
			if cut > 0 {
				if _, err := br.Peek(cut); err != nil {
					t.Fatal(err)
				}
			}
			var b Body
			b.Reset(br, Framing{Kind: Chunked})
			var payload []byte
			for b.Ready() {
				p := make([]byte, 3)
				n, err := b.Read(p)
				payload = append(payload, p[:n]...)
				if waits {
					t.Fatalf("%q: ready after %d bytes, and waits", tt.stream, cut)
				}
				if err != nil {
					break
				}
			}
			if !strings.HasPrefix(tt.payload, string(payload)) {
				t.Fatalf("%q: %q read of the first %d bytes", tt.stream, payload, cut)
			}
			if waits || b.err != nil {
				continue
			}
			if n, _ := b.Read(make([]byte, 1)); n > 0 || !waits {
				t.Fatalf("%q: not ready after %d bytes, and does not wait", tt.stream, cut)
			}
		}
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
