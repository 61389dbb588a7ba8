package engine

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestPanicIsAnAnswer: a bug met by one request costs that request and its connection, no more.
func TestPanicIsAnAnswer(t *testing.T) {
	var asked atomic.Bool
	random := func() uint64 {
		if !asked.Swap(true) {
			panic("a bug")
		}
		return 0
	}
	g := startGatewayWith(t, publicRoute(rawServer(t, smallAnswer)), random)
	client := dial(t, g.address)
	if _, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(client.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != 500 || !response.Close || !strings.Contains(string(body), `"reason":"internal"`) {
		t.Errorf("answered %s %s, %v", response.Status, body, err)
	}

	other := dial(t, g.address)
	if _, err := io.WriteString(other, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if response, err = http.ReadResponse(other.in, nil); err != nil || response.StatusCode != 200 {
		t.Errorf("the next request: %v, %v", response, err)
	}
}

// judge is an origin that looks at every byte it is sent: what a gateway forwards must be well-formed
// for a parser that is not our own.
type judge struct {
	mu       sync.Mutex
	verdicts []string
}

func (j *judge) serve(c net.Conn) {
	defer c.Close()
	var seen bytes.Buffer
	in := bufio.NewReader(io.TeeReader(c, &seen))
	for {
		request, err := http.ReadRequest(in)
		if err == nil {
			_, err = io.Copy(io.Discard, request.Body)
		}
		if err != nil {
			// A message that ends early is the right way to pass on one that was cut short.
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !isReset(err) {
				j.mu.Lock()
				j.verdicts = append(j.verdicts, err.Error()+": "+seen.String())
				j.mu.Unlock()
			}
			return
		}
		if _, err := io.WriteString(c, smallAnswer); err != nil {
			return
		}
	}
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}

// FuzzServe throws bytes at a gateway. Whatever they are, an answer of the gateway is well-formed, the
// connection ends, and the origin gets nothing that net/http cannot parse.
func FuzzServe(f *testing.F) {
	for _, seed := range []string{
		usualRequest, postRequest, "GET / HTTP/1.0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: v\r\n\r\n" + usualRequest,
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET /a/../%2e%2e/%41%2f HTTP/1.1\r\nHost: h\r\n\r\n", "GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nbytes",
		"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
	} {
		f.Add([]byte(seed))
	}
	j := &judge{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go j.serve(c)
		}
	}()
	g := startGateway(f, destinationTables(l.Addr().String()))
	f.Fuzz(func(t *testing.T, request []byte) {
		c, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = c.Write(request)
		_ = c.(*net.TCPConn).CloseWrite()
		in := bufio.NewReader(c)
		for {
			response, err := http.ReadResponse(in, nil)
			if err != nil {
				var timeout net.Error
				if errors.As(err, &timeout) && timeout.Timeout() {
					t.Errorf("the connection stays open after %q", request)
				}
				break
			}
			if response.StatusCode >= 500 && response.StatusCode != 505 {
				t.Errorf("%s for %q", response.Status, request)
			}
			if _, err := io.Copy(io.Discard, response.Body); err != nil {
				break
			}
		}
		j.mu.Lock()
		defer j.mu.Unlock()
		for _, v := range j.verdicts {
			t.Errorf("the origin got %s", v)
		}
		j.verdicts = nil
	})
}
