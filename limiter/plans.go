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
	retired []*plan  // of rules that are gone; requests of an older configuration may still use them
}

// add gives a plan its id. It fails when there are more plans than a tag can tell apart.
func (p *plans) add(n *plan) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
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

// room says whether so many plans can be added.
func (p *plans) room(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int(maxPlans-1-p.last)+len(p.free) >= n
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
