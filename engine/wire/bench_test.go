package wire

import (
	"bufio"
	"io"
	"strings"
	"testing"
)

// clientHead is 8 fields in 363 bytes, as API clients send them.
const clientHead = "GET /v1/accounts/8412/orders?limit=50&cursor=ZXhhbXBsZQ HTTP/1.1\r\n" +
	"Host: api.example.com\r\n" +
	"User-Agent: example-client/4.12.0 (linux; x86_64)\r\n" +
	"Accept: application/json\r\n" +
	"Accept-Encoding: gzip, deflate, br\r\n" +
	"Authorization: Bearer 4f9d2c7be1a84b0e9c35d7f2a6108b4e5c\r\n" +
	"X-Request-Id: 3f0e7a52-9c1b-4d8e-8a61-2b7d90c4ef15\r\n" +
	"Cache-Control: no-cache\r\n" +
	"Connection: keep-alive\r\n\r\n"

// Every hot function is measured once and, by TestNoAllocation, held to zero allocations.
var hot = []struct {
	name  string
	bytes int
	setup func() func()
}{
	{"Request/all of the head", len(clientHead), func() func() {
		var (
			br     = bufio.NewReaderSize(&repeated{clientHead}, 16*len(clientHead))
			head   = make([]byte, 0, 512)
			fields = make([]Field, 0, 16)
		)
		return func() {
			head, _ = ReadRequestHead(br, head[:0], 16<<10)
			line, block, _ := CutStartLine(head)
			request, _ := ParseRequestLine(line)
			fields, _ = ParseFields(fields[:0], block)
			_, hostErr := Host(request.Minor, fields)
			_, framingErr := RequestFraming(request.Minor, fields)
			if len(fields) != 8 || hostErr != nil || framingErr != nil {
				panic("refused")
			}
		}
	}},
	{"Request/ReadRequestHead", len(clientHead), func() func() {
		br := bufio.NewReaderSize(&repeated{clientHead}, 16*len(clientHead))
		head := make([]byte, 0, 512)
		return func() { head, _ = ReadRequestHead(br, head[:0], 16<<10) }
	}},
	{"Request/ReadRequestHead, 64-byte reads", len(clientHead), func() func() {
		br := bufio.NewReader(&pieces{clientHead, 64, ""})
		head := make([]byte, 0, 512)
		return func() { head, _ = ReadRequestHead(br, head[:0], 16<<10) }
	}},
	{"Request/ParseRequestLine", strings.Index(clientHead, "\n"), func() func() {
		line, _, _ := CutStartLine([]byte(clientHead))
		return func() { _, _ = ParseRequestLine(line) }
	}},
	{"Request/ParseFields", len(clientHead), func() func() {
		_, block, _ := CutStartLine([]byte(clientHead))
		fields := make([]Field, 0, 16)
		return func() { fields, _ = ParseFields(fields[:0], block) }
	}},
	{"Request/Host", 0, func() func() {
		fields := clientFields()
		return func() { _, _ = Host(1, fields) }
	}},
	{"Request/RequestFraming", 0, func() func() {
		fields := clientFields()
		return func() { _, _ = RequestFraming(1, fields) }
	}},
	{"HasToken", 40, func() func() {
		value, token := []byte("keep-alive, X-Internal, TE, Upgrade, x-y"), []byte("x-y")
		return func() {
			if !HasToken(value, token) {
				panic("not found")
			}
		}
	}},
	{"Body/length 64 KiB", 64 << 10, func() func() {
		return puller(strings.Repeat("x", 64<<10), Framing{Kind: Length, Length: 64 << 10})
	}},
	{"Body/chunked 64 KiB", 64 << 10, func() func() {
		return puller(strings.Repeat("1000\r\n"+strings.Repeat("x", 4096)+"\r\n", 16)+"0\r\nETag: x\r\n\r\n", Framing{Kind: Chunked})
	}},
}

func BenchmarkHot(b *testing.B) {
	for _, h := range hot {
		b.Run(h.name, func(b *testing.B) {
			run := h.setup()
			b.SetBytes(int64(h.bytes))
			b.ReportAllocs()
			for b.Loop() {
				run()
			}
		})
	}
}

func TestNoAllocation(t *testing.T) {
	for _, h := range hot {
		run := h.setup()
		run() // scratch buffers grow once
		if n := testing.AllocsPerRun(100, run); n != 0 {
			t.Errorf("%s allocates %v times", h.name, n)
		}
	}
}

// repeated gives the same message as often as it fits into a read, whole each time.
type repeated struct{ message string }

func (r *repeated) Read(p []byte) (n int, err error) {
	for len(p)-n >= len(r.message) {
		n += copy(p[n:], r.message)
	}
	return n, nil
}

// pieces gives the same message again and again, in reads of a size.
type pieces struct {
	message string
	size    int
	left    string
}

func (s *pieces) Read(p []byte) (n int, err error) {
	if s.left == "" {
		s.left = s.message
	}
	n = copy(p[:min(len(p), s.size)], s.left)
	s.left = s.left[n:]
	return n, nil
}

func clientFields() []Field {
	_, block, _ := CutStartLine([]byte(clientHead))
	fields, err := ParseFields(nil, block)
	if err != nil {
		panic(err)
	}
	return fields
}

// puller reads one body again and again through the same Body.
func puller(stream string, f Framing) func() {
	var (
		b   Body
		src = strings.NewReader(stream)
		br  = bufio.NewReader(src)
		p   = make([]byte, 16<<10)
	)
	return func() {
		src.Reset(stream)
		br.Reset(src)
		b.Reset(br, f)
		for {
			if _, err := b.Read(p); err == io.EOF {
				return
			} else if err != nil {
				panic(err)
			}
		}
	}
}
