//go:build !race

package auth

import (
	"fmt"
	"runtime"
	"testing"
)

func TestIssuerAllocations(t *testing.T) {
	config := jwtConfig(t)
	config.Cache = 100
	i := newTestIssuer(t, config)
	ctx, now := t.Context(), jwtNow()
	for _, alg := range []string{"RS256", "ES256"} {
		token := []byte(sealed(alg, jwtClaims))
		if _, err := i.Authenticate(ctx, token, now); err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(1000, func() {
			if _, err := i.Authenticate(ctx, token, now); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: a cached token costs %v allocations", alg, n)
		}
	}
	value := []byte("Bearer " + sealed("RS256", jwtClaims))
	if n := testing.AllocsPerRun(1000, func() { BearerToken(value) }); n != 0 {
		t.Errorf("BearerToken costs %v allocations", n)
	}
}

// TestIssuerMemory: what an issuer holds depends on its configuration, and not on how many tokens it has seen.
func TestIssuerMemory(t *testing.T) {
	const size, tokens = 100_000, 110_000
	config := jwtConfig(t)
	config.Keys, config.Algorithms, config.Secret, config.Cache = nil, []string{"HS256"}, []byte(jwtSecret), size
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	i := newTestIssuer(t, config)
	length := 0
	for n := range tokens {
		token := []byte(sealed("HS256", with(fmt.Sprintf(`"jti":"token-%d","scope":"read:orders write:orders"`, n))))
		length = len(token)
		if _, err := i.Authenticate(t.Context(), token, jwtNow()); err != nil {
			t.Fatal(err)
		}
	}
	perEntry := (heap() - before) / size
	if i.cache.remembered() > size {
		t.Errorf("%d tokens are remembered, and %d may be", i.cache.remembered(), size)
	}
	t.Logf("%d tokens of %d bytes: %d bytes each", i.cache.remembered(), length, perEntry)
	if most := uint64(16 + 3*length + 1024); perEntry > most {
		t.Errorf("%d bytes for each token remembered, want at most %d", perEntry, most)
	}
	runtime.KeepAlive(i)
}
