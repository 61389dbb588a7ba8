//go:build !race

package revocation

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/sluice-gateway/sluice/auth"
)

func TestRevokedAllocations(t *testing.T) {
	hit, miss := principal(7), principal(-1)
	for _, n := range []int{0, 1000} {
		list := filled(t, n)
		if allocs := testing.AllocsPerRun(100, func() { list.Revoked(hit, at(0)); list.Revoked(miss, at(0)) }); allocs != 0 {
			t.Errorf("Revoked allocates %v times with %d entries, want 0", allocs, n)
		}
	}
}

// TestMemoryOfAMillion holds the List to what its comment says.
func TestMemoryOfAMillion(t *testing.T) {
	const n, most = 1_000_000, 110
	before := heap()
	list := filled(t, n)
	each := float64(heap()-before) / n
	t.Logf("%.1f bytes for each of %d entries with names of 36 bytes", each, list.Len())
	if list.Len() != n || each > most {
		t.Errorf("%d entries of %.1f bytes, want %d of at most %d", list.Len(), each, n, most)
	}
	list.Expire(at(1000))
	if left := int64(heap()) - int64(before); left > 1<<20 {
		t.Errorf("%d bytes are left after all have ended", left)
	}
	runtime.KeepAlive(list)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkRevoked(b *testing.B) {
	at0 := at(0)
	for _, size := range []struct {
		name string
		n    int
	}{{"empty", 0}, {"1k", 1000}, {"1M", 1_000_000}} {
		list := filled(b, size.n)
		for _, kind := range []string{"miss", "hit"} {
			var principals [4096]*auth.Principal // enough for the entries of each to leave the nearest caches
			for i := range principals {
				principals[i] = principal(i * 244 % max(1, size.n))
				if kind == "miss" {
					principals[i].Credential += "x"
				}
			}
			if size.n == 0 && kind == "hit" {
				continue
			}
			b.Run(size.name+"/"+kind, func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if list.Revoked(principals[i%len(principals)], at0) != (kind == "hit") {
						b.Fatal("revoked is wrong")
					}
				}
			})
		}
	}
}

// BenchmarkRevokedAllKinds makes every check look in three tables, each with a third of a million.
func BenchmarkRevokedAllKinds(b *testing.B) {
	list := New(Config{})
	for i := range 1_000_000 {
		mustAdd(b, list, Entry{Kind: Token + Kind(i%3), ID: id(i), Expires: at(10)}, at(0))
	}
	principals := make([]*auth.Principal, 4096)
	for i := range principals {
		principals[i] = &auth.Principal{Method: "jwt:main", Client: id(-i), Subject: id(-i), Credential: id(-i), IssuedAt: at(0)}
	}
	at0 := at(0)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%4096 != 0 && list.Revoked(principals[i%4096], at0) {
			b.Fatal("revoked is wrong")
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	b.ReportAllocs()
	list := New(Config{MaxEntries: 1 << 30})
	for i := 0; b.Loop(); i++ {
		mustAdd(b, list, Entry{Kind: Token, ID: id(i), Expires: at(10)}, at(0))
	}
}

func filled(t testing.TB, n int) *List {
	list := New(Config{})
	for i := range n {
		mustAdd(t, list, Entry{Kind: Token, ID: id(i), Expires: at(10)}, at(0))
	}
	return list
}

// id has the length of a UUID.
func id(i int) string { return fmt.Sprintf("%036d", i) }

func principal(i int) *auth.Principal {
	return &auth.Principal{Method: "jwt:main", Client: "mobile", Subject: "someone", Credential: id(i), IssuedAt: at(0)}
}
