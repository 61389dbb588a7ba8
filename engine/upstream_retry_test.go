package engine

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// However many tries a request may have, targets that are all sick get little more than they are asked for: of 32
// requests in flight no more than six are retries.
func TestRetriesDoNotMultiply(t *testing.T) {
	t.Parallel()
	const clients, requests = 32, 1000
	die := func(c net.Conn, _ *http.Request) { _ = c.Close() }
	all := []*actor{startActor(t, die), startActor(t, die), startActor(t, die)}
	g := startGateway(t, actorsUpstream("[upstream.origin.retry]\nattempts = 4\n[upstream.origin.breaker]\nmin_requests = 1000000", all...))
	var work sync.WaitGroup
	var asked atomic.Int64 // by all of them, so that they end together: fewer in flight may retry as much
	for range clients {
		work.Go(func() {
			for asked.Add(1) <= requests {
				if r, body := g.ask(t, plainGet); r.StatusCode != 502 {
					t.Errorf("%s %s", r.Status, body)
				}
			}
		})
	}
	work.Wait()
	tries := int64(0)
	for _, a := range all {
		tries += a.served.Load()
	}
	if u := g.upstream(); tries > requests*3/2 || u.Retries == 0 || u.Refused == 0 {
		t.Errorf("%d tries for %d requests, %d retries and %d refused", tries, requests, u.Retries, u.Refused)
	}
}
