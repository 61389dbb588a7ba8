package e2e

import (
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// relay forwards what peers send to one member, and loses, repeats and reorders packets.
type relay struct {
	address, to string
	udp         *net.UDPConn
	loss        atomic.Int64 // of a hundred packets
	cut         atomic.Pointer[func(from string) bool]
	running     sync.WaitGroup
}

// startRelays starts a relay for each of so many members.
func startRelays(t testing.TB, n int) (all []*relay) {
	t.Helper()
	for range n {
		l := listenAnywhere(t)
		at := l.Addr().(*net.TCPAddr)
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: at.IP, Port: at.Port})
		if err != nil {
			t.Fatal(err)
		}
		r := &relay{address: at.String(), to: freeAddress(t), udp: udp}
		r.heal()
		t.Cleanup(func() { l.Close(); udp.Close(); r.running.Wait() })
		r.running.Go(r.packets)
		r.running.Go(func() { r.streams(l) })
		all = append(all, r)
	}
	return all
}

// heal ends a cut.
func (r *relay) heal() { r.cutOff(func(string) bool { return false }) }

// cutOff drops packets by where they come from, and streams, of which nobody knows that, if it holds for "".
func (r *relay) cutOff(from func(address string) bool) { r.cut.Store(&from) }

// packets forwards until the socket is closed.
func (r *relay) packets() {
	to, _ := net.ResolveUDPAddr("udp", r.to)
	for b := make([]byte, 1<<16); ; {
		n, from, err := r.udp.ReadFromUDP(b)
		if err != nil {
			return
		}
		loss := r.loss.Load()
		if (*r.cut.Load())(from.String()) || rand.Int64N(100) < loss {
			continue
		}
		copies := 1
		if loss > 0 && rand.IntN(50) == 0 {
			copies = 2
		}
		for range copies {
			if loss > 0 && rand.IntN(10) == 0 { // it comes after those that follow
				late := slices.Clone(b[:n])
				time.AfterFunc(time.Duration(rand.IntN(10))*time.Millisecond, func() { _, _ = r.udp.WriteToUDP(late, to) })
				continue
			}
			_, _ = r.udp.WriteToUDP(b[:n], to)
		}
	}
}

// streams forwards until the listener is closed.
func (r *relay) streams(l net.Listener) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		if (*r.cut.Load())("") {
			in.Close()
			continue
		}
		r.running.Go(func() {
			defer in.Close()
			out, err := net.DialTimeout("tcp", r.to, time.Second)
			if err != nil {
				return
			}
			defer out.Close()
			go func() { _, _ = io.Copy(out, in); _ = out.(*net.TCPConn).CloseWrite() }()
			_, _ = io.Copy(in, out)
		})
	}
}
