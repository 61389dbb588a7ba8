package wire

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// message is a request as a strict serializer writes it, with what a reader must get back.
type message struct {
	head, body string
	framing    Framing
	payload    string
	trailers   string
}

var (
	tokens  = rapid.StringMatching("[!#-'*+.0-9A-Z^-z|~-]{1,12}")
	targets = rapid.StringMatching(`/[!-~]{0,20}`)
	values  = rapid.StringMatching(`([!-~]([ \t!-~]{0,20}[!-~])?)?`)
	opaque  = rapid.StringOfN(rapid.RuneFrom([]rune("a\r\n0:; \x00")), 0, 40, -1)
)

func drawMessage(t *rapid.T) message {
	var (
		m    message
		head strings.Builder
	)
	fmt.Fprintf(&head, "%s %s HTTP/1.1\r\nHost: a\r\n", tokens.Draw(t, "method"), targets.Draw(t, "target"))
	for range rapid.IntRange(0, 4).Draw(t, "fields") {
		fmt.Fprintf(&head, "X-%s:%s\r\n", tokens.Draw(t, "name"), values.Draw(t, "value"))
	}
	m.framing.Kind = Kind(rapid.IntRange(int(NoBody), int(Chunked)).Draw(t, "kind"))
	switch m.framing.Kind {
	case Length:
		m.payload = opaque.Draw(t, "payload")
		m.body = m.payload
		m.framing.Length = int64(len(m.payload))
		fmt.Fprintf(&head, "Content-Length: %d\r\n", len(m.payload))
	case Chunked:
		m.body, m.payload, m.trailers = drawChunks(t)
		head.WriteString("Transfer-Encoding: chunked\r\n")
	}
	m.head = head.String() + "\r\n"
	return m
}

func drawChunks(t *rapid.T) (body, payload, trailers string) {
	var b strings.Builder
	extension := rapid.SampledFrom([]string{"", "", ";a", `;a="b c";d`})
	for range rapid.IntRange(0, 4).Draw(t, "chunks") {
		if data := opaque.Draw(t, "data"); data != "" {
			fmt.Fprintf(&b, "%X%s\r\n%s\r\n", len(data), extension.Draw(t, "ext"), data)
			payload += data
		}
	}
	fmt.Fprintf(&b, "0%s\r\n", extension.Draw(t, "ext"))
	var pairs []string
	for range rapid.IntRange(0, 3).Draw(t, "trailers") {
		name, value := "X-"+tokens.Draw(t, "name"), values.Draw(t, "value")
		fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		pairs = append(pairs, name+"="+value)
	}
	return b.String() + "\r\n", payload, strings.Join(pairs, "|")
}

// What a strict serializer writes is accepted, and read back as it was meant.
func TestLawStrictMessagesSurvive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMessage(t)
		stream := m.head + m.body
		if v := feed(stream, 1); v.err != nil || v.ended != len(stream) {
			t.Fatalf("guard: %+v of %d", v, len(stream))
		}
		line, block, _ := strings.Cut(m.head, "\r\n")
		request, err := ParseRequestLine([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		fields, err := ParseFields(nil, []byte(block))
		if err != nil {
			t.Fatal(err)
		}
		framing, err := RequestFraming(request.Minor, fields)
		if err != nil || framing != m.framing {
			t.Fatalf("framing %v, %v; want %v", framing, err, m.framing)
		}
		br := bufio.NewReaderSize(strings.NewReader(m.body+get), rapid.IntRange(16, 64).Draw(t, "buffer"))
		payload, body, err := readBody(br, framing)
		if err != nil || payload != m.payload || flat(body.Trailers()) != m.trailers {
			t.Fatalf("body %q %q, %v; want %q %q", payload, flat(body.Trailers()), err, m.payload, m.trailers)
		}
		if next, _ := io.ReadAll(br); string(next) != get {
			t.Fatalf("%q is left to the next message", next)
		}
	})
}

// drawStream is a few messages, most often with a fault or two in them.
func drawStream(t *rapid.T) []byte {
	var stream []byte
	for range rapid.IntRange(1, 3).Draw(t, "messages") {
		m := drawMessage(t)
		stream = append(stream, m.head+m.body...)
	}
	evil := rapid.SampledFrom([]string{
		"\r", "\n", "\r\n", "\r\n\r\n", " ", "\t", "\x00", "\x7f", ":", ",", "x", "0", "f", "\xff",
		"\r\nContent-Length: 3\r\n", "\r\nTransfer-Encoding: chunked\r\n", "\r\nConnection: upgrade\r\nUpgrade: x\r\n",
	})
	for range rapid.IntRange(0, 2).Draw(t, "faults") {
		at := rapid.IntRange(0, len(stream)).Draw(t, "at")
		cut := rapid.IntRange(0, min(2, len(stream)-at)).Draw(t, "cut")
		tail := append([]byte(evil.Draw(t, "evil")), stream[at+cut:]...)
		stream = append(stream[:at:at], tail...)
	}
	return stream
}

// However a stream is cut, the verdict is the same, the messages before the fault are passed on, and of
// the bad one never more than what a byte-by-byte reader passes.
func TestLawCutsDoNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stream := drawStream(t)
		limit := rapid.SampledFrom([]int{0, 0, 40, 100}).Draw(t, "limit")
		want := feedReads(stream, limit, func(int) int { return 1 })
		for name, next := range map[string]func(int) int{
			"whole":  func(left int) int { return left },
			"random": func(left int) int { return rapid.IntRange(1, left).Draw(t, "read") },
		} {
			got := feedReads(stream, limit, next)
			if got.err != want.err || got.phase != want.phase {
				t.Fatalf("%s: %v in phase %d; byte by byte %v in phase %d", name, got.err, got.phase, want.err, want.phase)
			}
			if got.passed < want.ended || got.passed > want.passed || got.err == nil && got.passed != len(stream) {
				t.Fatalf("%s: passed %d, byte by byte %d, messages end at %d", name, got.passed, want.passed, want.ended)
			}
		}
	})
}

// The guard's line-by-line reading of a head agrees with the functions that take it as a whole.
func TestLawGuardAgreesWithParsers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stream := string(drawStream(t))
		end := strings.Index(stream, "\r\n\r\n")
		if end < 2 || strings.HasPrefix(stream, "\r\n") {
			t.Skip("no head")
		}
		head := stream[:end+4]
		if guard, whole := feed(head, len(head)).err, parseHead(head); (guard == nil) != (whole == nil) {
			t.Fatalf("%q: guard %v, parsers %v", head, guard, whole)
		}
	})
}

// parseHead judges a request head by the functions that take it whole.
func parseHead(head string) error {
	line, block, _ := strings.Cut(head, "\r\n")
	request, err := ParseRequestLine([]byte(line))
	if err != nil {
		return err
	}
	fields, err := ParseFields(nil, []byte(block))
	if err != nil {
		return err
	}
	hosts := 0
	for _, f := range fields {
		if EqualFold(f.Name, "host") {
			hosts++
		}
	}
	if hosts > 1 || hosts == 0 && request.Minor == 1 {
		return ErrHost
	}
	_, err = RequestFraming(request.Minor, fields)
	return err
}

// Body and Guard tell the same end, or the same fault, of the same chunks.
func TestLawGuardAgreesWithBody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body, _, _ := drawChunks(t)
		chunks := []byte(body)
		if len(chunks) > 0 && rapid.Bool().Draw(t, "fault") {
			at := rapid.IntRange(0, len(chunks)-1).Draw(t, "at")
			chunks[at] = rapid.SampledFrom([]byte("\r\n \t0f;:\x00")).Draw(t, "byte")
		}
		compareBodyAndGuard(t, string(chunks))
	})
}
