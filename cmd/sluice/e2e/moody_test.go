package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// moody is a target whose behaviour can be changed while it runs. It answers with its name and with the nonce of
// the request.
type moody struct {
	name, url string
	mood      atomic.Pointer[string]
	touched   atomic.Int64  // connections and requests, health checks not counted
	served    atomic.Int64  // requests, likewise
	active    atomic.Int64  // requests at work
	peak      atomic.Int64  // most of them at once
	accepted  atomic.Int64  // connections, every one
	open      atomic.Int64  // those of them that have not ended
	heard     byteCount     // all that came on them
	garbled   atomic.Int64  // requests whose body was not made of their nonce
	release   chan struct{} // lets an answer go that holdMood holds back
	whim      func() string // the mood of each request, if the mood is whimMood
}

// byteCount counts what is written to it.
type byteCount struct{ atomic.Int64 }

func (n *byteCount) Write(p []byte) (int, error) {
	n.Add(int64(len(p)))
	return len(p), nil
}

// The moods.
const (
	wellMood    = "well"
	silentMood  = "never answers"
	closeMood   = "closes after accept"
	halfMood    = "closes in the head"
	resetMood   = "resets"
	garbageMood = "sends garbage"
	cutMood     = "closes in the body"
	chunkMood   = "closes in a chunk"
	errorMood   = "answers 500"
	flakyMood   = "answers 500 nine times of ten"
	dripMood    = "sends its head a byte at a time"
	trickleMood = "sends its body a byte at a time"
	raceMood    = "closes after each answer, unannounced"
	slowMood    = "takes its time"
	holdMood    = "answers when it is told to"
	lateMood    = "answers when nobody waits any more"
	twiceMood   = "answers twice"
	hintMood    = "answers, after a hint"
	whimMood    = "has a mood for each request"
)

// dripEvery is how long it takes from byte to byte.
const dripEvery = 20 * time.Millisecond

// lateAfter is how long an answer takes that is late.
const lateAfter = 100 * time.Millisecond

func startMoody(t testing.TB, name string) *moody { return startMoodyOn(t, name, listenAnywhere(t)) }

func startMoodyOn(t testing.TB, name string, l net.Listener) *moody {
	m := &moody{name: name, release: make(chan struct{})}
	m.set(wellMood)
	m.url = startRawOn(t, l, m.serve)
	return m
}

// startMoodies starts targets a, b, c and so on.
func startMoodies(t testing.TB, n int) (all []*moody, urls string) {
	var quoted []string
	for i := range n {
		all = append(all, startMoody(t, string(rune('a'+i))))
		quoted = append(quoted, fmt.Sprintf("%q", all[i].url))
	}
	return all, strings.Join(quoted, ", ")
}

func (m *moody) set(mood string) { m.mood.Store(&mood) }
func (m *moody) address() string { return strings.TrimPrefix(m.url, "http://") }

func (m *moody) serve(c *rawConn, done <-chan struct{}) {
	m.accepted.Add(1)
	m.open.Add(1)
	defer m.open.Add(-1)
	c.in = bufio.NewReader(io.TeeReader(c.TCPConn, &m.heard))
	if mood := *m.mood.Load(); mood == closeMood || mood == resetMood {
		m.touched.Add(1)
		m.end(c, mood)
		return
	}
	for {
		head := c.head()
		if head == "" {
			return
		}
		mood := *m.mood.Load()
		check := strings.HasPrefix(head, "GET /healthz ")
		if !check {
			m.touched.Add(1)
			m.served.Add(1)
		}
		if !m.body(c, head) {
			return
		}
		if mood == whimMood {
			mood = m.whim()
		}
		now := m.active.Add(1)
		for most := m.peak.Load(); now > most && !m.peak.CompareAndSwap(most, now); most = m.peak.Load() {
		}
		keep := m.answer(c, head, mood, done)
		m.active.Add(-1)
		if !keep {
			return
		}
	}
}

// body reads a request's body, which is made of its nonce if it has one; false: it ended early.
func (m *moody) body(c *rawConn, head string) bool {
	length, err := strconv.Atoi(headValue(head, "Content-Length"))
	if err != nil {
		return true
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(c.in, body); err != nil {
		return false
	}
	if nonce := headValue(head, "X-Nonce"); nonce != "" && strings.ReplaceAll(string(body), nonce, "") != "" {
		m.garbled.Add(1)
	}
	return true
}

// answer does what the mood says; false ends the connection.
func (m *moody) answer(c *rawConn, head, mood string, done <-chan struct{}) bool {
	nonce := headValue(head, "X-Nonce")
	if mood == flakyMood && m.served.Load()%10 != 0 {
		mood = errorMood
	}
	switch mood {
	case silentMood:
		_, _ = io.Copy(io.Discard, c.in) // the gateway has to give up
		return false
	case lateMood:
		_ = c.SetReadDeadline(time.Now().Add(lateAfter))
		_, _ = io.Copy(io.Discard, c.in)
	case closeMood, resetMood:
		m.end(c, mood)
		return false
	case halfMood:
		c.write("HTTP/1.1 200 OK\r\nContent-Le")
		return false
	case garbageMood:
		c.write("\x16\x03\x01 what is this?\r\n\r\n")
		return false
	case cutMood:
		c.write("HTTP/1.1 200 OK\r\nX-Nonce: " + nonce + "\r\nContent-Length: 100000\r\n\r\n" + nonce + " ")
		return false
	case chunkMood:
		c.write("HTTP/1.1 200 OK\r\nX-Nonce: " + nonce + "\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n" + nonce + " ")
		return false
	case errorMood:
		c.write("HTTP/1.1 500 Oops\r\nX-Nonce: " + nonce + "\r\nContent-Length: 4\r\n\r\noops")
		return true
	case dripMood:
		c.drip("HTTP/1.1 200 OK\r\nX-Dripping: "+strings.Repeat(".", 10000), done)
		return false
	case trickleMood:
		c.write("HTTP/1.1 200 OK\r\nX-Nonce: " + nonce + "\r\nContent-Length: 100000\r\n\r\n")
		c.drip(strings.Repeat(nonce+" ", 10000), done)
		return false
	case holdMood:
		select {
		case <-done:
		case <-m.release:
		}
	case slowMood:
		select {
		case <-done:
		case <-time.After(50 * time.Millisecond):
		}
	}
	times := 1
	if strings.HasSuffix(nonce, "7") {
		times = 4000 // more than comes with the head
	}
	body := strings.Repeat(nonce+" ", times)
	good := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Name: %s\r\nX-Nonce: %s\r\nContent-Length: %d\r\n\r\n%s", m.name, nonce, len(body), body)
	switch {
	case mood == hintMood:
		good = "HTTP/1.1 103 Early Hints\r\nX-Nonce: " + nonce + "\r\n\r\n" + good
	case mood == twiceMood && times == 1: // in one piece: what comes later may be taken for the next answer by anybody
		good += strings.ReplaceAll(good, nonce, "poison")
	}
	c.write(good)
	return mood != raceMood && mood != lateMood
}

func (m *moody) end(c *rawConn, mood string) {
	if mood == resetMood {
		_ = c.SetLinger(0)
	}
	_ = c.Close()
}

// drip writes text a byte at a time, until the other side has had enough.
func (c *rawConn) drip(text string, done <-chan struct{}) {
	ticker := time.NewTicker(dripEvery)
	defer ticker.Stop()
	for i := range len(text) {
		select {
		case <-done:
			return
		case <-ticker.C:
		}
		if _, err := io.WriteString(c.TCPConn, text[i:i+1]); err != nil {
			return
		}
	}
}

// headValue is a field of a head, "" if there is none.
func headValue(head, name string) string {
	for line := range strings.SplitSeq(head, "\r\n") {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(key, name) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
