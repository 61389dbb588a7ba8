//go:build !race

package engine

import (
	"strings"
	"testing"
	"time"
)

// TestTracingAllocations holds requests that are not sampled to none, whether they bring a trace along or not.
func TestTracingAllocations(t *testing.T) {
	receiver := newSpanReceiver(t)
	g := startGateway(t, destinationTables(rawServer(t, smallAnswer))+tracingTable(receiver.URL, 0))
	for name, request := range tracedRequests() {
		t.Run(name, func(t *testing.T) {
			client := dial(t, g.address)
			answer := make([]byte, responseSize(t, client, request))
			holdAllocations(t, func() error { return client.exchange(request, answer) })
		})
	}
}

// tracedRequests is usualRequest with what makes it part of a trace.
func tracedRequests() map[string][]byte {
	all := map[string][]byte{}
	for name, lines := range map[string]string{
		"new":    "X-Nothing: 1",
		"joined": "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\r\ntracestate: vendor=1",
		"B3":     "b3: 0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
	} {
		all[name] = []byte(strings.TrimSuffix(usualRequest, "\r\n") + lines + "\r\n\r\n")
	}
	return all
}

// BenchmarkTracedExchange is BenchmarkExchange by what becomes of the spans of a request.
func BenchmarkTracedExchange(b *testing.B) {
	receiver := newSpanReceiver(b)
	for _, c := range []struct {
		name, endpoint string
		sample         float64
	}{{"no receiver", "", 0.01}, {"unsampled", receiver.URL, 0}, {"1 in 100", receiver.URL, 0.01}, {"all", receiver.URL, 1}} {
		b.Run(c.name, func(b *testing.B) {
			g := startGateway(b, destinationTables(rawServer(b, smallAnswer))+tracingTable(c.endpoint, c.sample))
			client := dial(b, g.address)
			_ = client.SetDeadline(time.Time{})
			request := []byte(usualRequest)
			answer := make([]byte, responseSize(b, client, request))
			b.ReportAllocs()
			for b.Loop() {
				if err := client.exchange(request, answer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
