package gossip

import "sync"

// comparison is the first one with any member. It has ended when all its records are applied; its messages come in any
// order.
type comparison struct {
	mu     sync.Mutex
	done   bool
	counts map[string]count // by member
}

type count struct {
	number    uint64
	came, all uint32 // messages; all is 0 until it is known
}

// came notes that a message of a member was taken, and how many there are if it is the last.
func (f *comparison) came(name string, number uint64, all uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done || len(f.counts) >= maxNames && f.counts[name] == (count{}) {
		return
	}
	c := f.counts[name]
	if c.number != number {
		c = count{number: number}
	}
	c.came, c.all = c.came+1, max(c.all, all)
	if f.done = c.came == c.all; f.done {
		f.counts = nil
		return
	}
	if f.counts == nil {
		f.counts = map[string]count{}
	}
	f.counts[name] = c
}

// end says that there is nothing to wait for: a member has the same records.
func (f *comparison) end() {
	f.mu.Lock()
	f.done, f.counts = true, nil
	f.mu.Unlock()
}

func (f *comparison) ended() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.done
}
