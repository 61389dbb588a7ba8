//go:build !race

package engine

import (
	"testing"
)

// TestAuthenticatedAllocations holds an exchange with a key or a token that is remembered to no more than a
// public one.
func TestAuthenticatedAllocations(t *testing.T) {
	g, requests := authenticated(t)
	for name, request := range requests {
		t.Run(name, func(t *testing.T) {
			client := dial(t, g.address)
			answer := make([]byte, expectPasses(t, client, request))
			holdAllocations(t, func() error { return client.exchange(request, answer) })
		})
	}
}
