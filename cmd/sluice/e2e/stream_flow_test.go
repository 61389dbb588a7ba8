package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// promptly is how soon a piece should be through the gateway; most must be, for a busy machine delays some.
const promptly = 50 * time.Millisecond

// expectPrompt checks the delays of the pieces of a stream.
func expectPrompt(t *testing.T, delays []time.Duration) {
	t.Helper()
	slices.Sort(delays)
	if late := delays[len(delays)*8/10]; late > promptly {
		t.Errorf("a fifth of the pieces took longer than %v: %v", late, delays)
	}
}

// TestStreamDown sends pieces that a target flushes one by one, each only once the client has seen the one
// before: whatever holds a piece back stops the test. The head, too, arrives before the first piece.
func TestStreamDown(t *testing.T) {
	const pieces = 40
	next := make(chan struct{})
	sent := make(chan time.Time, 1)
	up := startService(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
		case "/length":
			w.Header().Set("Content-Length", fmt.Sprint(pieces*len("data: 000\n\n")))
		case "/close":
			w.Header().Set("Connection", "close")
		}
		flusher := w.(http.Flusher)
		flusher.Flush()
		for i := range pieces {
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
			fmt.Fprintf(w, "data: %03d\n\n", i)
			select {
			case sent <- time.Now():
			case <-r.Context().Done():
			}
			flusher.Flush()
		}
	})
	g := startGateway(t, toService(up.URL, "", ""))
	for _, path := range []string{"/events", "/chunked", "/length", "/close"} {
		for _, version := range []string{"1.1", "1.0"} {
			t.Run(path[1:]+" to HTTP "+version, func(t *testing.T) {
				c := g.dial(t)
				c.send("GET " + path + " HTTP/" + version + "\r\nHost: h\r\n\r\n")
				r := c.head("GET")
				body := bufio.NewReader(r.Body)
				var delays []time.Duration
				for i := range pieces {
					next <- struct{}{}
					line, err := body.ReadString('\n')
					delays = append(delays, time.Since(<-sent))
					if want := fmt.Sprintf("data: %03d\n", i); line != want || err != nil {
						t.Fatalf("got %q, %v, want %q", line, err, want)
					}
					if _, err := body.Discard(1); err != nil {
						t.Fatal(err)
					}
				}
				if rest, err := io.ReadAll(body); len(rest) > 0 || err != nil {
					t.Errorf("at the end: %q, %v", rest, err)
				}
				expectPrompt(t, delays)
			})
		}
	}
}

// TestStreamUp drips a request's body: each piece must have reached the target before the next is sent.
func TestStreamUp(t *testing.T) {
	const pieces = 40
	got := make(chan string)
	up := startService(t, func(w http.ResponseWriter, r *http.Request) {
		body := bufio.NewReader(r.Body)
		got <- "head"
		for range pieces {
			line, err := body.ReadString('\n')
			got <- fmt.Sprint(line, err)
		}
		rest, err := io.ReadAll(body)
		fmt.Fprintf(w, "%q %v", rest, err)
	})
	g := startGateway(t, toService(up.URL, "", ""))
	for _, framing := range []string{"Transfer-Encoding: chunked", fmt.Sprintf("Content-Length: %d", pieces*4)} {
		t.Run(framing, func(t *testing.T) {
			c := g.dial(t)
			c.send("POST / HTTP/1.1\r\nHost: h\r\n" + framing + "\r\n\r\n")
			if head := within(t, "the head reaches the target", got); head != "head" {
				t.Fatal(head)
			}
			chunked := strings.HasPrefix(framing, "Transfer")
			var delays []time.Duration
			for i := range pieces {
				piece := fmt.Sprintf("%03d\n", i)
				sent := time.Now()
				if chunked {
					c.send("4\r\n" + piece + "\r\n")
				} else {
					c.send(piece)
				}
				if line := within(t, "a piece reaches the target", got); line != piece+"<nil>" {
					t.Fatalf("the target got %q, want %q", line, piece)
				}
				delays = append(delays, time.Since(sent))
			}
			if chunked {
				c.send("0\r\n\r\n")
			}
			if r := c.expect("POST", 200); r.body != `"" <nil>` {
				t.Errorf("the target saw %s", r.body)
			}
			expectPrompt(t, delays)
		})
	}
}

// TestStreamDuplex has a target answer each piece of a request while the request goes on.
func TestStreamDuplex(t *testing.T) {
	const pieces = 200
	up := startService(t, func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex()
		_ = control.Flush()
		in := bufio.NewReader(r.Body)
		for {
			line, err := in.ReadString('\n')
			_, _ = io.WriteString(w, strings.ToUpper(line))
			_ = control.Flush()
			if err != nil {
				return
			}
		}
	})
	g := startGateway(t, toService(up.URL, "", ""))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	body, write := io.Pipe()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+g.address, body)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(r) // the head comes before any of the body
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	in := bufio.NewReader(response.Body)
	for i := range pieces {
		fmt.Fprintf(write, "piece %d\n", i)
		line, err := in.ReadString('\n')
		if want := fmt.Sprintf("PIECE %d\n", i); line != want || err != nil {
			t.Fatalf("got %q, %v, want %q", line, err, want)
		}
	}
	write.Close()
	if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil {
		t.Errorf("at the end: %q, %v", rest, err)
	}
}

// TestStreamTrailers sends trailers through, both ways, and holds back those that may not pass.
func TestStreamTrailers(t *testing.T) {
	up := startService(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum, X-Late")
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprintf(w, "%v", r.Trailer)
		w.(http.Flusher).Flush()
		w.Header().Set("X-Sum", "42")
		w.Header().Set("X-Late", "yes")
	})
	g := startGateway(t, toService(up.URL, "", ""))
	c := g.dial(t)
	for range 2 {
		c.send("POST / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nTrailer: X-Check, X-User-ID\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"5\r\nhello\r\n0\r\nX-Check: 7\r\nX-User-ID: root\r\n\r\n")
		r := c.expect("POST", 200)
		if r.body != "map[X-Check:[7]]" {
			t.Errorf("the target got the trailers %s", r.body)
		}
		if r.trailers.get("X-Sum") != "42" || r.trailers.get("X-Late") != "yes" {
			t.Errorf("the client got the trailers %v", r.trailers)
		}
	}
	t.Run("to an HTTP/1.0 client", func(t *testing.T) {
		c := g.dial(t)
		c.send("GET / HTTP/1.0\r\n\r\n")
		if r := c.expect("GET", 200); r.body != "map[]" || r.trailers != nil || r.fields.has("Transfer-Encoding") {
			t.Errorf("got %v %q", r.fields, r.body)
		}
		c.expectClosed()
	})
}

// TestStreamBodyless answers with heads that promise a body which does not come.
func TestStreamBodyless(t *testing.T) {
	up := startService(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.Header().Set("ETag", `"x"`)
			w.WriteHeader(304)
		case "/hint":
			w.Header().Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(103)
			w.WriteHeader(102)
			w.Header().Del("Link")
			_, _ = io.WriteString(w, "final")
		default:
			w.Header().Set("Content-Length", "1000")
			if r.Method != http.MethodHead {
				_, _ = w.Write(make([]byte, 1000))
			}
		}
	})
	g := startGateway(t, toService(up.URL, "", ""))
	c := g.dial(t)
	for range 3 { // on one connection: nothing may be left over
		c.send("HEAD /length HTTP/1.1\r\nHost: h\r\n\r\n")
		if r := c.expect("HEAD", 200); r.fields.get("Content-Length") != "1000" {
			t.Errorf("HEAD: Content-Length %q", r.fields.get("Content-Length"))
		}
		c.send("GET /204 HTTP/1.1\r\nHost: h\r\n\r\n")
		if r := c.expect("GET", 204); r.fields.has("Content-Length") || r.fields.has("Transfer-Encoding") {
			t.Errorf("204: %v", r.fields)
		}
		c.send("GET /304 HTTP/1.1\r\nHost: h\r\n\r\n")
		if r := c.expect("GET", 304); r.fields.get("ETag") != `"x"` || r.fields.has("Transfer-Encoding") {
			t.Errorf("304: %v", r.fields)
		}
		c.send("GET /hint HTTP/1.1\r\nHost: h\r\n\r\n")
		if r := c.expect("GET", 200); r.body != "final" || r.fields.has("Link") {
			t.Errorf("after interim responses: %v %q", r.fields, r.body)
		}
		c.send("GET /length HTTP/1.1\r\nHost: h\r\n\r\n")
		if r := c.expect("GET", 200); len(r.body) != 1000 {
			t.Errorf("GET: %d bytes", len(r.body))
		}
	}
	if n := up.connections.Load(); n != 1 {
		t.Errorf("%d connections to the target, want 1", n)
	}
}

// TestStreamHTTP10 serves clients that know no chunks: a response of unknown length ends with the
// connection, one of known length leaves it open to those that ask.
func TestStreamHTTP10(t *testing.T) {
	up := startService(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/unknown" {
			for range 3 {
				_, _ = io.WriteString(w, "piece ")
				w.(http.Flusher).Flush()
			}
			return
		}
		_, _ = io.WriteString(w, "known")
	})
	g := startGateway(t, toService(up.URL, "", ""))
	for _, field := range []string{"", "Connection: keep-alive\r\n"} {
		c := g.dial(t)
		c.send("GET /unknown HTTP/1.0\r\n" + field + "\r\n")
		r := c.expect("GET", 200)
		if r.body != "piece piece piece " || r.fields.has("Transfer-Encoding") || r.fields.has("Content-Length") {
			t.Errorf("%v %q", r.fields, r.body)
		}
		c.expectClosed()
	}
	c := g.dial(t)
	for range 3 {
		c.send("GET /known HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
		r := c.expect("GET", 200)
		if r.body != "known" || !strings.EqualFold(r.fields.get("Connection"), "keep-alive") {
			t.Errorf("%v %q", r.fields, r.body)
		}
	}
	c.send("GET /known HTTP/1.0\r\n\r\n")
	c.expect("GET", 200)
	c.expectClosed()
	c = g.dial(t)
	c.send("HEAD /unknown HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
	c.expect("HEAD", 200)
}

// TestStreamPipelined sends many requests at once: their answers come in order, whatever their bodies and
// however slow the first of them is.
func TestStreamPipelined(t *testing.T) {
	const requests = 100
	up := startService(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/0" {
			w.(http.Flusher).Flush()
		}
		fmt.Fprintf(w, "%s %s", r.URL.Path, body)
	})
	g := startGateway(t, toService(up.URL, "", ""))
	var all strings.Builder
	for i := range requests {
		switch i % 3 {
		case 0:
			fmt.Fprintf(&all, "GET /%d HTTP/1.1\r\nHost: h\r\n\r\n", i)
		case 1:
			fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody", i)
		default:
			fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", i)
		}
	}
	c := g.dial(t)
	go c.send(all.String())
	for i := range requests {
		want := fmt.Sprintf("/%d ", i)
		if i%3 > 0 {
			want += "body"
		}
		if r := c.expect("GET", 200); r.body != want {
			t.Fatalf("answer %d: %q, want %q", i, r.body, want)
		}
	}
}
