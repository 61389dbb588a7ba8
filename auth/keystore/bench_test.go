package keystore

import (
	"fmt"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

// filled makes a store of each kind that has n keys at hand.
func filled(t testing.TB, n int) (*File, *Redis) {
	t.Helper()
	f, r := &File{}, newBareRedis(t)
	records := make([]auth.KeyRecord, n)
	for i := range n {
		records[i] = record(fmt.Sprint("key-", i))
		r.learn(newEntry(&records[i]))
	}
	f.entries.Store(newIndex(records))
	return f, r
}

func BenchmarkAuthenticate(b *testing.B) {
	const many = 100_000
	f, r := filled(b, many)
	for _, store := range []struct {
		name   string
		lookup auth.KeyLookup
	}{{"file", f}, {"redis", r}} {
		for _, n := range []int{1, 1000, many} {
			b.Run(fmt.Sprintf("%s/keys=%d", store.name, n), func(b *testing.B) { benchmarkKeys(b, store.lookup, n) })
		}
	}
}

func benchmarkKeys(b *testing.B, store auth.KeyLookup, n int) {
	method, now := auth.NewKeys(store), time.Now()
	shown := make([][]byte, n)
	for i := range shown {
		shown[i] = fmt.Append(nil, "key-", i)
	}
	ctx := b.Context()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := method.Authenticate(ctx, shown[i], now); err != nil {
			b.Fatal(err)
		}
		if i++; i == n {
			i = 0
		}
	}
}
