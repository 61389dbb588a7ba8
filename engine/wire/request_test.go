package wire

import (
	"bufio"
	"io"
	"slices"
	"strings"
	"testing"
)

const (
	get         = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	post        = "POST / HTTP/1.1\r\nHost: a\r\n"
	chunkedHead = post + "Transfer-Encoding: chunked\r\n\r\n"

	roomy = 16 << 10 // a limit, and a buffer, that no message of the tables reaches
)

// request is all that a reader learns of one message.
type request struct {
	method, target string
	minor          int
	host, fields   string
	framing        Framing
	body, trailers string
	end            int // where in the stream the message ends
}

// readRequest reads a whole message as the engine does.
func readRequest(br *bufio.Reader, limit int) (r request, err error) {
	head, err := ReadRequestHead(br, nil, limit)
	if err != nil {
		return r, err
	}
	if r, err = parseRequest(head); err != nil {
		return r, err
	}
	payload, body, err := readBody(br, r.framing)
	r.body, r.trailers = payload, flat(body.Trailers())
	return r, err
}

func parseRequest(head []byte) (r request, err error) {
	start, block, err := CutStartLine(head)
	if err != nil {
		return r, err
	}
	line, err := ParseRequestLine(start)
	if err != nil {
		return r, err
	}
	fields, err := ParseFields(nil, block)
	if err != nil {
		return r, err
	}
	host, err := Host(line.Minor, fields)
	if err != nil {
		return r, err
	}
	framing, err := RequestFraming(line.Minor, fields)
	return request{
		method: string(line.Method), target: string(line.Target), minor: line.Minor,
		host: string(host), fields: flat(fields), framing: framing,
	}, err
}

// counted counts what was read.
type counted struct {
	r io.Reader
	n int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// readRequests reads the messages of a connection until one is bad. A connection that ends between two of
// them ends with io.EOF.
func readRequests(stream string, cut func(io.Reader) io.Reader, buffer, limit int) (whole []request, err error) {
	src := &counted{r: cut(strings.NewReader(stream))}
	br := bufio.NewReaderSize(src, buffer)
	for {
		r, err := readRequest(br, limit)
		if err != nil {
			return whole, err
		}
		r.end = src.n - br.Buffered()
		whole = append(whole, r)
	}
}

func TestRequestsAreAccepted(t *testing.T) {
	for _, tt := range []struct {
		stream string
		bodies []string // of the messages in it
	}{
		{"", nil},
		{get, []string{""}},
		{get + get + get, []string{"", "", ""}},                                      // pipelined
		{"\r\n" + get + "\r\n" + get, []string{"", ""}},                              // one CRLF too many (RFC 9112, 2.2)
		{"GET / HTTP/1.0\r\n\r\n", []string{""}},                                     // before Host
		{"GET / HTTP/1.0\r\nHost: a\r\n\r\n", []string{""}},                          //
		{"GET / HTTP/1.1\r\nHost:\r\n\r\n", []string{""}},                            // an empty Host counts
		{post + "Content-Length: 5\r\n\r\nhello" + get, []string{"hello", ""}},       //
		{post + "Content-Length: 0\r\n\r\n" + get, []string{"", ""}},                 //
		{post + "Content-Length: 4\r\n\r\n\n\n\r\r" + get, []string{"\n\n\r\r", ""}}, // a body may hold anything
		{chunkedHead + "0\r\n\r\n" + get, []string{"", ""}},
		{chunkedHead + "5;x\r\nhello\r\n0\r\nETag: x\r\n\r\n" + get, []string{"hello", ""}},
	} {
		for name, cut := range cuts {
			var bodies []string
			whole, err := readRequests(tt.stream, cut, roomy, roomy)
			for _, r := range whole {
				bodies = append(bodies, r.body)
			}
			if err != io.EOF || !slices.Equal(bodies, tt.bodies) {
				t.Errorf("%s %q: bodies %q, %v; want %q", name, tt.stream, bodies, err, tt.bodies)
			}
		}
	}
}

func TestRequestsAreRefused(t *testing.T) {
	for _, tt := range []struct {
		stream string
		err    error
	}{
		{"GET / HTTP/1.1\nHost: a\n\n", ErrLine},             // bare LF throughout
		{"GET / HTTP/1.1\r\nHost: a\n\r\n", ErrLine},         // bare LF once
		{"GET / HTTP/1.1\r\nHost: a\r\n\n", ErrLine},         // bare LF as the end
		{"GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", ErrLine}, // bare CR
		{"GET / HTTP/1.1\rHost: a\r\n\r\n", ErrLine},
		{"\n" + get, ErrLine},
		{"\r" + get, ErrLine},
		{"\r\n\r\n" + get, ErrStart}, // one empty line, not two
		{"\r\n\n" + get, ErrLine},
		{" " + get, ErrStart},
		{"\x16\x03\x01\x02\x00\x01\r\n\r\n", ErrStart}, // a TLS handshake
		{"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", ErrStart},
		{"GET /\r\n\r\n", ErrStart},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ErrVersion},
		{"GET / HTTP/1.1\r\n Host: a\r\n\r\n", ErrFold},
		{"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", ErrFold},
		{"GET / HTTP/1.1\r\nHost : a\r\n\r\n", ErrName},
		{"GET / HTTP/1.1\r\nHost: a\r\nX-User-ID Foo: x\r\n\r\n", ErrName},
		{"GET / HTTP/1.1\r\nHost: a\x00b\r\n\r\n", ErrValue},
		{"GET / HTTP/1.1\r\n\r\n", ErrHost},
		{"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", ErrHost},
		{"GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", ErrHost},
		{"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ErrCoding},
		{post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", ErrName},
		{post + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", ErrValue},
		{post + "Transfer-Encoding: chunked\r\n x\r\n\r\n0\r\n\r\n", ErrFold},
		{post + "Transfer-Encoding\r\n: chunked\r\n\r\n0\r\n\r\n", ErrName},
		{post + "X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ErrLine},
		{post + "Bad Name: x\ry\r\n\r\n", ErrLine}, // of two faults of a line, how it ends comes first
	} {
		mustRefuse(t, tt.stream, tt.err)
	}
	for _, tt := range smuggled {
		mustRefuse(t, post+tt.fields+"\r\n", tt.err)
	}
	for _, tt := range chunkings {
		if tt.err != nil {
			mustRefuse(t, chunkedHead+tt.stream, tt.err)
		}
	}
}

// mustRefuse puts a bad message between two good ones. However it is cut, the verdict is the same, the
// message before it is read, and the one behind it never is.
func mustRefuse(t *testing.T, bad string, want error) {
	t.Helper()
	for name, cut := range cuts {
		whole, err := readRequests(get+bad+get, cut, roomy, roomy)
		if err != want || len(whole) != 1 || whole[0].end != len(get) {
			t.Errorf("%s %.300q: %v after %d messages, want %v after 1", name, bad, err, len(whole), want)
		}
	}
}
