package revocation

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/auth"
)

// epoch is when tests begin.
func epoch() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

func at(minutes int) time.Time { return epoch().Add(time.Duration(minutes) * time.Minute) }

// naive is what a List has to answer: a look at everything that was ever added.
type naive []Entry

func (n naive) revoked(p *auth.Principal, now time.Time) bool {
	return slices.ContainsFunc(n, func(e Entry) bool {
		names := false
		switch e.Kind {
		case Token:
			names = p.Method != "keys" && p.Credential == e.ID
		case Key:
			names = p.Method == "keys" && p.Credential == e.ID
		case Subject:
			names = p.Subject == e.ID
		case Client:
			names = p.Client == e.ID
		}
		return names && (e.Issuer == "" || e.Issuer == p.Issuer || e.Issuer == p.Method) && now.Before(e.Expires) &&
			(e.Before.IsZero() || p.IssuedAt.IsZero() || p.IssuedAt.Before(e.Before))
	})
}

// Few names and times, so that entries meet each other and principals; all ids are used as all kinds.
func someID(t *rapid.T) string { return rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "id") }

func someTime(t *rapid.T, zero bool) time.Time {
	if zero && rapid.IntRange(0, 3).Draw(t, "zero") == 0 {
		return time.Time{}
	}
	return at(rapid.IntRange(-8, 8).Draw(t, "minute"))
}

func someEntry(t *rapid.T) Entry {
	e := Entry{
		Kind: rapid.SampledFrom([]Kind{Token, Subject, Client, Key}).Draw(t, "kind"),
		ID:   someID(t), Before: someTime(t, true), Expires: someTime(t, false),
	}
	if e.Kind == Token || e.Kind == Subject {
		e.Issuer = rapid.SampledFrom([]string{"", "", "iss", "jwt:main"}).Draw(t, "issuer")
	}
	return e
}

func somePrincipal(t *rapid.T) *auth.Principal {
	p := &auth.Principal{
		Method: rapid.SampledFrom([]string{"keys", "jwt:main", "introspection:other"}).Draw(t, "method"),
		Client: someID(t), IssuedAt: someTime(t, true),
		Credential: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "credential"),
	}
	if p.Method != "keys" {
		p.Issuer = rapid.SampledFrom([]string{"", "iss", "other"}).Draw(t, "iss")
		p.Subject = rapid.SampledFrom([]string{"", "a", "c"}).Draw(t, "sub")
	}
	return p
}

func TestListAnswersAsALookAtAllEntries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list, model, minute := New(Config{}), naive{}, -8
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				e := someEntry(t)
				before, told := list.Version(), list.Changed()
				covered := list.covers(e)
				added, err := list.Add(e, at(minute))
				if err != nil {
					t.Fatal(err)
				}
				if ended := !e.Expires.After(at(minute)); added != (!covered && !ended) {
					t.Fatalf("added %v, want the reverse: covered %v, ended %v", added, covered, ended)
				}
				if closed := isClosed(told); closed != added || (list.Version() != before) != added {
					t.Fatalf("added is %v, told of it %v, version from %d to %d", added, closed, before, list.Version())
				}
				model = append(model, e)
			},
			"time passes":   func(t *rapid.T) { minute++ },
			"forget":        func(t *rapid.T) { list.Expire(at(minute)) },
			"make it fresh": func(t *rapid.T) { list = reloaded(t, list, at(minute)) },
			"": func(t *rapid.T) {
				p := somePrincipal(t)
				if got, want := list.Revoked(p, at(minute)), model.revoked(p, at(minute)); got != want {
					t.Fatalf("Revoked(%+v) is %v, want %v, of %v", p, got, want, model)
				}
				if n := len(slices.Collect(list.Entries(at(minute)))); n > list.Len() {
					t.Fatalf("%d entries, more than Len %d", n, list.Len())
				}
			},
		})
	})
}

// reloaded is another List with the same entries, gone through the binary form.
func reloaded(t *rapid.T, old *List, now time.Time) *List {
	list := New(Config{})
	for e := range old.Entries(now) {
		b, err := e.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := DecodeEntry(b)
		if err != nil {
			t.Fatal(err)
		}
		if added, err := list.Add(again, now); err != nil || !added {
			t.Fatalf("an entry of a List is added elsewhere: %v, %v", added, err)
		}
	}
	return list
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// sorted is the content of a list as text, which two lists can be compared by.
func sorted(l *List, now time.Time) string {
	var lines []string
	for e := range l.Entries(now) {
		e.Created = time.Time{} // not part of what is revoked
		lines = append(lines, fmt.Sprintf("%v", e))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestMergeLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfN(rapid.Custom(someEntry), 0, 30).Draw(t, "entries")
		shuffled := rapid.Permutation(entries).Draw(t, "shuffled")
		now := at(-9)
		fill := func(l *List, es []Entry) *List {
			for _, e := range es {
				if _, err := l.Add(e, now); err != nil {
					t.Fatal(err)
				}
			}
			return l
		}
		want := sorted(fill(New(Config{}), entries), now)
		if got := sorted(fill(New(Config{}), shuffled), now); got != want {
			t.Fatalf("commutative: in another order\n%s\nwant\n%s", got, want)
		}
		twice := fill(New(Config{}), entries)
		version := twice.Version()
		if got := sorted(fill(twice, shuffled), now); got != want || twice.Version() != version {
			t.Fatalf("idempotent: twice\n%s\nwant\n%s", got, want)
		}
		cut := rapid.IntRange(0, len(shuffled)).Draw(t, "cut")
		left, right := fill(New(Config{}), shuffled[:cut]), fill(New(Config{}), shuffled[cut:])
		right.Expire(at(-8)) // what one has forgotten already does not change what both revoke later
		if got := sorted(fill(left, slices.Collect(right.Entries(at(-8)))), at(0)); got != sorted(fill(New(Config{}), entries), at(0)) {
			t.Fatalf("associative: merged from two lists\n%s", got)
		}
	})
}

func TestWiderEntryReplaces(t *testing.T) {
	base := Entry{Kind: Subject, ID: "x", Before: at(0), Expires: at(10)}
	with := func(change func(*Entry)) Entry { e := base; change(&e); return e }
	tests := []struct {
		intent string
		second Entry
		added  bool
		left   int
	}{
		{"the same again", base, false, 1},
		{"of another age it is still the same", with(func(e *Entry) { e.Created = at(3) }), false, 1},
		{"all that was ever issued", with(func(e *Entry) { e.Before = time.Time{} }), true, 1},
		{"reaching back from later", with(func(e *Entry) { e.Before = at(1) }), true, 1},
		{"reaching back from earlier", with(func(e *Entry) { e.Before = at(-1) }), false, 1},
		{"for longer", with(func(e *Entry) { e.Expires = at(11) }), true, 1},
		{"for less long", with(func(e *Entry) { e.Expires = at(9) }), false, 1},
		{"everything, but for less long: neither may be forgotten", with(func(e *Entry) { e.Before, e.Expires = time.Time{}, at(9) }), true, 2},
		{"for one issuer: another matter", with(func(e *Entry) { e.Issuer = "jwt:main" }), true, 2},
		{"of another kind", with(func(e *Entry) { e.Kind = Client }), true, 2},
		{"of another id", with(func(e *Entry) { e.ID = "y" }), true, 2},
		{"one that has ended", with(func(e *Entry) { e.Before, e.Expires = time.Time{}, at(-1) }), false, 1},
	}
	for _, test := range tests {
		list := New(Config{})
		mustAdd(t, list, base, at(0))
		added, err := list.Add(test.second, at(0))
		if err != nil || added != test.added || list.Len() != test.left {
			t.Errorf("%s: added %v, %v, left %d; want %v, %d", test.intent, added, err, list.Len(), test.added, test.left)
		}
	}
}

func mustAdd(t testing.TB, l *List, e Entry, now time.Time) {
	t.Helper()
	if _, err := l.Add(e, now); err != nil {
		t.Fatal(err)
	}
}

func TestAddRefuses(t *testing.T) {
	tests := []struct {
		intent string
		entry  Entry
	}{
		{"no kind", Entry{ID: "x", Expires: at(1)}},
		{"a kind that there is not", Entry{Kind: kinds + 1, ID: "x", Expires: at(1)}},
		{"no id", Entry{Kind: Token, Expires: at(1)}},
		{"a long id", Entry{Kind: Token, ID: strings.Repeat("x", MaxID+1), Expires: at(1)}},
		{"an id that is not text", Entry{Kind: Token, ID: "\xff", Expires: at(1)}},
		{"a long issuer", Entry{Kind: Token, ID: "x", Issuer: strings.Repeat("x", MaxIssuer+1), Expires: at(1)}},
		{"an issuer that is not text", Entry{Kind: Token, ID: "x", Issuer: "\xff", Expires: at(1)}},
		{"an issuer of a key", Entry{Kind: Key, ID: "x", Issuer: "jwt:main", Expires: at(1)}},
		{"no end", Entry{Kind: Token, ID: "x"}},
		{"an end far from now", Entry{Kind: Token, ID: "x", Expires: epoch().Add(MaxLife + slack + 1)}},
		{"an end that cannot be counted", Entry{Kind: Token, ID: "x", Expires: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}},
		{"reaching back from before Unix", Entry{Kind: Token, ID: "x", Before: time.Unix(0, 0), Expires: at(1)}},
		{"reaching back from beyond all counting", Entry{Kind: Token, ID: "x", Before: time.Unix(1<<60, 0), Expires: at(1)}},
	}
	for _, test := range tests {
		list := New(Config{})
		if _, err := list.Add(test.entry, epoch()); !errors.Is(err, ErrInvalid) || list.Len() != 0 {
			t.Errorf("%s: %v, want %v", test.intent, err, ErrInvalid)
		}
		if err := test.entry.Check(epoch()); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: Check says %v, want %v", test.intent, err, ErrInvalid)
		}
	}
	if err := (Entry{Kind: Token, ID: "x", Expires: at(0)}).Check(at(0)); !errors.Is(err, ErrInvalid) {
		t.Errorf("Check of an ended entry: %v, want %v", err, ErrInvalid)
	}
	if err := (Entry{Kind: Token, ID: "x", Expires: epoch().Add(MaxLife)}).Check(epoch()); err != nil {
		t.Errorf("Check of the longest entry: %v", err)
	}
}

func TestRevokedWithTimesThatCannotBeCounted(t *testing.T) {
	list := New(Config{})
	mustAdd(t, list, Entry{Kind: Client, ID: "x", Before: at(0), Expires: at(10)}, at(0))
	for issued, want := range map[int64]bool{-1 << 60: true, 1 << 60: false} {
		p := &auth.Principal{Method: "jwt:main", Client: "x", IssuedAt: time.Unix(issued, 0)}
		if got := list.Revoked(p, at(0)); got != want {
			t.Errorf("issued at Unix second %d: revoked is %v, want %v", issued, got, want)
		}
	}
}

func TestListIsBounded(t *testing.T) {
	list := New(Config{MaxEntries: 100})
	for i := range 100 {
		mustAdd(t, list, Entry{Kind: Token, ID: fmt.Sprint(i), Expires: at(1 + i%2)}, at(0))
	}
	more := Entry{Kind: Client, ID: "more", Expires: at(9)}
	if _, err := list.Add(more, at(0)); !errors.Is(err, ErrFull) {
		t.Fatalf("the entry after the last: %v, want %v", err, ErrFull)
	}
	if added, err := list.Add(Entry{Kind: Token, ID: "6", Expires: at(9)}, at(0)); !added || err != nil {
		t.Fatalf("a wider entry needs no room: %v, %v", added, err)
	}
	list.Expire(at(1))
	if list.Len() != 51 {
		t.Fatalf("%d entries after half have ended, want 50 and the wider one", list.Len())
	}
	mustAdd(t, list, more, at(1))
	list.Expire(at(9))
	if list.Len() != 0 || list.held.Load() != 0 {
		t.Fatalf("%d entries after all have ended, kinds %b", list.Len(), list.held.Load())
	}
}

func TestVariantsAreBounded(t *testing.T) {
	list := New(Config{})
	for i := range maxVariants {
		mustAdd(t, list, Entry{Kind: Subject, ID: "x", Before: at(-i), Expires: at(i + 1)}, at(0))
	}
	if _, err := list.Add(Entry{Kind: Subject, ID: "x", Issuer: "jwt:main", Expires: at(1)}, at(0)); !errors.Is(err, ErrFull) {
		t.Errorf("one variant too many: %v, want %v", err, ErrFull)
	}
	if added, err := list.Add(Entry{Kind: Subject, ID: "x", Expires: at(1000)}, at(0)); !added || err != nil || list.Len() != 1 {
		t.Errorf("the widest of all: %v, %v, %d left; want it alone", added, err, list.Len())
	}
}

// TestReplacingKeepsMemory replaces the same entries often: what they leave must be reused.
func TestReplacingKeepsMemory(t *testing.T) {
	list := New(Config{})
	for i := range 20000 {
		mustAdd(t, list, Entry{Kind: Subject, ID: "x", Before: at(i), Expires: at(100000)}, at(0))
	}
	table := list.shard(Subject, hashOf(list, "x")).table.Load()
	if n := len(*table.chunks.Load()); n > 1 || table.live != 1 {
		t.Errorf("one entry, replaced often, takes %d chunks, %d records; want 1, 1", n, table.live)
	}
}

// TestConcurrentAddAndRevoked lets readers check, while others add and forget, that what was acknowledged is
// revoked and what was never added is not.
func TestConcurrentAddAndRevoked(t *testing.T) {
	const writers, each = 3, 3000
	late := at(8) // when the first of the two has ended: only the other, and what replaces both, revokes
	list := New(Config{})
	var done [writers]atomic.Int64
	var adding, reading sync.WaitGroup
	stop := make(chan struct{})
	for w := range writers {
		adding.Go(func() {
			for i := range each {
				id := fmt.Sprintf("%d-%d", w, i)
				for _, e := range []Entry{ // two that stay side by side, and one that replaces both
					{Kind: Token, ID: id, Before: at(5), Expires: at(8)},
					{Kind: Token, ID: id, Before: at(4), Expires: at(9)},
				} {
					mustAdd(t, list, e, at(0))
				}
				done[w].Store(int64(i + 1))
				mustAdd(t, list, Entry{Kind: Token, ID: id, Expires: at(10)}, at(0))
				mustAdd(t, list, Entry{Kind: Subject, ID: id, Expires: at(1)}, at(0))
				if i%200 == 0 {
					list.Expire(at(2))
				}
			}
		})
	}
	for range 3 {
		reading.Go(func() {
			for !isClosed(stop) {
				w := rand.IntN(writers)
				n := done[w].Load()
				if n == 0 {
					continue
				}
				p := &auth.Principal{Method: "jwt:main", Client: "c", Credential: fmt.Sprintf("%d-%d", w, max(0, n-1-rand.Int64N(4))), IssuedAt: at(0)}
				if !list.Revoked(p, late) {
					t.Errorf("%s was added and is not revoked", p.Credential)
					return
				}
				p.Credential += "x"
				if list.Revoked(p, late) {
					t.Errorf("%s was never added and is revoked", p.Credential)
					return
				}
			}
		})
	}
	adding.Wait()
	close(stop)
	reading.Wait()
	list.Expire(at(2))
	if list.Len() != writers*each {
		t.Errorf("%d entries in the end, want %d", list.Len(), writers*each)
	}
}

func TestChangedWakesAllWhoWait(t *testing.T) {
	list := New(Config{})
	var waiting sync.WaitGroup
	for range 10 {
		changed := list.Changed()
		waiting.Go(func() { <-changed })
	}
	mustAdd(t, list, Entry{Kind: Token, ID: "x", Expires: at(1)}, at(0))
	waiting.Wait()
	if isClosed(list.Changed()) {
		t.Error("a channel that was taken after the addition is closed")
	}
}

func hashOf(l *List, id string) uint64 { return maphash.String(l.seed, id) }
