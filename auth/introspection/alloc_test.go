//go:build !race

package introspection

import (
	"testing"
	"time"
)

func TestAuthenticateAllocations(t *testing.T) {
	i, _ := newIntrospector(t)
	now, ctx := time.Now(), t.Context()
	for _, token := range []string{"good", "bad"} {
		_, _ = i.ask1(t, token)
		raw := []byte(token)
		if n := testing.AllocsPerRun(1000, func() { _, _ = i.Authenticate(ctx, raw, now) }); n != 0 {
			t.Errorf("a %s token that is remembered costs %v allocations, want 0", token, n)
		}
	}
}
