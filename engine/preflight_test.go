package engine

import (
	"testing"

	"github.com/sluice-gateway/sluice/engine/wire"
)

// What calls itself a preflight, and would do more than ask, needs credentials like any other request.
func TestPreflightOnlyAsks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		intent  string
		framing wire.Framing
		upgrade string
		passes  bool
	}{
		{"a preflight", wire.Framing{}, "", true},
		{"one that says how long its body is not", wire.Framing{Kind: wire.Length}, "", true},
		{"a body", wire.Framing{Kind: wire.Length, Length: 1}, "", false},
		{"a body in chunks", wire.Framing{Kind: wire.Chunked}, "", false},
		{"another protocol", wire.Framing{}, "websocket", false},
	} {
		x, _ := policed(t)
		x.show("Origin: https://app.test", "Access-Control-Request-Method: PUT")
		x.method, x.framing, x.upgrade = []byte("OPTIONS"), c.framing, []byte(c.upgrade)
		if fault := x.authenticate(); (fault == nil) != c.passes {
			t.Errorf("%s: %v", c.intent, fault)
		}
	}
}
