package keystore

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

// proxy stands between a store and its server, and may spoil what the server says.
type proxy struct {
	listener net.Listener
	server   string
	spoil    atomic.Pointer[func([]byte) []byte]
	all      sync.WaitGroup
}

func startProxy(t *testing.T, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, server: server}
	p.all.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.all.Wait()
	})
	return p
}

func (p *proxy) url() string { return "redis://" + p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			client.Close()
			continue
		}
		p.all.Go(func() {
			io.Copy(server, client)
			server.Close()
		})
		p.all.Go(func() {
			p.relay(client, server)
			client.Close()
		})
	}
}

func (p *proxy) relay(client, server net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		said := buffer[:n]
		if spoil := p.spoil.Load(); spoil != nil {
			said = (*spoil)(said)
		}
		if _, err := client.Write(said); err != nil {
			return
		}
	}
}

func TestSpoiltAnswers(t *testing.T) {
	server := startRedis(t)
	tool, _ := open(t, server.url(), nil)
	put(t, tool, "seen", "unseen")
	for _, row := range []struct {
		intent string
		spoil  func([]byte) []byte
	}{
		{"bytes that are no reply", func([]byte) []byte { return []byte("garbage\r\n") }},
		{"an endless line", func(b []byte) []byte { return append([]byte("+"), b[:1]...) }},
		{"errors", func([]byte) []byte { return []byte("-LOADING Redis is loading\r\n") }},
		{"a reply of another type", func([]byte) []byte { return []byte("*0\r\n") }},
		{"silence", func([]byte) []byte { return nil }},
	} {
		t.Run(row.intent, func(t *testing.T) {
			p := startProxy(t, server.address())
			r, j := open(t, p.url(), func(c *RedisConfig) { c.Timeout = 20 * time.Millisecond })
			eventually(t, recovery, "the key works", func() error { return look(r, "seen", time.Now(), nil) })
			p.spoil.Store(&row.spoil)
			eventually(t, recovery, "Redis counts as away", func() error {
				if events := j.all(); events[len(events)-1].up {
					return errors.New("still up")
				}
				return nil
			})
			holds(t, r, "seen", nil)
			holds(t, r, "unseen", auth.ErrUnavailable)
			p.spoil.Store(nil)
			eventually(t, recovery, "unseen keys work", func() error { return look(r, "unseen", time.Now(), nil) })
		})
	}
}

// TestSlowRedis has a server whose answers come too late for who asked, but not for the next.
func TestSlowRedis(t *testing.T) {
	server := startRedis(t)
	tool, _ := open(t, server.url(), nil)
	put(t, tool, "a")
	p := startProxy(t, server.address())
	r, j := open(t, p.url(), func(c *RedisConfig) { c.Timeout = 20 * time.Millisecond })
	slow := func(b []byte) []byte {
		time.Sleep(200 * time.Millisecond)
		return b
	}
	p.spoil.Store(&slow)
	holds(t, r, "a", auth.ErrUnavailable)
	eventually(t, recovery, "the late answer is used", func() error { return look(r, "a", time.Now(), nil) })
	if events := j.all(); len(events) != 1 {
		t.Errorf("reported %v, though Redis answers", events)
	}
}
