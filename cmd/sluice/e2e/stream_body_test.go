package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

const (
	gibibyte = 1 << 30
	// memoryBound is how much the gateway may grow by while a body of any size passes.
	memoryBound = 64 << 20
)

// TestStreamMemory passes bodies far larger than what the gateway may keep of them.
func TestStreamMemory(t *testing.T) {
	up := startService(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			got, err := digest(r.Body)
			fmt.Fprint(w, got, " ", err, " ", r.ContentLength)
			return
		}
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", fmt.Sprint(gibibyte))
		}
		_, _ = io.CopyBuffer(struct{ io.Writer }{w}, newPattern(gibibyte), make([]byte, 256<<10))
	})
	g := startGateway(t, toService(up.URL, "", "timeout = \"10m\"\nmax_body_bytes = \"0\""))
	want := patternDigest(gibibyte)
	client := &http.Client{Transport: &http.Transport{DisableCompression: true, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10}}
	defer client.CloseIdleConnections()
	warmUp, err := client.Post("http://"+g.address+"/", "", newPattern(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, warmUp.Body)
	warmUp.Body.Close()

	transfer := func(name string, length int64, do func(t *testing.T) (string, error)) {
		t.Run(name, func(t *testing.T) {
			grown := watchMemory(g)
			start := time.Now()
			got, err := do(t)
			mib := grown() >> 20
			if err != nil {
				t.Fatal(err)
			}
			if want := want + fmtUpload(length); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			if mib >= memoryBound>>20 {
				t.Errorf("the gateway grew by %d MiB", mib)
			}
			t.Logf("%v, the gateway grew by %d MiB", time.Since(start).Round(time.Millisecond), mib)
		})
	}
	post := func(length int64) func(t *testing.T) (string, error) {
		return func(t *testing.T) (string, error) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+g.address+"/up", io.NopCloser(newPattern(gibibyte)))
			if err != nil {
				return "", err
			}
			r.ContentLength = length
			response, err := client.Do(r)
			if err != nil {
				return "", err
			}
			defer response.Body.Close()
			text, err := io.ReadAll(response.Body)
			return string(text), err
		}
	}
	get := func(path string) func(t *testing.T) (string, error) {
		return func(t *testing.T) (string, error) {
			response, err := client.Get("http://" + g.address + path)
			if err != nil {
				return "", err
			}
			defer response.Body.Close()
			return digest(response.Body)
		}
	}
	transfer("up with length", gibibyte, post(gibibyte))
	transfer("up chunked", -1, post(-1))
	transfer("down with length", 0, get("/length"))
	transfer("down chunked", 0, get("/chunked"))
}

// fmtUpload is what the target of TestStreamMemory says behind a digest.
func fmtUpload(length int64) string {
	if length == 0 {
		return ""
	}
	return fmt.Sprint(" <nil> ", length)
}

// TestStreamMemorySlowReaders lets clients take a large response slowly, or not at all: what the gateway
// holds for each is bounded, not what the target would give.
func TestStreamMemorySlowReaders(t *testing.T) {
	const clients = 32
	up := startService(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.CopyBuffer(struct{ io.Writer }{w}, newPattern(64<<20), make([]byte, 64<<10))
	})
	g := startGateway(t, toService(up.URL, "", ""))
	_, _ = http.Get("http://" + g.address + "/")
	grown := watchMemory(g)
	stuck := make([]*client, clients)
	for i := range stuck {
		stuck[i] = g.dial(t)
		stuck[i].send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	}
	for _, c := range stuck {
		r := c.head("GET")
		if _, err := io.CopyN(io.Discard, r.Body, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	if mib := grown() >> 20; mib >= memoryBound>>20 {
		t.Errorf("the gateway grew by %d MiB for %d clients that do not read", mib, clients)
	} else {
		t.Logf("the gateway grew by %d MiB for %d clients that do not read", mib, clients)
	}
}

// TestStreamCut checks that a body which its sender cuts short never looks whole to its receiver, in
// either direction and framing.
func TestStreamCut(t *testing.T) {
	seen := make(chan error, 1)
	cut := map[string]string{
		"/length":  "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
		"/chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
	}
	up := startRaw(t, func(c *rawConn, _ <-chan struct{}) {
		r, err := http.ReadRequest(c.in)
		if err != nil {
			return
		}
		if r.Method == http.MethodPost {
			_, err = io.Copy(io.Discard, r.Body)
			seen <- err
			c.write(answerOK)
			return
		}
		c.write(cut[r.URL.Path])
	})
	g := startGateway(t, toService(up, "", ""))

	for _, head := range []string{"Content-Length: 10\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"} {
		c := g.dial(t)
		c.send("POST / HTTP/1.1\r\nHost: h\r\n" + head)
		c.Close()
		if err := within(t, "the target sees the request end", seen); err == nil {
			t.Errorf("a request cut short was whole for the target: %q", head)
		}
	}
	for path := range cut {
		for _, version := range []string{"1.0", "1.1"} {
			c := g.dial(t)
			c.send("GET " + path + " HTTP/" + version + "\r\nHost: h\r\n\r\n")
			r := c.head("GET")
			body, err := io.ReadAll(r.Body)
			if err == nil {
				t.Errorf("HTTP/%s %s: a response cut short was whole for the client: %q", version, path, body)
			}
		}
	}
}

// TestStreamDeadlines checks which exchanges the route's timeout bounds: those of known length.
func TestStreamDeadlines(t *testing.T) {
	release := make(chan struct{})
	up := startService(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/silent" {
			select {
			case <-r.Context().Done():
			case <-release:
			}
			return
		}
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", "20")
		}
		for range 20 {
			_, _ = io.WriteString(w, ".")
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	defer close(release)
	g := startGateway(t, toService(up.URL, "", `timeout = "400ms"`))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for path, whole := range map[string]bool{"/stream": true, "/length": false} {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if (err == nil) != whole {
			t.Errorf("%s: %d bytes and %v, want whole: %v", path, len(body), err, whole)
		}
	}
	c := g.dial(t)
	c.send("GET /silent HTTP/1.1\r\nHost: h\r\n\r\n")
	c.expect("GET", 504)
}
