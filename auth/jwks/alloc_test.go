//go:build !race

package jwks

import (
	"testing"
	"time"
)

func TestKeysAllocations(t *testing.T) {
	s := fetched(t, setOf(t, edKey(t, "a"), edKey(t, "b")))
	now := time.Now()
	for _, kid := range []string{"a", "", "unknown"} {
		if n := testing.AllocsPerRun(1000, func() { _, _, _ = s.Keys(now, kid, "EdDSA") }); n != 0 {
			t.Errorf("Keys of %q allocates %v times, want 0", kid, n)
		}
	}
	if n := testing.AllocsPerRun(1000, func() { s.Generation() }); n != 0 {
		t.Errorf("Generation allocates %v times, want 0", n)
	}
}
