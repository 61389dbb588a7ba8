package upstream

import (
	"sync"
	"sync/atomic"
)

// reserve is the connections to a target that wait to be leased again. The one that was leased last is leased first, so
// that those that are not needed grow old; but of what has just been given back it cannot be said yet, without a system
// call, whether anything has arrived since, so others come before it.
type reserve struct {
	most int          // may wait
	open atomic.Int64 // connections there are, leased or not

	mu      sync.Mutex
	closed  bool
	settled []*Conn // in the order in which they came
	fresh   []*Conn // likewise, after those
	tick    uint32  // the time, in calls of age
}

// take takes a connection out; nil: there is none.
func (r *reserve) take() (c *Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for n < len(r.fresh) && r.fresh[n].settled() {
		n++
	}
	if n > 0 {
		r.settled = append(r.settled, r.fresh[:n]...)
		r.fresh = cut(r.fresh, n)
	}
	from := &r.settled
	if len(*from) == 0 {
		from = &r.fresh
	}
	if last := len(*from) - 1; last >= 0 {
		c, (*from)[last] = (*from)[last], nil
		*from = (*from)[:last]
	}
	return c
}

// keep takes a connection in, unless there are enough.
func (r *reserve) keep(c *Conn) (kept bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.count() >= r.most {
		return false
	}
	c.keptAt = r.tick
	r.fresh = append(r.fresh, c)
	return true
}

// age is called once in a while. It closes what has waited for more calls than given.
func (r *reserve) age(most uint32) {
	r.mu.Lock()
	r.tick++
	old := r.oldest(&r.settled, most)
	if len(r.settled) == 0 {
		old = append(old, r.oldest(&r.fresh, most)...)
	}
	r.mu.Unlock()
	r.discard(old...)
}

// oldest takes out those that have waited for more than most.
func (r *reserve) oldest(from *[]*Conn, most uint32) (old []*Conn) {
	n := 0
	for n < len(*from) && r.tick-(*from)[n].keptAt > most {
		n++
	}
	if n > 0 {
		old = append(old, (*from)[:n]...)
		*from = cut(*from, n)
	}
	return old
}

// close closes what waits; nothing will wait any more.
func (r *reserve) close() {
	r.mu.Lock()
	r.closed = true
	left := append(r.settled, r.fresh...)
	r.settled, r.fresh = nil, nil
	r.mu.Unlock()
	r.discard(left...)
}

func (r *reserve) discard(all ...*Conn) {
	for _, c := range all {
		_ = c.Close()
		r.open.Add(-1)
	}
}

// idle is how many wait.
func (r *reserve) idle() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count()
}

func (r *reserve) count() int { return len(r.settled) + len(r.fresh) }

// cut cuts the first n off.
func cut(all []*Conn, n int) []*Conn {
	rest := copy(all, all[n:])
	clear(all[rest:])
	return all[:rest]
}
