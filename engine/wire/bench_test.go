package wire

import (
	"bufio"
	"io"
	"strings"
	"testing"
)

// browserHead is 8 fields in some 350 bytes, as API clients send them.
const browserHead = "GET /v1/accounts/8412/orders?limit=50&cursor=ZXhhbXBsZQ HTTP/1.1\r\n" +
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
	{"Feed/head", len(browserHead), func() func() {
		return feeder(browserHead, len(browserHead))
	}},
	{"Feed/head in 64-byte reads", len(browserHead), func() func() {
		return feeder(browserHead, 64)
	}},
	{"Feed/chunked 64 KiB", 16 * (4096 + 8), func() func() {
		body := strings.Repeat("1000\r\n"+strings.Repeat("x", 4096)+"\r\n", 16)
		return feeder("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"+body+"0\r\nETag: x\r\n\r\n", 8192)
	}},
	{"ParseFields", len(browserHead), func() func() {
		block := []byte(browserHead[strings.Index(browserHead, "\n")+1:])
		fields := make([]Field, 0, 16)
		return func() { fields, _ = ParseFields(fields[:0], block) }
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

// feeder feeds one message again and again to the same guard, in reads of the given size.
func feeder(message string, read int) func() {
	var g Guard
	g.Reset(GuardLimits{})
	stream := []byte(message)
	return func() {
		for p := stream; len(p) > 0; {
			part := p[:min(read, len(p))]
			if n, err := g.Feed(part); n != len(part) || err != nil {
				panic(err)
			}
			p = p[len(part):]
		}
	}
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
