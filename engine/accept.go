package engine

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/socket"
)

const (
	maxWorkers = 1 << 20
	// acceptPause is how long accepting rests when it fails for want of descriptors or memory.
	acceptPause = 20 * time.Millisecond
	// adoptTries is how often it is tried with a connection that was accepted.
	adoptTries = 50
)

// address is one place to accept connections.
type address struct {
	name   string
	secure bool
}

// key tells plain and TLS listeners apart.
func (a address) key() string {
	if a.secure {
		return "tls " + a.name
	}
	return a.name
}

func addresses(f *config.File) []address {
	var all []address
	for _, a := range f.Server.Listen {
		all = append(all, address{name: a})
	}
	if f.Server.TLS != nil {
		for _, a := range f.Server.TLS.Listen {
			all = append(all, address{name: a, secure: true})
		}
	}
	return all
}

// acceptor is a listener as fasthttp sees it: what it accepts are conns, lent to it.
type acceptor struct {
	net.Listener
	engine  *Engine
	address address
}

// open opens what the snapshot listens on and the engine does not accept from yet. On an error it
// leaves nothing open that was not open before.
func (e *Engine) open(snap *snapshot) ([]*acceptor, error) {
	var opened []*acceptor
	for _, a := range addresses(snap.file) {
		if _, ok := e.accepting[a.key()]; ok {
			continue
		}
		l, err := e.sockets.Listen(a.name)
		if err != nil {
			for _, o := range opened {
				_ = o.Close()
			}
			e.retain(e.snapshot.Load())
			return nil, err
		}
		opened = append(opened, &acceptor{Listener: l, engine: e, address: a})
	}
	return opened, nil
}

// accept serves what was opened, each on a goroutine that ends when the socket is closed.
func (e *Engine) accept(opened []*acceptor) {
	for _, a := range opened {
		e.accepting[a.address.key()] = a
		e.acceptors.Go(func() {
			if err := e.server.Serve(a); err != nil {
				e.log.Error().Err(err).Str("address", a.address.name).Msg("accepting ended")
			}
		})
		e.log.Info().Str("address", a.Addr().String()).Bool("tls", a.address.secure).Msg("listening")
	}
}

// retain stops accepting where the snapshot does not listen, and closes the sockets it does not use.
func (e *Engine) retain(snap *snapshot) {
	var names []string
	var keys []string
	for _, a := range addresses(snap.file) {
		names, keys = append(names, a.name), append(keys, a.key())
	}
	names = append(names, e.adminAddress)
	for key, a := range e.accepting {
		if !slices.Contains(keys, key) {
			_ = a.Close() // its socket may stay: plain may have become TLS, or the reverse
			delete(e.accepting, key)
		}
	}
	if err := e.sockets.Retain(names); err != nil {
		e.log.Warn().Err(err).Msg("a socket's file stays behind")
	}
}

// Accept waits for a client. io.EOF means that the socket was closed.
func (a *acceptor) Accept() (net.Conn, error) {
	for {
		client, err := a.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil, io.EOF
		}
		if err != nil {
			a.engine.log.Error().Err(err).Str("address", a.address.name).Msg("cannot accept a connection")
			time.Sleep(acceptPause)
			continue
		}
		if limit := a.engine.snapshot.Load().server.maxConnections; limit > 0 && a.engine.conns.count() >= limit {
			a.engine.refuse(client, a.address.secure)
			continue
		}
		if polled := a.adopt(client); polled != nil {
			return lent{newConn(a.engine, polled, a.tls())}, nil
		}
	}
}

// adopt has a client's socket watched; nil: it cannot be, and is closed. That takes one more descriptor for a moment.
// While there is none the client waits, and those who come after it wait with the system: who fetches them to close
// them turns everybody away as fast as they come.
func (a *acceptor) adopt(client net.Conn) *socket.Conn {
	for range adoptTries {
		polled, err := a.engine.poller.Adopt(client)
		if err == nil {
			return polled
		}
		a.engine.log.Error().Err(err).Str("address", a.address.name).Msg("cannot accept a connection")
		time.Sleep(acceptPause)
	}
	_ = client.Close()
	return nil
}

func (a *acceptor) tls() *tls.Config {
	if !a.address.secure {
		return nil
	}
	if c := a.engine.snapshot.Load().certs; c != nil {
		return c.serving
	}
	return &tls.Config{MinVersion: tls.VersionTLS12} // no longer configured: the handshake fails
}

// refuse answers a connection beyond the limit, if that can be done without waiting, and closes it.
func (e *Engine) refuse(client net.Conn, secure bool) {
	e.metrics.Refuse() // first: who has the answer finds it counted
	if !secure {
		id := e.appendRequestID(nil)
		body := e.faults.connections.appendProblem(nil, id, "")
		head := appendStatusLine(nil, 503, []byte("Service Unavailable"))
		head = append(head, "Content-Type: application/problem+json\r\nCache-Control: no-store\r\nRetry-After: 1\r\n"...)
		if name := e.snapshot.Load().server.requestIDHeader; name != "" {
			head = appendField(head, []byte(name), id)
		}
		head = appendDate(head, time.Now())
		// The length tells a client that has it all, even if a reset follows: nobody reads its request.
		head = fmt.Appendf(head, "Connection: close\r\nContent-Length: %d\r\n\r\n", len(body))
		_ = client.SetWriteDeadline(time.Now().Add(acceptPause))
		_, _ = client.Write(append(head, body...))
	}
	_ = client.Close()
}

// buffers lends what bodies and tunnels pass through.
type buffers struct{ free sync.Pool }

func (b *buffers) acquire() []byte {
	if p, ok := b.free.Get().(*[pieceBuffer]byte); ok {
		return p[:]
	}
	return new([pieceBuffer]byte)[:]
}

func (b *buffers) release(p []byte) { b.free.Put((*[pieceBuffer]byte)(p)) }

// serverLog takes what fasthttp has to say: it knows of no fault that the engine does not log itself.
type serverLog struct{ log zerolog.Logger }

func (l serverLog) Printf(format string, args ...any) { l.log.Debug().Msgf(format, args...) }
