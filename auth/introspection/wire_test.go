package introspection

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

// wired speaks with a real server, through the client that New makes.
func wired(t *testing.T, url string) *Introspector {
	t.Helper()
	i, err := New(Config{Name: "n", URL: url, ClientID: "gate:way +é", ClientSecret: "s%cret&=:", CacheTTL: time.Minute, Timeout: 5 * time.Second})
	must(t, err)
	t.Cleanup(i.Close)
	return i
}

func TestRequest(t *testing.T) {
	const token = "A-Za_z.~+/=&token=other%20x#?"
	problems := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		check := func(what, got, want string) {
			if got != want {
				problems <- fmt.Sprintf("%s is %q, want %q", what, got, want)
			}
		}
		id, secret, _ := r.BasicAuth()
		id, _ = url.QueryUnescape(id)
		secret, _ = url.QueryUnescape(secret)
		check("the method", r.Method, http.MethodPost)
		check("the URL", r.URL.String(), "/introspect?tenant=1")
		check("the type", r.Header.Get("Content-Type"), "application/x-www-form-urlencoded")
		check("what is accepted", r.Header.Get("Accept"), "application/json")
		check("the client", id, "gate:way +é")
		check("its secret", secret, "s%cret&=:")
		_ = r.ParseForm()
		check("the token", strings.Join(r.PostForm["token"], " and "), token)
		check("the hint", r.PostForm.Get("token_type_hint"), "access_token")
		check("a header for net/http only", fmt.Sprint(r.Header["Idempotency-Key"]), "[]")
		fmt.Fprint(w, `{"active":true,"client_id":"c"}`)
	}))
	defer server.Close()
	if _, err := wired(t, server.URL+"/introspect?tenant=1").ask1(t, token); err != nil {
		t.Error(err)
	}
	close(problems)
	for problem := range problems {
		t.Error(problem)
	}
}

func TestSecretFollowsNoRedirect(t *testing.T) {
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		elsewhere.Add(1)
		fmt.Fprint(w, `{"active":true,"client_id":"c"}`)
	}))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	if _, err := wired(t, server.URL).ask1(t, "good"); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("error %v, want %v", err, auth.ErrUnavailable)
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("another host was asked %d times", n)
	}
}

func TestStampedeOnTheWire(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		fmt.Fprintf(w, `{"active":true,"client_id":%q}`, r.PostFormValue("token"))
	}))
	defer server.Close()
	i := wired(t, server.URL)
	const tokens = 20
	var all sync.WaitGroup
	for n := range 25 * tokens {
		all.Go(func() {
			token := fmt.Sprint("good-", n%tokens)
			if p, err := i.ask1(t, token); err != nil || p.Client != token {
				t.Errorf("%s: principal %v, error %v", token, p, err)
			}
		})
	}
	all.Wait()
	if n := asked.Load(); n != tokens {
		t.Errorf("asked %d times about %d tokens", n, tokens)
	}
}

func TestServerThatGoesAndComesBack(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"active":true,"client_id":"c"}`) })
	server := httptest.NewUnstartedServer(handler)
	address := server.Listener.Addr().String()
	server.Start()
	i := wired(t, server.URL)
	now := time.Now()
	ask := func(token string) error {
		_, err := i.Authenticate(t.Context(), []byte(token), now)
		return err
	}
	must(t, ask("before"))
	server.Close()
	for n := range 2 * failuresMax {
		if err := ask(fmt.Sprint("gone-", n)); !errors.Is(err, auth.ErrUnavailable) {
			t.Errorf("the server is gone: error %v", err)
		}
	}
	must(t, ask("before"))
	listener, err := net.Listen("tcp", address)
	must(t, err)
	again := &http.Server{Handler: handler}
	done := make(chan error, 1)
	go func() { done <- again.Serve(listener) }()
	t.Cleanup(func() { again.Close(); <-done })
	now = now.Add(longPause) // by the clock of requests no one has to wait
	must(t, ask("after"))
}

// A server may close a connection at the very moment that it is used again. That is no fault of anyone.
func TestConnectionThatDiedIdle(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { answerOnce(conn) })
		}
	})
	i := wired(t, "http://"+listener.Addr().String())
	for n := range 5 {
		if _, err := i.ask1(t, fmt.Sprint("good-", n)); err != nil {
			t.Error(err)
		}
	}
	i.Close()
	listener.Close()
	all.Wait()
}

// answerOnce serves one request, and closes the connection when the next one comes.
func answerOnce(conn net.Conn) {
	defer conn.Close()
	reader := bufio.NewReader(conn)
	request, err := http.ReadRequest(reader)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, request.Body)
	body := `{"active":true,"client_id":"c"}`
	fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	_, _ = reader.ReadByte()
}
