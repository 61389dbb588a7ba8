package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// Whatever is accepted, net/http accepts too, and takes for the same message to the last byte.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(get + clientHead + post + "Connection: upgrade\r\nUpgrade: x\r\n\r\ntunnel"))
	f.Add([]byte("\r\n" + post + "Content-Length: 5\r\n\r\nhello" + get))
	for _, tt := range smuggled {
		f.Add([]byte(post + tt.fields + "\r\n0\r\n\r\n"))
	}
	for _, tt := range chunkings {
		f.Add([]byte(chunkedHead + tt.stream + get))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		const limit = 512
		stream := string(input)
		whole, err := readRequests(stream, cuts["whole"], roomy, limit)
		for name, cut := range cuts {
			got, gotErr := readRequests(stream, cut, roomy, limit)
			if gotErr != err || !slices.Equal(got, whole) {
				t.Fatalf("%s: %+v, %v; whole: %+v, %v", name, got, gotErr, whole, err)
			}
		}
		start := 0
		for _, r := range whole {
			compareWithNetHTTP(t, stream[start:r.end], r)
			start = r.end
		}
		if err == io.EOF && start != len(stream) {
			t.Fatalf("a clean end before %q", stream[start:])
		}
	})
}

func compareWithNetHTTP(t *testing.T, message string, want request) {
	// Its server passes over the empty line; this function of it does not.
	br := bufio.NewReaderSize(strings.NewReader(strings.TrimPrefix(message, "\r\n")), 64<<10)
	r, err := http.ReadRequest(br)
	if judgesMore(err) {
		return
	}
	if err != nil {
		t.Fatalf("net/http refuses %q: %v", message, err)
	}
	if r.Method != want.method || r.RequestURI != want.target || r.ProtoMajor != 1 || r.ProtoMinor != want.minor {
		t.Fatalf("net/http reads %s %q HTTP/%d.%d, want %+v", r.Method, r.RequestURI, r.ProtoMajor, r.ProtoMinor, want)
	}
	if want.target[0] == '/' && r.Host != want.host { // the authority of other forms comes before Host
		t.Fatalf("net/http reads host %q, want %+v", r.Host, want)
	}
	if got := netHTTPFraming(r); got != want.framing && !(got.empty() && want.framing.empty()) {
		t.Fatalf("net/http frames %q as %+v, want %+v", message, got, want.framing)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || string(body) != want.body {
		t.Fatalf("net/http reads the body of %q as %q, %v; want %q", message, body, err, want.body)
	}
	if rest, _ := io.ReadAll(br); len(rest) > 0 {
		t.Fatalf("net/http ends %q before %q", message, rest)
	}
}

// netHTTPFraming cannot tell a Content-Length of 0 from none.
func netHTTPFraming(r *http.Request) Framing {
	switch {
	case slices.Equal(r.TransferEncoding, []string{"chunked"}):
		return Framing{Kind: Chunked}
	case r.ContentLength > 0:
		return Framing{Kind: Length, Length: r.ContentLength}
	}
	return Framing{}
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

func FuzzParseFields(f *testing.F) {
	f.Add([]byte(clientHead[strings.Index(clientHead, "\n")+1:]))
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
		// The reader of heads, which judges lines only, takes the block for one head as well.
		head := "GET / HTTP/1.1\r\n" + string(block)
		if read, err := ReadHead(bufio.NewReaderSize(strings.NewReader(head), len(head)), nil, len(head)); string(read) != head {
			t.Fatalf("%q is read as %q, %v", head, read, err)
		}
	})
}
