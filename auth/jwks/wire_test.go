package jwks

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestWire speaks with real servers, through the client that New makes.
func TestWire(t *testing.T) {
	body := setOf(t, edKey(t, "a"))
	serve := func(w http.ResponseWriter, _ *http.Request) { w.Write(body) }
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		elsewhere.Add(1)
		serve(w, r)
	}))
	t.Cleanup(other.Close)
	tests := []struct {
		intent string
		path   string
		serve  http.HandlerFunc
		want   string // in the error; empty: none
	}{
		{"a set", "/", serve, ""},
		{"it is asked for as what it is", "/", func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || !strings.Contains(r.Header.Get("Accept"), "application/jwk-set+json") {
				http.Error(w, "not acceptable", http.StatusNotAcceptable)
				return
			}
			serve(w, r)
		}, ""},
		{"it has moved on the same host", "/", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				http.Redirect(w, r, "/keys", http.StatusMovedPermanently)
				return
			}
			serve(w, r)
		}, ""},
		{"it has moved to another host", "/", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusFound)
		}, errRedirect.Error()},
		{"it moves round in circles", "/", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/", http.StatusFound)
		}, errRedirect.Error()},
		{"it is gone", "/", http.NotFound, "status 404"},
		{"it has no end", "/", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := fmt.Fprint(w, strings.Repeat(" ", 1<<16)); err != nil {
					return
				}
			}
		}, errTooLarge.Error()},
		{"it breaks off", "/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000000")
			w.Write(body)
		}, "unexpected EOF"},
		{"its head has no end", "/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
			w.Write(body)
		}, "headers exceeded"},
	}
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			server := httptest.NewServer(test.serve)
			defer server.Close()
			s, err := New(Config{Source: server.URL + test.path, Refresh: time.Minute})
			must(t, err)
			err = s.Fetch(t.Context())
			if test.want == "" && (err != nil || !works(s, "a")) {
				t.Errorf("error %v, want the key", err)
			}
			if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("another host was asked %d times", n)
	}
}

func TestServerThatGoesAndComesBack(t *testing.T) {
	body := setOf(t, edKey(t, "a"))
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(body) })
	server := httptest.NewUnstartedServer(handler)
	address := server.Listener.Addr().String()
	server.Start()
	s, err := New(Config{Source: server.URL, Refresh: time.Minute})
	must(t, err)
	must(t, s.Fetch(t.Context()))
	server.Close()
	if err := s.Fetch(t.Context()); err == nil || !works(s, "a") {
		t.Errorf("the server is gone: error %v, want one, and the key kept", err)
	}
	again := &http.Server{Handler: handler, Addr: address}
	done := make(chan error, 1)
	go func() { done <- again.ListenAndServe() }()
	t.Cleanup(func() { again.Close(); <-done })
	for deadline := time.Now().Add(10 * time.Second); s.Fetch(t.Context()) != nil; {
		if time.Now().After(deadline) {
			t.Fatal("the server is back, and is not found")
		}
	}
}

func TestStayHome(t *testing.T) {
	tests := []struct {
		intent   string
		from, to string
		ok       bool
	}{
		{"another path", "https://a.example/x", "https://a.example/y?z", true},
		{"from http to https", "http://a.example/", "https://a.example/", true},
		{"another host", "https://a.example/", "https://b.example/", false},
		{"a host below", "https://a.example/", "https://b.a.example/", false},
		{"another port", "https://a.example/", "https://a.example:8443/", false},
		{"from https to http", "https://a.example/", "http://a.example/", false},
		{"to https on another port", "http://a.example/", "https://a.example:8443/", false},
		{"the host as user name", "https://a.example/", "https://a.example@b.example/", false},
	}
	for _, test := range tests {
		from, err := http.NewRequest(http.MethodGet, test.from, nil)
		must(t, err)
		to, err := http.NewRequest(http.MethodGet, test.to, nil)
		must(t, err)
		if err := stayHome(to, []*http.Request{from}); errors.Is(err, errRedirect) == test.ok {
			t.Errorf("%s: error %v, want it followed: %v", test.intent, err, test.ok)
		}
	}
}
