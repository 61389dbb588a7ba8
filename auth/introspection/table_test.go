package introspection

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

func key(n int) digest { return sha256.Sum256([]byte(strconv.Itoa(n))) }

func TestTableHoldsWhatItPromises(t *testing.T) {
	const size = 8000
	table := newTable(size)
	now := at()
	for n := range size {
		table.put(&entry{key: key(n), until: now.Add(time.Minute).UnixNano()})
	}
	held := 0
	for n := range 2 * size {
		k := key(n)
		if e := table.find(&k, now); e != nil {
			if held++; e.key != k {
				t.Fatal("another token's answer")
			}
		}
	}
	if held < size*99/100 {
		t.Errorf("%d of %d entries are held, want all but a few", held, size)
	}
	for n := range 2 * size { // some for the second time
		table.put(&entry{key: key(n), until: now.Add(time.Minute).UnixNano()})
	}
	places := 0
	for r := range table.rows {
		for p := range ways {
			if table.rows[r].entries[p].Load() != nil {
				places++
			}
		}
	}
	if most := size + size/8 + ways; places > most {
		t.Errorf("%d entries, want %d at most", places, most)
	}
}

func TestTableComparesTheWholeDigest(t *testing.T) {
	table := newTable(100)
	now := at()
	k := key(1)
	table.put(&entry{key: k, until: now.Add(1).UnixNano()})
	for bit := range sha256.Size * 8 {
		other := k
		other[bit/8] ^= 1 << (bit % 8)
		if table.find(&other, now) != nil {
			t.Errorf("found by a digest that differs in bit %d", bit)
		}
	}
	if table.find(&k, now) == nil || table.find(&k, now.Add(1)) != nil {
		t.Error("an entry is not there, or not for its time only")
	}
}

func TestTableGivesUpWhatEndsFirst(t *testing.T) {
	table := newTable(1)
	now := at()
	put := func(n int, ttl time.Duration) { table.put(&entry{key: key(n), until: now.Add(ttl).UnixNano()}) }
	has := func(n int) bool { k := key(n); return table.find(&k, now) != nil }
	for n := range ways {
		put(n, time.Duration(10+n)*time.Second)
	}
	put(5, time.Hour) // in its own place
	if !has(0) || !has(5) {
		t.Error("an answer that replaces one of the same token costs another its place")
	}
	put(100, time.Minute)
	if has(0) || !has(1) || !has(100) {
		t.Error("another entry than the one that ends first made room")
	}
}

func TestTableUnderUse(t *testing.T) {
	table := newTable(16)
	now := at()
	principals := make([]*auth.Principal, 64)
	for n := range principals {
		principals[n] = &auth.Principal{Client: strconv.Itoa(n)}
	}
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for n := range 5_000 {
				at := (n*7 + w) % len(principals)
				k := key(at)
				if e := table.find(&k, now); e != nil && e.principal != principals[at] {
					t.Error("another token's principal")
				}
				table.put(&entry{key: k, principal: principals[at], until: now.Add(time.Duration(n+1) * time.Second).UnixNano()})
			}
		})
	}
	all.Wait()
}

func BenchmarkTableFind(b *testing.B) {
	const size = 100_000
	table := newTable(size)
	now := at()
	for n := range size {
		var k digest
		binary.LittleEndian.PutUint64(k[:], uint64(n)*0x9e3779b97f4a7c15)
		binary.LittleEndian.PutUint64(k[8:], uint64(n)*0xc2b2ae3d27d4eb4f)
		table.put(&entry{key: k, until: now.Add(time.Minute).UnixNano()})
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		var k digest
		binary.LittleEndian.PutUint64(k[:], uint64(n%size)*0x9e3779b97f4a7c15)
		binary.LittleEndian.PutUint64(k[8:], uint64(n%size)*0xc2b2ae3d27d4eb4f)
		table.find(&k, now)
		n++
	}
}

func BenchmarkAuthenticateHit(b *testing.B) {
	i, _ := newIntrospector(b)
	token, now := []byte("good-0123456789abcdef0123456789abcdef"), time.Now()
	_, err := i.Authenticate(b.Context(), token, now)
	must(b, err)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := i.Authenticate(ctx, token, now); err != nil {
			b.Fatal(err)
		}
	}
}
