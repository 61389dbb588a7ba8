package upstream

import (
	"net"
	"testing"

	"pgregory.net/rapid"
)

// idleStream is a connection's stream that tells that it was closed.
type idleStream struct {
	net.Conn
	closed int
}

func (s *idleStream) Close() error { s.closed++; return nil }

// TestReserve holds the reserve against a model, of connections that are settled at once: the one that came last goes
// first, there are never too many, those that waited for long are closed, oldest first, and each is closed once at most.
func TestReserve(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &reserve{most: rapid.IntRange(0, 5).Draw(t, "most")}
		patience := rapid.Uint32Range(0, 3).Draw(t, "patience")
		type kept struct {
			c    *Conn
			tick int
		}
		var model []kept
		var streams []*idleStream
		tick, leased, closed := 0, 0, false
		gone := func(c *Conn) {
			if s := c.Conn.(*idleStream); s.closed != 1 {
				t.Fatalf("closed %d times", s.closed)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"keep": func(t *rapid.T) {
				c := &Conn{Conn: &idleStream{}}
				streams = append(streams, c.Conn.(*idleStream))
				r.open.Add(1)
				leased++
				room := !closed && len(model) < r.most
				if r.keep(c) != room {
					t.Fatalf("kept %v", !room)
				}
				if leased--; room {
					model = append(model, kept{c, tick})
				} else {
					r.discard(c)
				}
			},
			"take": func(t *rapid.T) {
				var want *Conn
				if n := len(model); n > 0 {
					want, model = model[n-1].c, model[:n-1]
				}
				if got := r.take(); got != want {
					t.Fatalf("took %p, want %p", got, want)
				} else if got != nil {
					leased++
				}
			},
			"age": func(t *rapid.T) {
				r.age(patience)
				for tick++; len(model) > 0 && tick-model[0].tick > int(patience); model = model[1:] {
					gone(model[0].c)
				}
			},
			"close": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "dice") == 0 {
					r.close()
					for _, k := range model {
						gone(k.c)
					}
					model, closed = nil, true
				}
			},
			"": func(t *rapid.T) {
				if r.idle() != len(model) || int(r.open.Load()) != len(model)+leased {
					t.Fatalf("%d idle of %d, want %d of %d", r.idle(), r.open.Load(), len(model), len(model)+leased)
				}
				for _, s := range streams {
					if s.closed > 1 {
						t.Fatal("closed twice")
					}
				}
			},
		})
	})
}

// TestReservePrefersSettled: of what has just been given back, and may hold bytes that nobody asked for, others are leased
// first.
func TestReservePrefersSettled(t *testing.T) {
	o := startOrigin(t)
	target := o.target(t, 4)
	calm, fresh := acquire(t, target), acquire(t, target)
	settle(t, target, calm)
	<-o.accepted
	if _, err := (<-o.accepted).Write([]byte("more")); err != nil {
		t.Fatal(err)
	}
	if _, err := fresh.socket.Read(make([]byte, 1)); err != nil { // not all there is
		t.Fatal(err)
	}
	r := &reserve{most: 3}
	for _, c := range []*Conn{calm, fresh} {
		if !r.keep(c) {
			t.Fatal("not kept")
		}
	}
	if first, second, none := r.take(), r.take(), r.take(); first != calm || second != fresh || none != nil {
		t.Errorf("took %p, %p and %p of %p, %p", first, second, none, calm, fresh)
	}
	target.Discard(calm)
	target.Discard(fresh)
}
