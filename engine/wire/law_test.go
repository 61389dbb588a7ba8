package wire

import (
	"fmt"
	"io"
	"slices"
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

// What a strict serializer writes is accepted, and read back as it was meant; the next message begins
// exactly where it ends.
func TestLawStrictMessagesSurvive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, next := drawMessage(t), drawMessage(t)
		stream := m.head + m.body + next.head + next.body
		buffer := rapid.IntRange(128, 256).Draw(t, "buffer")
		whole, err := readRequests(stream, drawCut(t), buffer, roomy)
		if err != io.EOF || len(whole) != 2 {
			t.Fatalf("%d messages, %v", len(whole), err)
		}
		for i, want := range []message{m, next} {
			got := whole[i]
			if got.framing != want.framing || got.body != want.payload || got.trailers != want.trailers {
				t.Fatalf("message %d: %+v; want %+v", i, got, want)
			}
		}
		if first := whole[0].end; first != len(m.head+m.body) {
			t.Fatalf("the first message ends at %d, not at %d", first, len(m.head+m.body))
		}
	})
}

// A connection that is cut within a message never looks like one that ended between two.
func TestLawTruncationIsNoCleanEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first, second := drawMessage(t), drawMessage(t)
		boundary := len(first.head + first.body)
		stream := first.head + first.body + second.head + second.body
		cut := drawCut(t)
		for at := range len(stream) {
			want, complete := io.ErrUnexpectedEOF, 0
			if at == 0 || at == boundary {
				want = io.EOF
			}
			if at >= boundary {
				complete = 1
			}
			whole, err := readRequests(stream[:at], cut, roomy, roomy)
			if err != want || len(whole) != complete {
				t.Fatalf("%q: %d messages, %v; want %d, %v", stream[:at], len(whole), err, complete, want)
			}
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
		"\r\nContent-Length: 3\r\n", "\r\nTransfer-Encoding: chunked\r\n", "\r\nHost: b\r\n",
	})
	for range rapid.IntRange(0, 2).Draw(t, "faults") {
		at := rapid.IntRange(0, len(stream)).Draw(t, "at")
		cut := rapid.IntRange(0, min(2, len(stream)-at)).Draw(t, "cut")
		tail := append([]byte(evil.Draw(t, "evil")), stream[at+cut:]...)
		stream = append(stream[:at:at], tail...)
	}
	return stream
}

// However a stream is cut, the same messages are read from it, and the same fault is found behind them.
func TestLawCutsDoNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stream := string(drawStream(t))
		limit := rapid.SampledFrom([]int{roomy, 40, 100}).Draw(t, "limit")
		buffer := rapid.SampledFrom([]int{roomy, 16, 64}).Draw(t, "buffer")
		want, wantErr := readRequests(stream, cuts["whole"], buffer, limit)
		for range 3 {
			got, err := readRequests(stream, drawCut(t), buffer, limit)
			if err != wantErr || !slices.Equal(got, want) {
				t.Fatalf("%+v, %v; in one piece %+v, %v", got, err, want, wantErr)
			}
		}
	})
}

// drawCut hands out a stream in reads of drawn sizes.
func drawCut(t *rapid.T) func(io.Reader) io.Reader {
	sizes := rapid.SliceOfN(rapid.IntRange(1, 40), 1, 8).Draw(t, "reads")
	return func(r io.Reader) io.Reader { return &sized{r: r, sizes: sizes} }
}

// sized reads no more at a time than its sizes allow, in their order and over again.
type sized struct {
	r     io.Reader
	sizes []int
	next  int
}

func (s *sized) Read(p []byte) (int, error) {
	size := s.sizes[s.next%len(s.sizes)]
	s.next++
	return s.r.Read(p[:min(len(p), size)])
}
