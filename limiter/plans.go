package limiter

import (
	"sync"
	"sync/atomic"
)

// plans hands out the ids that tags know plans by. Slot 0 stays empty, as a new table is full of zeros.
type plans struct {
	byID [maxPlans]atomic.Pointer[plan]

	mu      sync.Mutex
	last    uint64   // the id handed out last, if none has been returned
	free    []uint64 // returned
	kept    int      // how many ids are kept for the update that is prepared
	retired []*plan  // of rules that are gone; requests of an older configuration may still use them
}

// add gives a plan its id; one of those that were kept, or not. It fails when there are more plans than a
// tag can tell apart.
func (p *plans) add(n *plan, kept bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !kept && p.room() <= p.kept {
		return false
	}
	var id uint64
	switch {
	case len(p.free) > 0:
		id = p.free[len(p.free)-1]
		p.free = p.free[:len(p.free)-1]
	case p.last+1 < maxPlans:
		p.last++
		id = p.last
	default:
		return false
	}
	n.id = id << planShift
	p.byID[id].Store(n)
	return true
}

// room is how many plans can be added.
func (p *plans) room() int { return int(maxPlans-1-p.last) + len(p.free) }

// keep keeps so many ids for an update until release, and says whether there are as many.
func (p *plans) keep(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.room() < n {
		return false
	}
	p.kept = max(p.kept, n)
	return true
}

// release makes the ids that were kept available to everybody.
func (p *plans) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept = 0
}

func (p *plans) get(tag uint64) *plan { return p.byID[tag&planMask>>planShift].Load() }

// retire takes note that plans are not needed by the newest rules any more, and returns those that were
// not needed by the rules before either: nobody uses them now.
func (p *plans) retire(gone []*plan) (unused []*plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	unused, p.retired = p.retired, gone
	for _, u := range unused {
		p.byID[u.id>>planShift].Store(nil)
	}
	return unused
}

// recycle makes the ids of plans available that no tag names any more.
func (p *plans) recycle(unused []*plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range unused {
		p.free = append(p.free, u.id>>planShift)
	}
}
