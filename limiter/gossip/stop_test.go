package gossip

import (
	"fmt"
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

// A member that says that it has compared has all records of another one, applied.
func TestComparedMeansAll(t *testing.T) {
	const many = 6000 // several messages
	a := open(t, nil).run(t)
	for i := range many {
		a.facts.set[fmt.Sprintf("%0200d", i)] = true
	}
	for _, c := range []struct {
		intent   string
		wait     time.Duration
		from, to int // of its own records
	}{
		{"it has none", 0, 0, 0},
		{"it is slow", 100 * time.Microsecond, 0, 0},
		{"it has some that the other has not", 0, many - 5, many + 5},
		{"it has the same", 0, 0, many + 5},
	} {
		b := open(t, nil, a.Address().String())
		for i := c.from; i < c.to; i++ {
			b.facts.set[fmt.Sprintf("%0200d", i)] = true
		}
		b.config.Records = patient{b.facts, c.wait}
		if b.Stats().Compared {
			t.Errorf("%s: it has compared with nobody", c.intent)
		}
		began := time.Now()
		b.run(t)
		until(t, c.intent+": it has compared", func() bool { return b.Stats().Compared })
		if n := b.facts.len(); n < many {
			t.Errorf("%s: it has %d records of %d", c.intent, n, many)
		}
		t.Logf("%s: %v", c.intent, time.Since(began))
		b.stop()
	}
	if g := open(t, func(c *Config) { c.Records = nil }).run(t); !g.Stats().Compared {
		t.Error("one that has no records waits for some")
	}
}

// The first comparison ends when all messages of one member have come, in whichever order.
func TestFirstComparison(t *testing.T) {
	type message struct {
		name        string
		number, all int
	}
	for _, c := range []struct {
		intent   string
		messages []message
		want     bool
	}{
		{"nothing came", nil, false},
		{"all in order", []message{{"a", 1, 0}, {"a", 1, 0}, {"a", 1, 3}}, true},
		{"the last one first", []message{{"a", 1, 2}, {"a", 1, 0}}, true},
		{"one is missing", []message{{"a", 1, 0}, {"a", 1, 3}}, false},
		{"two members' do not add up", []message{{"a", 1, 0}, {"b", 2, 2}}, false},
		{"nor do two comparisons'", []message{{"a", 1, 0}, {"a", 2, 2}}, false},
		{"the second one suffices", []message{{"a", 1, 0}, {"a", 2, 2}, {"a", 2, 0}}, true},
		{"there are no records", []message{{"a", 1, 1}}, true},
	} {
		var f comparison
		for _, m := range c.messages {
			f.came(m.name, uint64(m.number), uint32(m.all))
		}
		if f.ended() != c.want {
			t.Errorf("%s: ended %v", c.intent, f.ended())
		}
	}
	var f comparison
	for i := range 10 * maxNames {
		f.came(fmt.Sprint(i), 1, 0)
	}
	if len(f.counts) > maxNames {
		t.Errorf("%d members are remembered", len(f.counts))
	}
}
