package gossip

import (
	"net"
	"testing"
	"time"
)

// A peer that takes connections and never says a word holds up nobody who stops.
func TestStopWaitsForNoPeer(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	joining := make(chan net.Conn, 16)
	go func() {
		for {
			c, err := mute.Accept()
			if err != nil {
				return
			}
			joining <- c
		}
	}()
	g := open(t, nil, mute.Addr().String()).run(t)
	select {
	case c := <-joining:
		defer c.Close()
	case <-time.After(30 * time.Second):
		t.Fatal("it joins nobody")
	}
	began := time.Now()
	g.stop()
	if took := time.Since(began); took > streamTime/2 {
		t.Errorf("it took %v to stop", took)
	}
}

// Who is succeeded is gone at once, for its peers too, and its successor is the same member.
func TestSucceed(t *testing.T) {
	a := open(t, nil).run(t)
	b := open(t, nil, a.Address().String()).run(t)
	together(t, a, b)
	told(t, a, b)
	address := b.Address().String()
	b.Succeed()
	began := time.Now()
	b.stop()
	if took := time.Since(began); took > leaveTime/2 {
		t.Errorf("it took %v to make way", took)
	}
	until(t, "it is gone", func() bool { return a.ledger.read(func(l *tally) bool { return l.alive == 0 }) })
	next := open(t, func(c *Config) { c.Listen = address }, a.Address().String()).run(t)
	if next.Name() != b.Name() {
		t.Errorf("%q is succeeded by %q", b.Name(), next.Name())
	}
	together(t, a, next)
	told(t, a, next)
}

// A record may wait for a disk: many share the wait.
func TestRecordsAreAppliedTogether(t *testing.T) {
	const slow, many = 5 * time.Millisecond, 2000
	a := open(t, nil).run(t)
	for i := range many {
		a.facts.set[string(rune('a'+i%26))+time.Duration(i).String()] = true
	}
	b := open(t, nil, a.Address().String())
	b.config.Records = patient{b.facts, slow}
	began := time.Now()
	b.run(t)
	until(t, "it has all", func() bool { return b.facts.len() == many })
	if took := time.Since(began); took > many*slow/2 {
		t.Errorf("%d records of %v each took %v", many, slow, took)
	}
}

// patient takes its time to apply a record.
type patient struct {
	*facts
	wait time.Duration
}

func (p patient) Apply(r []byte) error {
	time.Sleep(p.wait)
	return p.facts.Apply(r)
}
