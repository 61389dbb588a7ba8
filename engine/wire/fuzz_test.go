package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

const chunkedHead = post + "Transfer-Encoding: chunked\r\n\r\n"

func FuzzGuard(f *testing.F) {
	f.Add([]byte(get + browserHead + upgrade + "tunnel"))
	f.Add([]byte("\r\n" + post + "Content-Length: 5\r\n\r\nhello" + get))
	for _, tt := range smuggled {
		f.Add([]byte(post + tt.fields + "\r\n0\r\n\r\n"))
	}
	for _, tt := range chunkings {
		f.Add([]byte(chunkedHead + tt.stream + get))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		const limit = 512
		slow := feedReads(stream, limit, func(int) int { return 1 })
		fast := feedReads(stream, limit, func(left int) int { return left })
		if slow.err != fast.err || slow.phase != fast.phase || fast.passed < slow.ended || fast.passed > slow.passed {
			t.Fatalf("byte by byte %+v, whole %+v", slow, fast)
		}
		if slow.held > max(limit, maxTrailer) || fast.held > max(limit, maxTrailer) {
			t.Fatalf("held %d and %d bytes", slow.held, fast.held)
		}
		for _, message := range split(stream, limit) {
			compareWithNetHTTP(t, message)
		}
	})
}

// split cuts a stream into the complete messages that a guard finds in it.
func split(stream []byte, limit int) (messages [][]byte) {
	var g Guard
	g.Reset(GuardLimits{Head: limit})
	start := 0
	for i := range stream {
		if _, err := g.Feed(stream[i : i+1]); err != nil {
			break
		}
		g.Resume()
		if g.Phase() == Idle {
			messages = append(messages, stream[start:i+1])
			start = i + 1
		}
	}
	return messages
}

// compareWithNetHTTP demands that what the guard takes for one message is one message for net/http too,
// to the last byte.
func compareWithNetHTTP(t *testing.T, message []byte) {
	br := bufio.NewReaderSize(bytes.NewReader(bytes.TrimPrefix(message, []byte("\r\n"))), 64<<10)
	r, err := http.ReadRequest(br)
	if judgesMore(err) {
		return
	}
	if err != nil {
		t.Fatalf("net/http refuses %q: %v", message, err)
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		t.Fatalf("net/http refuses the body of %q: %v", message, err)
	}
	if rest, _ := io.ReadAll(br); len(rest) > 0 {
		t.Fatalf("net/http ends %q before %q", message, rest)
	}
}

// judgesMore reports whether net/http failed on what is not framing and not this package's business: the
// form of the target, and the names that a Trailer field announces.
func judgesMore(err error) bool {
	var target *url.Error
	return errors.As(err, &target) || err != nil && strings.Contains(err.Error(), "bad trailer key")
}

func FuzzBody(f *testing.F) {
	for _, tt := range chunkings {
		f.Add([]byte(tt.stream + get))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		compareBodyAndGuard(t, string(stream))
		want, _, wantErr := readBody(bufio.NewReader(bytes.NewReader(stream)), Framing{Kind: Chunked})
		for name, cut := range cuts {
			got, _, err := readBody(bufio.NewReaderSize(cut(bytes.NewReader(stream)), 16), Framing{Kind: Chunked})
			if got != want || err != wantErr {
				t.Fatalf("%s: %q, %v; want %q, %v", name, got, err, want, wantErr)
			}
		}
		if wantErr != nil {
			return
		}
		if got, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(stream))); string(got) != want || err != nil {
			t.Fatalf("net/http reads %q, %v; want %q", got, err, want)
		}
	})
}

// compareBodyAndGuard demands that a body ends, fails or goes on at the same byte for both readers.
func compareBodyAndGuard(t interface{ Fatalf(string, ...any) }, stream string) {
	src := strings.NewReader(stream)
	br := bufio.NewReaderSize(src, len(stream)+16)
	_, body, bodyErr := readBody(br, Framing{Kind: Chunked})
	consumed := len(stream) - src.Len() - br.Buffered()

	var g Guard
	g.Reset(GuardLimits{})
	g.Feed([]byte(chunkedHead))
	var (
		guardErr error
		passed   int
	)
	for passed < len(stream) && g.Phase() == InBody && guardErr == nil {
		var n int
		n, guardErr = g.Feed([]byte(stream[passed : passed+1]))
		passed += n
	}
	if g.Phase() == InBody && guardErr == nil {
		guardErr = io.ErrUnexpectedEOF
	}
	if bodyErr != guardErr || passed != consumed || body.Done() != (bodyErr == nil) {
		t.Fatalf("%q: body %v after %d bytes, guard %v after %d", stream, bodyErr, consumed, guardErr, passed)
	}
}

func FuzzParseFields(f *testing.F) {
	f.Add([]byte(browserHead[strings.Index(browserHead, "\n")+1:]))
	for _, tt := range smuggled {
		f.Add([]byte("Host: a\r\n" + tt.fields + "\r\n"))
	}
	f.Fuzz(func(t *testing.T, block []byte) {
		fields, err := ParseFields(nil, block)
		if err != nil {
			if len(fields) > 0 {
				t.Fatalf("%d fields and %v", len(fields), err)
			}
			return
		}
		var again []byte
		for _, f := range fields {
			if !Token(f.Name) || !FieldValue(f.Value) {
				t.Fatalf("field %q: %q", f.Name, f.Value)
			}
			again = append(again, string(f.Name)+": "+string(f.Value)+"\r\n"...)
		}
		back, err := ParseFields(nil, append(again, "\r\n"...))
		if err != nil || flat(back) != flat(fields) {
			t.Fatalf("%q becomes %q, %v", flat(fields), flat(back), err)
		}
		head := "GET / HTTP/1.1\r\n" + string(block)
		if guard, whole := feedLimited(head, len(head), len(head)).err, parseHead(head); (guard == nil) != (whole == nil) {
			t.Fatalf("%q: guard %v, parsers %v", head, guard, whole)
		}
	})
}
