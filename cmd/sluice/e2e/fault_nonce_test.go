package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httputil"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// nonceCount is how many requests the proof sends: SLUICE_NONCES, or what a landing has time for.
func nonceCount(t testing.TB) int {
	if text := os.Getenv("SLUICE_NONCES"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1000 {
			t.Fatalf("SLUICE_NONCES is %q, want a number of requests, at least 1000", text)
		}
		return n
	}
	if raceDetector() {
		return 20_000
	}
	return 150_000
}

// whims are what the targets do, by shares of ten thousand; the rest is done well.
var whims = []struct {
	mood  string
	share int
}{
	{errorMood, 300}, {raceMood, 300}, {closeMood, 200}, {resetMood, 200}, {halfMood, 200}, {garbageMood, 200},
	{cutMood, 200}, {chunkMood, 200}, {twiceMood, 200}, {hintMood, 200}, {lateMood, 100}, {silentMood, 50}, {dripMood, 50}, {trickleMood, 20},
}

func whim() string {
	n := rand.IntN(10_000)
	for _, w := range whims {
		if n -= w.share; n < 0 {
			return w.mood
		}
	}
	return wellMood
}

// No answer is ever that to another request, whatever the targets do meanwhile: each answer carries back the
// nonce of its request, in its head and in its body; and no target gets a body that is not its request's. Some
// clients leave in the middle, and one target is killed and started again every second.
func TestFaultNonceFlood(t *testing.T) {
	t.Parallel()
	nonceFlood(t, "", whim)
}

// The same holds where requests share connections. There targets have whims more seldom, or each would soon have a
// connection of its own; and they do not answer twice, for whose the second answer is nobody could tell.
func TestFaultNonceLaneFlood(t *testing.T) {
	t.Parallel()
	g := nonceFlood(t, "pipeline = 8\n", func() string {
		if mood := whim(); rand.IntN(20) == 0 && mood != twiceMood {
			return mood
		}
		return wellMood
	})
	var moved, requests uint64
	for _, u := range g.status(t).Upstreams {
		for _, target := range u.Targets {
			moved, requests = moved+target.Moved, requests+target.Requests
		}
	}
	if moved == 0 || moved > requests/10 {
		t.Errorf("%d of %d requests were moved out of their lane, want some but not many", moved, requests)
	}
}

func nonceFlood(t *testing.T, keys string, whim func() string) *gateway {
	count := nonceCount(t)
	all, urls := startMoodies(t, 3)
	for _, m := range all {
		m.whim = whim
		m.set(whimMood)
	}
	p := newProcess(t)
	g := startGateway(t, fmt.Sprintf("[upstream.a]\n%stargets = [\"http://%s\", %s]\n", keys, p.address, urls)+`
[upstream.a.timeouts]
connect = "200ms"
response = "60ms"
idle = "200ms"
[upstream.a.breaker]
failure_ratio = 0.7
min_requests = 1000
window = "300ms"
open_for = "50ms"
[[route]]
name = "all"
path = "/*"
auth = ["none"]
to = "a"
timeout = "400ms"
`)
	began := time.Now()
	done := make(chan *tally)
	go func() { done <- g.nonces(t, 24, count) }()
	var r *tally
	restarts := 0
	for restart := time.Tick(time.Second); r == nil; {
		select {
		case r = <-done:
		case <-restart:
			p.signal([]syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}[restarts%2])
			_ = p.command.Wait()
			p.start()
			restarts++
		}
	}
	t.Logf("%d requests in %v, %d restarts: %v", count, time.Since(began).Round(time.Millisecond), restarts, r)
	if r.ended["200"] < count*8/10 || len(r.names) != 4 || restarts == 0 {
		t.Errorf("too little went well: %v", r)
	}
	for key := range r.ended {
		switch key {
		case "200", "500", "cut", "left", "upstream_reset", "upstream_malformed", "upstream_timeout", "upstream_connect",
			"upstream_connect_timeout", "circuit_open", "no_healthy_target":
		default:
			t.Errorf("unexpected end %s: %v", key, r)
		}
	}
	for _, m := range all {
		if n := m.garbled.Load(); n > 0 {
			t.Errorf("%d requests came with a body of another one", n)
		}
	}
	eventually(t, "no request is left", func() bool {
		n := g.targetOf(t, p.address).InFlight
		for _, m := range all {
			n += g.targetOf(t, m.address()).InFlight
		}
		return n == 0
	})
	return g
}

// nonces sends n requests from so many clients, as fast as they are answered, and checks that each answer is
// that of its request.
func (g *gateway) nonces(t testing.TB, clients, n int) *tally {
	total := newTally()
	var running sync.WaitGroup
	var next atomic.Int64
	for range clients {
		running.Go(func() {
			c := hasty{address: g.address, total: total}
			defer c.close()
			for i := next.Add(1); i <= int64(n) && !t.Failed(); i = next.Add(1) {
				end, err := c.call(int(i))
				if err != nil {
					t.Errorf("request %d: %v", i, err)
				}
				total.count(total.ended, end)
			}
		})
	}
	running.Wait()
	return total
}

// hasty is a client for many requests: it keeps its connection, and looks at nothing of an answer but whose it is.
type hasty struct {
	address string
	total   *tally
	conn    net.Conn // nil: yet to be dialled
	in      *bufio.Reader
	out     []byte
}

func (c *hasty) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// call sends a request and reads the answer. It gives how the request ended, as far as a fault of the target
// explains it, and an error if the answer is another one's.
func (c *hasty) call(i int) (end string, err error) {
	if c.conn == nil {
		if c.conn, err = net.DialTimeout("tcp", c.address, patience); err != nil {
			return "not connected", err
		}
		c.in = bufio.NewReader(c.conn)
	}
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	size := byte('1') // of the answer; see moody
	if i%50 == 0 {
		size = '7'
	}
	nonce := append(strconv.AppendInt([]byte{'n'}, nonces.Add(1), 10), '-', size)
	c.out = appendNonced(c.out[:0], i, nonce)
	if i%211 == 0 { // a client that leaves before its answer, or in the middle of its request
		_, _ = c.conn.Write(c.out[:len(c.out)-i%5])
		c.close()
		return "left", nil
	}
	if _, err := c.conn.Write(c.out); err != nil {
		c.close()
		return "broken", err
	}
	return c.receive(nonce)
}

// appendNonced appends a request with a nonce. One in three has a body, which is now and then more than the
// gateway takes along with the head.
func appendNonced(dst []byte, i int, nonce []byte) []byte {
	method, times := "GET", 0
	switch {
	case i%100 == 1:
		method, times = "POST", 40_000/len(nonce)
	case i%6 == 2:
		method, times = "POST", 1
	case i%6 == 4:
		method, times = "PUT", 3
	}
	dst = append(append(dst, method...), " /x HTTP/1.1\r\nHost: h\r\nX-Nonce: "...)
	dst = append(append(dst, nonce...), "\r\nX-Request-ID: "...)
	dst = append(dst, nonce...)
	if times > 0 {
		dst = strconv.AppendInt(append(dst, "\r\nContent-Length: "...), int64(times*len(nonce)), 10)
	}
	dst = append(dst, "\r\n\r\n"...)
	for range times {
		dst = append(dst, nonce...)
	}
	return dst
}

// noncedHead is what matters of an answer's head.
type noncedHead struct {
	status                int
	nonce, request, name  string
	length                int
	chunked, fault, close bool
}

// receive reads an answer to the request with a nonce.
func (c *hasty) receive(nonce []byte) (end string, err error) {
	h := noncedHead{status: 100}
	for h.status < 200 {
		if h, err = c.head(); err != nil {
			c.close()
			return "broken", err
		}
	}
	var body []byte
	if h.chunked {
		body, err = io.ReadAll(httputil.NewChunkedReader(c.in))
		if err == nil {
			_, err = c.in.Discard(len("\r\n"))
		}
	} else {
		body = make([]byte, h.length)
		var n int
		n, err = io.ReadFull(c.in, body)
		body = body[:n]
	}
	end = strconv.Itoa(h.status)
	if h.close || err != nil {
		c.close()
	}
	if err != nil {
		end = "cut"
	}
	if h.fault {
		_, reason, _ := strings.Cut(string(body), `"reason":"`)
		end, _, _ = strings.Cut(reason, `"`)
	}
	if end == "200" {
		c.total.count(c.total.names, h.name)
	}
	return end, h.belongs(nonce, body, err != nil)
}

// belongs checks that an answer is that to the request with a nonce, from its first byte to its last.
func (h *noncedHead) belongs(nonce, body []byte, cut bool) error {
	if h.request != string(nonce) {
		return fmt.Errorf("the answer to %s is that to request %q", nonce, h.request)
	}
	if h.fault { // made by the gateway
		if !cut && !bytes.Contains(body, nonce) {
			return fmt.Errorf("the answer to %s tells of another request: %s", nonce, body)
		}
		return nil
	}
	if h.nonce != string(nonce) {
		return fmt.Errorf("the answer to %s is that to %q", nonce, h.nonce)
	}
	if h.status != 200 {
		return nil
	}
	whole := append(bytes.Clone(nonce), ' ')
	if rest := len(body) % len(whole); !cut && rest != 0 || !bytes.HasPrefix(whole, body[len(body)-rest:]) ||
		bytes.Count(body, whole) != len(body)/len(whole) {
		return fmt.Errorf("the answer to %s has a body of another one: %.200q", nonce, body)
	}
	return nil
}

// head reads a head, interim ones too.
func (c *hasty) head() (h noncedHead, err error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return h, fmt.Errorf("%w in the status line, after %q", err, line)
	}
	if len(line) < len("HTTP/1.1 200 \r\n") || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return h, fmt.Errorf("bad status line %q", line)
	}
	if h.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return h, err
	}
	for {
		if line, err = c.in.ReadSlice('\n'); err != nil {
			return h, err
		}
		if len(line) == len("\r\n") {
			return h, nil
		}
		name, value, ok := strings.Cut(strings.TrimSpace(string(line)), ": ")
		if !ok {
			return h, errors.New("bad header line " + name)
		}
		if err := h.take(name, value); err != nil {
			return h, err
		}
	}
}

func (h *noncedHead) take(name, value string) (err error) {
	switch strings.ToLower(name) {
	case "x-nonce":
		h.nonce = value
	case "x-request-id":
		h.request = value
	case "x-name":
		h.name = value
	case "content-type":
		h.fault = value == "application/problem+json"
	case "content-length":
		h.length, err = strconv.Atoi(value)
	case "transfer-encoding":
		h.chunked = true
	case "connection":
		h.close = true
	}
	return err
}
