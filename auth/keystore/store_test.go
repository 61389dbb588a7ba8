package keystore

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

// stores runs a test with two doors to one store of each kind, as two processes have.
func stores(t *testing.T, f func(t *testing.T, one, two Store)) {
	t.Run("file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "keys")
		f(t, newFile(t, path), newFile(t, path))
	})
	t.Run("redis", func(t *testing.T) {
		url := startRedis(t).url()
		one, _ := open(t, url, nil)
		two, _ := open(t, url, nil)
		f(t, one, two)
	})
}

// same compares records; an empty set of scopes has two forms.
func same(a, b auth.KeyRecord) bool {
	if a.Scopes.String() != b.Scopes.String() {
		return false
	}
	a.Scopes, b.Scopes = auth.Scopes{}, auth.Scopes{}
	return reflect.DeepEqual(a, b)
}

func TestStore(t *testing.T) {
	stores(t, func(t *testing.T, one, two Store) {
		ctx := t.Context()
		if list, err := one.List(ctx); err != nil || len(list) != 0 {
			t.Errorf("an empty store: %v, %v", list, err)
		}
		want := map[string]auth.KeyRecord{}
		many := 20 // a file is written whole, to the disk, for each
		if _, ok := one.(*Redis); ok {
			many = pageSize + pageSize/2
		}
		for i := range many {
			r := record(fmt.Sprint("key ", i))
			r.Expires = r.Created.Add(time.Duration(i) * time.Hour * 24)
			if i == 0 {
				r = auth.KeyRecord{ID: r.ID, Digest: r.Digest, Client: "ü \"\\<&>\u2028", Disabled: true}
			}
			if err := one.Put(ctx, r); err != nil {
				t.Fatal(err)
			}
			want[r.ID] = r
		}
		list, err := two.List(ctx)
		if err != nil || len(list) != len(want) {
			t.Fatalf("%d of %d records, %v", len(list), len(want), err)
		}
		for i, r := range list {
			if i > 0 && list[i-1].ID >= r.ID {
				t.Errorf("%s is listed after %s", r.ID, list[i-1].ID)
			}
			if !same(r, want[r.ID]) {
				t.Errorf("listed %+v, put %+v", r, want[r.ID])
			}
			if got, err := two.Get(ctx, r.ID); err != nil || !same(got, r) {
				t.Errorf("got %+v, %v; listed %+v", got, err, r)
			}
		}
	})
}

func TestStoreRefuses(t *testing.T) {
	stores(t, func(t *testing.T, one, two Store) {
		ctx := t.Context()
		put(t, one, "a")
		id, none := record("a").ID, record("b").ID
		broken := errors.New("broken")
		noClient := record("c")
		noClient.Client = ""
		for _, row := range []struct {
			intent string
			err    error
			want   error // nil: any
		}{
			{"a key twice", two.Put(ctx, record("a")), ErrExists},
			{"a bad record", two.Put(ctx, noClient), nil},
			{"a missing key to change", two.Update(ctx, none, func(*auth.KeyRecord) error { return nil }), ErrNotFound},
			{"a missing key to remove", two.Delete(ctx, none), ErrNotFound},
			{"a change that fails", two.Update(ctx, id, func(*auth.KeyRecord) error { return broken }), broken},
			{"a change to a bad record", two.Update(ctx, id, func(r *auth.KeyRecord) error { r.Tier = "\n"; return nil }), nil},
			{"a change of the id", two.Update(ctx, id, func(r *auth.KeyRecord) error { *r = record("b"); return nil }), nil},
		} {
			if row.err == nil || row.want != nil && !errors.Is(row.err, row.want) {
				t.Errorf("%s: got %v, want %v", row.intent, row.err, row.want)
			}
		}
		if _, err := two.Get(ctx, none); !errors.Is(err, ErrNotFound) {
			t.Errorf("a missing key: %v", err)
		}
		if list, err := two.List(ctx); err != nil || len(list) != 1 || !same(list[0], record("a")) {
			t.Errorf("refused changes left %+v, %v", list, err)
		}
		if err := two.Delete(ctx, id); err != nil {
			t.Error(err)
		}
		if err := one.Delete(ctx, id); !errors.Is(err, ErrNotFound) {
			t.Errorf("removed twice: %v", err)
		}
	})
}

// TestWritersDoNotLoseEdits has several writers append to one field and add records of their own.
func TestWritersDoNotLoseEdits(t *testing.T) {
	const writers, edits = 4, 6
	stores(t, func(t *testing.T, one, two Store) {
		ctx := t.Context()
		put(t, one, "shared")
		var all sync.WaitGroup
		for w := range writers {
			s := []Store{one, two}[w%2]
			all.Go(func() {
				for e := range edits {
					if err := s.Put(ctx, record(fmt.Sprint("own ", w, e))); err != nil {
						t.Error(err)
					}
					if err := s.Update(ctx, record("shared").ID, func(r *auth.KeyRecord) error { r.Tier += "+"; return nil }); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		list, err := one.List(ctx)
		if err != nil || len(list) != 1+writers*edits {
			t.Errorf("%d records, %v; want %d", len(list), err, 1+writers*edits)
		}
		shared, err := two.Get(ctx, record("shared").ID)
		if err != nil || strings.Count(shared.Tier, "+") != writers*edits {
			t.Errorf("%d edits of one record, %v; want %d", strings.Count(shared.Tier, "+"), err, writers*edits)
		}
	})
}
