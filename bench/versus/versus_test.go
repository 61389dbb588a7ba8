package versus

import "testing"

func loadSets(tb testing.TB) []set {
	tb.Helper()
	all, err := sets()
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

func load(tb testing.TB, l library, s set) lookup {
	tb.Helper()
	find, err := l.load(s.routes)
	if err != nil {
		tb.Fatal(err)
	}
	return find
}

// timeLookups cycles over the set's requests.
func timeLookups(b *testing.B, find lookup, requests []request) {
	next := 0
	for b.Loop() {
		if !find(&requests[next]) {
			b.Fatalf("no route for %s %s", requests[next].method, requests[next].path)
		}
		if next++; next == len(requests) {
			next = 0
		}
	}
}

func BenchmarkRouter(b *testing.B) {
	all := loadSets(b)
	for _, l := range libraries() {
		b.Run(l.name, func(b *testing.B) {
			for _, s := range all {
				if !l.holds(s) {
					continue
				}
				b.Run(s.name, func(b *testing.B) {
					find := load(b, l, s)
					b.ReportAllocs()
					b.ResetTimer()
					timeLookups(b, find, s.requests)
				})
			}
		})
	}
}

// Every library must find every request, or its time means nothing.
func TestEveryLibraryFindsEveryRequest(t *testing.T) {
	for _, s := range loadSets(t) {
		if testing.Short() && len(s.routes) > 10_000 {
			continue
		}
		for _, l := range libraries() {
			if !l.holds(s) {
				continue
			}
			find := load(t, l, s)
			for i := range s.requests {
				if !find(&s.requests[i]) {
					t.Fatalf("%s, %s: no route for %s %s", l.name, s.name, s.requests[i].method, s.requests[i].path)
				}
			}
		}
	}
}
