package upstream

import (
	"context"
	"testing"
	"time"
)

func TestLiteralAddressesAreNeverLookedUp(t *testing.T) {
	for _, address := range []string{"127.0.0.1:80", "[::1]:80"} {
		n := newNames(address, time.Second)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		got, err := n.addresses(ctx, time.Now())
		if err != nil || len(got) != 1 || got[0] != address {
			t.Errorf("%s gives %v, %v", address, got, err)
		}
	}
}

func TestNamesAreLookedUpWhenDue(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	n := newNames("localhost:80", 30*time.Second)
	n.current.Store(&resolved{addresses: []string{"192.0.2.1:80"}, due: now.Add(30 * time.Second)})
	ctx := context.Background()

	n.refresh(ctx, now.Add(29*time.Second))
	if !n.has("192.0.2.1:80") {
		t.Fatal("looked up before it was due")
	}
	n.refresh(ctx, now.Add(30*time.Second))
	if n.has("192.0.2.1:80") {
		t.Error("not looked up when it was due")
	}
	if !n.has("127.0.0.1:80") && !n.has("[::1]:80") {
		t.Errorf("localhost is %v", n.current.Load().addresses)
	}
}

func TestLastGoodAddressesStay(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	n := newNames("name.invalid:80", time.Second)
	n.current.Store(&resolved{addresses: []string{"192.0.2.1:80"}, due: now})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	n.refresh(ctx, now)
	if !n.has("192.0.2.1:80") {
		t.Error("a failed lookup took the addresses away")
	}
	if due := n.current.Load().due; !due.After(now) {
		t.Error("a failed lookup is tried again at once, without end")
	}
}

func TestAddressesTakeTurns(t *testing.T) {
	n := newNames("name.invalid:80", time.Second)
	n.current.Store(&resolved{addresses: []string{"192.0.2.1:80", "192.0.2.2:80"}, due: time.Now().Add(time.Hour)})
	first, _ := n.addresses(context.Background(), time.Now())
	second, _ := n.addresses(context.Background(), time.Now())
	if first[0] == second[0] || len(first) != 2 || len(second) != 2 {
		t.Errorf("%v, then %v", first, second)
	}
}
