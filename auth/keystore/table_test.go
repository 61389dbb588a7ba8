package keystore

import (
	"encoding/binary"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/auth"
)

// near makes digests that fall into few places, so that windows overlap and fill.
func near(n uint64) (d auth.Digest) {
	binary.LittleEndian.PutUint64(d[:], n%8)
	binary.LittleEndian.PutUint64(d[8:], n)
	return d
}

// TestTableIsABoundedMap compares it with a map: it never gives what was not put last, and never holds more than
// its limit. It may forget.
func TestTableIsABoundedMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 40).Draw(t, "limit")
		table, model := newTable(limit), map[uint64]*entry{}
		for i := range rapid.IntRange(1, 200).Draw(t, "steps") {
			n := rapid.Uint64Range(0, 60).Draw(t, "digest")
			switch rapid.IntRange(0, 3).Draw(t, "action") {
			case 0, 1:
				model[n] = &entry{digest: near(n), read: int64(i)}
				table.put(model[n])
				if table.find(near(n)) != model[n] {
					t.Fatal("what was just put is not found")
				}
			case 2:
				delete(model, n)
				table.remove(near(n))
			}
			if got := table.find(near(n)); got != nil && got != model[n] {
				t.Fatalf("found %v, put %v", got, model[n])
			}
			wantCounted(t, table)
		}
	})
}

func wantCounted(t *rapid.T, table *table) {
	seen := map[auth.Digest]bool{}
	for i := range table.slots {
		if e := table.slots[i].Load(); e != nil {
			if seen[e.digest] {
				t.Fatal("a digest is there twice")
			}
			seen[e.digest] = true
		}
	}
	if len(seen) != table.count || table.count > table.limit {
		t.Fatalf("%d entries, counted %d, limit %d", len(seen), table.count, table.limit)
	}
}

func TestFullTableKeepsWhatIsUsed(t *testing.T) {
	const limit = 1000
	table := newTable(limit)
	used := make([]*entry, limit/10)
	for i := range used {
		used[i] = &entry{digest: auth.DigestKey(binary.LittleEndian.AppendUint64([]byte("used"), uint64(i)))}
		table.put(used[i])
	}
	for i := range uint64(3 * limit) {
		table.put(&entry{digest: auth.DigestKey(binary.LittleEndian.AppendUint64(nil, i)), read: int64(i)})
		if i%100 == 0 {
			for _, e := range used {
				table.find(e.digest)
			}
		}
	}
	kept := 0
	for _, e := range used {
		if table.find(e.digest) == e {
			kept++
		}
	}
	if kept < len(used)*9/10 {
		t.Errorf("%d of %d entries in use were kept", kept, len(used))
	}
}

func TestIndexForgetsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		numbers := rapid.SliceOfNDistinct(rapid.Uint64Range(0, 60), 0, 50, rapid.ID).Draw(t, "digests")
		var records []auth.KeyRecord
		for _, n := range numbers {
			records = append(records, auth.KeyRecord{Digest: near(n)})
		}
		x := newIndex(records)
		for n := range uint64(61) {
			if e := x.find(near(n)); (e != nil) != slices.Contains(numbers, n) || e != nil && e.digest != near(n) {
				t.Fatalf("found %v for %d of %v", e, n, numbers)
			}
		}
	})
}

// TestTableIsReadWhileWritten is for the race detector.
func TestTableIsReadWhileWritten(t *testing.T) {
	table := newTable(16)
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for i := range uint64(5000) {
				if e := table.find(near(i % 40)); e != nil && e.digest != near(i%40) {
					t.Error("found the entry of another digest")
				}
			}
		})
	}
	for i := range uint64(5000) {
		table.put(&entry{digest: near(i % 40)})
		table.remove(near((i + 7) % 40))
	}
	all.Wait()
}
