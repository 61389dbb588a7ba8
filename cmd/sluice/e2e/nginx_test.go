package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const nginxDirectives = `
		add_header X-Served $connection_requests always;
		absolute_redirect off;
		gzip on;
		gzip_http_version 1.1;
		gzip_types text/plain;
		gzip_min_length 1000;
		default_type text/plain;
		location = /back { return 200 "$request_method $request_uri $content_length"; }
		location = /moved { return 301 /there; }
		location = /nothing { return 204; }
		location /to/ {
			proxy_pass http://$server_addr:$server_port/back?;
			proxy_http_version 1.1;
		}`

// A real server behind the gateway: what it says of files, ranges, dates and errors reaches the client as
// it was said, over few connections.
func TestNginx(t *testing.T) {
	t.Parallel()
	up := startNginx(t, nginxDirectives)
	const small = "Hello from a file.\n"
	large := strings.Repeat("0123456789", 200_000)
	for name, text := range map[string]string{"small": small, "large": large} {
		if err := os.WriteFile(filepath.Join(up.root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	g := startGateway(t, public("http://"+up.address))
	client := g.dial(t)
	modified := client.ask("/small").fields.get("Last-Modified")
	etag := client.ask("/small").fields.get("ETag")
	if modified == "" || etag == "" {
		t.Fatal("the file has no date or no tag")
	}

	for _, c := range []struct {
		intent, line, more string // request line without its version, more header lines with their ends, and a body
		status             int
		fields             fields
		body               string
	}{
		{"a file", "GET /small", "\r\n", 200, fields{{"Content-Length", fmt.Sprint(len(small))}, {"Content-Type", "text/plain"}, {"ETag", etag}}, small},
		{"a large file", "GET /large", "\r\n", 200, fields{{"Content-Length", fmt.Sprint(len(large))}}, large},
		{"its head", "HEAD /small", "\r\n", 200, fields{{"Content-Length", fmt.Sprint(len(small))}, {"Last-Modified", modified}}, ""},
		{"the head of a large one", "HEAD /large", "\r\n", 200, fields{{"Content-Length", fmt.Sprint(len(large))}}, ""},
		{"not modified since", "GET /small", "If-Modified-Since: " + modified + "\r\n\r\n", 304, fields{{"ETag", etag}, {"Content-Length", ""}, {"Transfer-Encoding", ""}}, ""},
		{"the same tag", "GET /small", "If-None-Match: " + etag + "\r\n\r\n", 304, fields{{"ETag", etag}}, ""},
		{"another tag", "GET /small", "If-None-Match: \"other\"\r\n\r\n", 200, nil, small},
		{"a range", "GET /large", "Range: bytes=10-14\r\n\r\n", 206, fields{{"Content-Range", fmt.Sprintf("bytes 10-14/%d", len(large))}, {"Content-Length", "5"}}, "01234"},
		{"the last bytes", "GET /large", "Range: bytes=-3\r\n\r\n", 206, nil, "789"},
		{"no such range", "GET /small", "Range: bytes=1000-\r\n\r\n", 416, fields{{"Content-Range", fmt.Sprintf("bytes */%d", len(small))}}, "*"},
		{"its own error page", "GET /missing", "\r\n", 404, fields{{"Content-Type", "text/html"}}, "*404 Not Found"},
		{"its own refusal", "POST /small", "Content-Length: 2\r\n\r\nhi", 405, fields{{"Content-Type", "text/html"}}, "*"},
		{"a redirect", "GET /moved", "\r\n", 301, fields{{"Location", "/there"}}, "*"},
		{"no content", "GET /nothing", "\r\n", 204, nil, ""},
		{"a small body", "POST /to/x", "Content-Length: 5\r\n\r\nhello", 200, nil, "POST /back? 5"},
		{"a chunked body", "POST /to/x", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 200, nil, "POST /back? 5"},
		{"a large body", "PUT /to/x", fmt.Sprintf("Content-Length: 500000\r\n\r\n%s", strings.Repeat("a", 500_000)), 200, nil, "PUT /back? 500000"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			r := client.do(c.line + " HTTP/1.1\r\nHost: h\r\n" + c.more)
			if r.status != c.status || r.cut != nil {
				t.Fatalf("%s, cut: %v", r.line, r.cut)
			}
			expectFromNginx(t, r, c.fields, c.body)
		})
	}
	t.Run("chunks", func(t *testing.T) { expectGzip(t, client, large) })
	t.Run("one connection for all", func(t *testing.T) {
		served := client.ask("/small").fields.get("X-Served")
		if n, err := strconv.Atoi(served); err != nil || n < 10 {
			t.Errorf("request number %q of its connection", served)
		}
	})
}

// expectFromNginx checks the fields named; "" is for one that must not be there. A body is given whole, or
// begins with "*" and is a part of it.
func expectFromNginx(t testing.TB, r *response, want fields, body string) {
	t.Helper()
	for _, f := range want {
		if got := r.fields.get(f.name); got != f.value {
			t.Errorf("%s: %q, want %q", f.name, got, f.value)
		}
	}
	part, isPart := strings.CutPrefix(body, "*")
	if r.body != body && (!isPart || !strings.Contains(r.body, part)) {
		t.Errorf("a body of %d bytes: %.100q", len(r.body), r.body)
	}
	if n := r.fields.get("Server"); !strings.HasPrefix(n, "nginx") {
		t.Errorf("Server: %q", n)
	}
}

// expectGzip asks for /large compressed, which has a length that nobody knows before its end.
func expectGzip(t testing.TB, client *client, want string) {
	t.Helper()
	r := client.ask("/large", "Accept-Encoding: gzip")
	if r.status != 200 || r.fields.get("Content-Encoding") != "gzip" || r.fields.get("Transfer-Encoding") != "chunked" || r.cut != nil {
		t.Fatalf("%s, %v, cut: %v", r.line, r.fields, r.cut)
	}
	in, err := gzip.NewReader(bytes.NewReader([]byte(r.body)))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(in); err != nil || string(text) != want {
		t.Errorf("%d bytes of text and %v", len(text), err)
	}
}
