package revocation

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := New(Config{})
		store := NewMemory(list)
		runs(t, store)
		if err := store.Add(t.Context(), Entry{Kind: Token, ID: "x"}, time.Now()); !errors.Is(err, ErrInvalid) {
			t.Errorf("an entry without an end: %v, want %v", err, ErrInvalid)
		}
		must(t, store.Add(t.Context(), Entry{Kind: Token, ID: "short", Expires: time.Now().Add(90 * time.Second)}, time.Now()))
		must(t, store.Add(t.Context(), token("x"), time.Now()))
		for minutes, want := range []int{2, 2, 1} {
			if list.Len() != want {
				t.Errorf("%d entries after %d minutes, want %d", list.Len(), minutes, want)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
		}
	})
}
