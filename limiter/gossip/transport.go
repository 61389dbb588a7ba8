package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-sockaddr"
	"github.com/hashicorp/memberlist"
)

const (
	label      = "sluice" // begins all packets and streams of memberlist, after labelByte
	labelByte  = 244
	maxStreams = 32      // that others opened, at once
	maxStream  = 1 << 20 // bytes that are read of one
	readBuffer = 4 << 20 // of the socket
	portTries  = 10
)

var errStream = errors.New("gossip: a stream goes on for too long")

// transport is one address, UDP and TCP, for both this package's packets and memberlist's.
type transport struct {
	udp     *net.UDPConn
	tcp     *net.TCPListener
	public  netip.AddrPort // what peers send to
	packets chan *memberlist.Packet
	streams chan net.Conn
	open    atomic.Int32
	full    atomic.Uint64 // packets and streams that memberlist had no room for
	sent    atomic.Uint64 // bytes of memberlist's packets
	ctx     context.Context
	cancel  context.CancelFunc
	close   sync.Once
}

func listen(address, advertise string) (*transport, error) {
	tcp, udp, err := bind(address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %q: %w", address, err)
	}
	_ = udp.SetReadBuffer(readBuffer) // what the system grants is enough to begin with
	t := &transport{tcp: tcp, udp: udp, packets: make(chan *memberlist.Packet, 256), streams: make(chan net.Conn)}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	if t.public, err = publish(tcp.Addr().(*net.TCPAddr).AddrPort(), advertise); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot advertise %q: %w", advertise, err), t.Shutdown())
	}
	return t, nil
}

// bind opens both sockets on one port, any if it is 0.
func bind(address string) (*net.TCPListener, *net.UDPConn, error) {
	var last error
	for range portTries {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, nil, err
		}
		tcp := l.(*net.TCPListener)
		at := tcp.Addr().(*net.TCPAddr)
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: at.IP, Port: at.Port, Zone: at.Zone})
		if err == nil {
			return tcp, udp, nil
		}
		last = errors.Join(err, tcp.Close())
		if _, port, _ := net.SplitHostPort(address); port != "0" {
			break
		}
	}
	return nil, nil, last
}

// publish is the address that peers are told: what is configured, or what is listened on, or else that of the
// interface by which a private network is reached.
func publish(bound netip.AddrPort, advertise string) (netip.AddrPort, error) {
	if advertise != "" {
		if _, _, err := net.SplitHostPort(advertise); err != nil {
			advertise = net.JoinHostPort(advertise, strconv.Itoa(int(bound.Port())))
		}
		a, err := net.ResolveUDPAddr("udp", advertise)
		if err != nil {
			return netip.AddrPort{}, err
		}
		return plain(a.AddrPort()), nil
	}
	if !bound.Addr().IsUnspecified() {
		return plain(bound), nil
	}
	for _, find := range []func() (string, error){sockaddr.GetPrivateIP, sockaddr.GetPublicIP} {
		if text, err := find(); err == nil && text != "" {
			if a, err := netip.ParseAddr(text); err == nil {
				return netip.AddrPortFrom(a, bound.Port()), nil
			}
		}
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), bound.Port()), nil
}

func plain(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// read hands packets out until the socket is closed: memberlist's to it, all others to take.
func (t *transport) read(take func(packet []byte)) {
	b := make([]byte, 1<<16)
	for {
		size, from, err := t.udp.ReadFromUDPAddrPort(b)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil || size == 0:
			continue
		case b[0] != labelByte:
			take(b[:size])
			continue
		}
		p := &memberlist.Packet{Buf: append([]byte(nil), b[:size]...), From: net.UDPAddrFromAddrPort(plain(from)), Timestamp: time.Now()}
		select {
		case t.packets <- p:
		default:
			t.full.Add(1)
		}
	}
}

// accept hands streams to memberlist until the socket is closed.
func (t *transport) accept() {
	for {
		c, err := t.tcp.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // of files there are too many, say
			select {
			case <-t.ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		case t.open.Add(1) > maxStreams:
			t.open.Add(-1)
			t.full.Add(1)
			_ = c.Close()
			continue
		}
		s := &stream{Conn: c, left: maxStream, done: func() { t.open.Add(-1) }}
		select {
		case t.streams <- s:
		case <-t.ctx.Done():
			_ = s.Close()
		}
	}
}

// stream is a connection of which not more than so many bytes are read.
type stream struct {
	net.Conn
	left int
	once sync.Once
	done func()
}

func (s *stream) Read(b []byte) (int, error) {
	if s.left <= 0 {
		return 0, errStream
	}
	n, err := s.Conn.Read(b[:min(len(b), s.left)])
	s.left -= n
	return n, err
}

func (s *stream) Close() error {
	s.once.Do(s.done)
	return s.Conn.Close()
}

// FinalAdvertiseAddr implements memberlist.Transport, as what follows does.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.public.Addr().AsSlice(), int(t.public.Port()), nil
}

func (t *transport) WriteTo(b []byte, to string) (time.Time, error) {
	address, err := netip.ParseAddrPort(to)
	if err != nil {
		return time.Time{}, err
	}
	t.sent.Add(uint64(len(b)))
	_, err = t.udp.WriteToUDPAddrPort(b, address)
	return time.Now(), err
}

func (t *transport) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, to.Addr)
}

func (t *transport) DialTimeout(to string, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout}
	c, err := d.DialContext(t.ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	hungUp := context.AfterFunc(t.ctx, func() { _ = c.Close() })
	return &stream{Conn: c, left: maxStream, done: func() { hungUp() }}, nil
}

func (t *transport) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(to.Addr, timeout)
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }
func (t *transport) StreamCh() <-chan net.Conn           { return t.streams }

// hangUp ends what waits for a peer that may never answer. Packets still come and go.
func (t *transport) hangUp() { t.cancel() }

// Shutdown closes both sockets.
func (t *transport) Shutdown() (err error) {
	t.close.Do(func() {
		t.cancel()
		err = errors.Join(t.tcp.Close(), t.udp.Close())
	})
	return err
}
