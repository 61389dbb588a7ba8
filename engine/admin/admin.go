// Package admin serves the gateway's control side: the status page, health, status, limits, revocations, reload
// and drain, for operators and probes.
//
//	GET    /                the status page, which lives on what follows; it holds no data itself
//	GET    /livez           200 while the process answers at all
//	GET    /readyz          200 when the gateway wants requests, else 503 with its state
//	GET    /status          the engine's status as JSON
//	GET    /metrics         the same and more for Prometheus
//	GET    /events          the same each second, as server-sent events; 503 when there are 16 watchers already
//	GET    /explain         what the live configuration would do with a request: ?method= and ?url=, with
//	                        ?header=NAME:VALUE, ?client=ADDRESS and ?body_size=BYTES as needed
//	POST   /reload          200 with the hash of the live configuration, or 422 with every fault of the new one
//	POST   /drain           202: the gateway shuts down as on SIGTERM
//	GET    /limits          the limits, what came of each, how full their table is, and how their store stands
//	GET    /limits/{limit}  the buckets of a key that are not full; ?key=VALUE for each part of the limit's key
//	DELETE /limits/{limit}  the same buckets are filled; tells how many
//	GET    /revocations     how many credentials are revoked, and which, up to 1000
//	POST   /revocations     201 once the store has a Revocation; 503 when it cannot keep it, which then is not in force
//
// Errors are problems of RFC 9457. Once [admin].token is set, all but the two probes and the page's own files
// need it.
package admin

import (
	"context"
	"errors"
	stdlog "log"
	"net"
	"net/http"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-gateway/sluice/auth/revocation"
	"github.com/sluice-gateway/sluice/engine"
	"github.com/sluice-gateway/sluice/engine/config"
)

// Gateway is what the admin side asks of the engine. Its methods are called concurrently, one
// goroutine a request; Reload may take as long as compiling a configuration does.
type Gateway interface {
	Ready() (ready bool, state string)
	Status(now time.Time) engine.Status
	Metrics() http.Handler
	Admin() config.Admin // the live table: its token is asked for at each request
	Reload() error       // engine.ErrDraining, or why the configuration stays as it was
	AskDrain()           // returns at once
	Explain(r engine.ExplainRequest) (*engine.Explanation, error)

	Limits() []engine.LimitSummary
	LimitTable() engine.LimitTable
	LimitStore() *engine.LimitStore                                      // nil: no limit is decided in Redis
	LimitStates(limit string, key []string) ([]engine.LimitState, error) // engine.ErrNoLimit, engine.ErrLimitKey, engine.ErrLimitStore
	ResetLimit(limit string, key []string) (buckets int, err error)      // likewise

	Revocations(most int, now time.Time) (count int, entries []revocation.Entry)
	Revoke(ctx context.Context, entry revocation.Entry) (revocation.Entry, error) // revocation.ErrInvalid, engine.ErrNoAuth, or the store's
}

// What one client of the admin side may cost. Bodies are bounded where they are read.
const (
	headTimeout    = 5 * time.Second
	requestTimeout = 10 * time.Second
	answerTimeout  = 30 * time.Second // a reload looks up names and reads certificates
	idleTimeout    = time.Minute
	maxHeadBytes   = 16 << 10
)

// Server is the admin side of one gateway. It is safe for concurrent use.
type Server struct {
	gateway Gateway
	server  *http.Server
	events  events
}

// New makes the admin side of a gateway. Only what goes wrong with connections is written to log.
func New(gateway Gateway, log zerolog.Logger) *Server {
	s := &Server{gateway: gateway, events: events{ended: make(chan struct{})}}
	s.server = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		ReadHeaderTimeout: headTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeadBytes,
		ErrorLog:          stdlog.New(debugLog{log}, "", 0),
	}
	s.server.RegisterOnShutdown(s.events.end)
	return s
}

// Serve accepts from l until that is closed or Shutdown is called, which are no errors.
func (s *Server) Serve(l net.Listener) error {
	err := s.server.Serve(l)
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Shutdown closes the listener and waits for the requests under way. When ctx ends first it cuts them
// and returns the context's error.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.server.Shutdown(ctx)
	if err != nil {
		_ = s.server.Close()
	}
	return err
}

// debugLog takes what net/http has to say: scanners and clients that leave, mostly.
type debugLog struct{ log zerolog.Logger }

func (l debugLog) Write(line []byte) (int, error) {
	l.log.Debug().Str("server", "admin").Msg(string(line))
	return len(line), nil
}
