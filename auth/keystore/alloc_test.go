//go:build !race

package keystore

import (
	"context"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

func TestLookupAllocations(t *testing.T) {
	f, r := filled(t, 1000)
	_, stale := filled(t, 1000)
	stale.epoch.Store(nil)
	stale.down.Store(true)
	r.learn(&entry{digest: auth.DigestKey([]byte("bad")), refused: unknownKey})
	ctx, now := context.Background(), time.Now()
	for _, row := range []struct {
		intent string
		store  auth.KeyLookup
		key    string
		fails  bool
	}{
		{"a key in the file", f, "key-1", false},
		{"a key that is not in the file", f, "bad", true},
		{"a key that Redis keeps current", r, "key-1", false},
		{"a key that Redis refused", r, "bad", true},
		{"a key that is used while Redis is away", stale, "key-1", false},
		{"an unknown key while Redis is away", stale, "bad", true},
	} {
		method, key := auth.NewKeys(row.store), []byte(row.key)
		if _, err := method.Authenticate(ctx, key, now); (err != nil) != row.fails {
			t.Fatalf("%s: %v", row.intent, err)
		}
		if n := testing.AllocsPerRun(1000, func() { method.Authenticate(ctx, key, now) }); n != 0 {
			t.Errorf("%s: %v allocations", row.intent, n)
		}
	}
}
