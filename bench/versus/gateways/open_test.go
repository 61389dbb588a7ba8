package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAnswersAreMeasured(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 5\r\n\r\nhello"
	cases := []struct {
		in            string
		status, whole int
		fails         bool
		intent        string
	}{
		{answer, 200, len(answer), false, "whole"},
		{answer[:len(answer)-3], 200, len(answer), false, "its body is under way"},
		{answer[:30], 0, 0, false, "its head is under way"},
		{"", 0, 0, false, "nothing yet"},
		{"HTTP/1.1 429 Too Many Requests\r\nContent-Length:  0\r\n\r\n", 429, 54, false, "a refusal without a body"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, 0, true, "of unknown length"},
		{"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n", 200, 0, true, "of no length"},
		{"SSH-2.0\r\n\r\n", 0, 0, true, "not HTTP"},
	}
	for _, c := range cases {
		status, whole, err := measureAnswer([]byte(c.in))
		if (err != nil) != c.fails || !c.fails && (status != c.status || whole != c.whole) {
			t.Errorf("%s: want %d, %d, have %d, %d, %v", c.intent, c.status, c.whole, status, whole, err)
		}
	}
}

// serveRaw answers requests without a body until the test ends. before is told which request it is, from 1.
func serveRaw(t *testing.T, before func(n int)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer c.Close()
				in := bufio.NewReader(c)
				for n := 1; ; n++ {
					if _, err := http.ReadRequest(in); err != nil {
						return
					}
					before(n)
					if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); group.Wait() })
	return l.Addr().String()
}

// A server that stalls once makes all wait who come meanwhile: a closed loop would see one slow request.
func TestStallIsPaidByAllThatWait(t *testing.T) {
	const stall = 400 * time.Millisecond
	address := serveRaw(t, func(n int) {
		if n == 40 {
			time.Sleep(stall)
		}
	})
	l, err := askAtRate(address, bareTraffic().request(address), 1, 200, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if l.Failed > 0 || l.Requests < 190 || l.Asked < l.Requests {
		t.Errorf("%+v", l)
	}
	// 80 of 200 requests become due while it stalls, and the last of them waits hardly at all.
	if slow := float64((stall * 3 / 4).Microseconds()); l.P99 < slow || l.P999 < l.P99 {
		t.Errorf("p99 %.0f µs, p99.9 %.0f: at least %.0f are due", l.P99, l.P999, slow)
	}
}

func TestWhatIsNotAnsweredHasFailed(t *testing.T) {
	block := make(chan struct{})
	address := serveRaw(t, func(n int) {
		if n == 2 {
			<-block
		}
	})
	t.Cleanup(func() { close(block) })
	l, err := askAtRate(address, bareTraffic().request(address), 1, 20, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if l.Failed < 15 {
		t.Errorf("%+v: one request blocks the others", l)
	}
}

func TestIdleConnectionsStayUntilTheyAreLetGo(t *testing.T) {
	var mu sync.Mutex
	asked := 0
	address := serveRaw(t, func(int) { mu.Lock(); asked++; mu.Unlock() })
	in, release := io.Pipe()
	told, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- keepIdle(address, 5, in, out) }()
	request := bareTraffic().request(address)
	if _, err := fmt.Fprintf(release, "%d\n%s", len(request), request); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(told).ReadString('\n'); err != nil || line != "at rest\n" {
		t.Fatalf("%q, %v", line, err)
	}
	mu.Lock()
	if asked != 5 {
		t.Errorf("%d requests on 5 connections", asked)
	}
	mu.Unlock()
	select {
	case err := <-done:
		t.Errorf("the connections were let go at once: %v", err)
	default:
	}
	_ = release.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestEchoesAreCounted(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(echo))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	if err := checkEcho(address); err != nil {
		t.Fatal(err)
	}
	l, err := exchangeMessages(address, 3, 50*time.Millisecond)
	if err != nil || l.Requests < 3 || l.P50 <= 0 || l.P99 < l.P50 {
		t.Errorf("%+v, %v", l, err)
	}
	if _, err := exchangeMessages("127.0.0.1:1", 1, 0); err == nil {
		t.Error("nobody is there, and messages come back")
	}
}
