package limiter

import "time"

// MemberState is how a peer is.
type MemberState uint8

// The states. A peer that is gone has left, or has been dead for so long that nobody waits for it.
const (
	Alive MemberState = iota
	Silent
	Gone
)

// Member is a peer: a node that shares rules with this one.
type Member struct {
	Peer  int // its number, by which Merge knows it: small, and nobody else's until it is gone
	State MemberState
	// Missed says that some of what it let pass while it was silent, the last time, will never be told, or may not: it
	// has begun anew.
	Missed bool
}

// peer is what the ledger knows of one.
type peer struct {
	state  MemberState
	since  int64 // when that began
	known  bool
	missed bool
}

// Fleet says who the peers are: all that are known, without this node. Who is not listed is gone. It is to be called
// at every change.
func (l *Limiter) Fleet(now time.Duration, members []Member) {
	g := l.ledger
	g.mu.Lock()
	defer g.mu.Unlock()
	at := clamp(now)
	listed := make([]bool, len(g.peers))
	extra := 0
	for _, m := range members {
		switch {
		case m.State == Gone:
		case m.Peer < 0 || m.Peer >= len(g.peers) || listed[m.Peer]:
			extra++ // it counts, but nothing is remembered of it
		default:
			listed[m.Peer] = true
			if p := &g.peers[m.Peer]; !p.known || p.state != m.State {
				*p = peer{state: m.State, since: at, known: true}
			}
			g.peers[m.Peer].missed = m.Missed
		}
	}
	for i := range g.peers {
		if !listed[i] {
			g.peers[i] = peer{state: Gone}
		}
	}
	g.extra = extra
	l.takeStance(at)
	if b := l.book.Load(); b != nil {
		for part := range coldEvery {
			l.reckon(b, part, at)
		}
	}
}

// takeStance tells requests what the fleet is like.
func (l *Limiter) takeStance(now int64) {
	g := l.ledger
	f := stance{members: int64(1 + g.extra), interval: g.interval}
	for i := range g.peers {
		p := &g.peers[i]
		if !p.known {
			continue
		}
		f.members++
		if p.state == Silent {
			f.silent++
			if now-p.since > hold {
				f.lost++
			}
		}
	}
	if was := l.stance.Load(); was != nil && was.members == f.members && was.silent == f.silent && was.lost == f.lost {
		return
	}
	f.prior = whole / f.members
	f.toll, f.part = levy(f.members, int64(f.silent))
	f.held, f.heldPart = levy(f.members, int64(f.lost))
	next := f // not f, which then would be allocated by every call
	l.stance.Store(&next)
}

// levy is by how much a node charges more when so many members are out of sight, and the part of a window's limit
// that it gives out.
func levy(members, silent int64) (toll, part int64) {
	seen := members - silent
	return (whole*members + seen - 1) / seen, whole * seen / members
}

// tick does what is to be done at every interval: it lets silent peers use what they last used, and shares buckets
// out anew.
func (l *Limiter) tick(b *book, now int64) {
	g := l.ledger
	l.takeStance(now)
	g.part = (g.part + 1) % coldEvery
	l.reckon(b, g.part, now)
	if f := l.stance.Load(); f.silent > f.lost {
		for part := 1; part < coldEvery; part++ {
			l.reckon(b, (g.part+part)%coldEvery, now)
		}
	}
}

// reckon does so for a part of the records: each has its turn as often as what can wait is told.
func (l *Limiter) reckon(b *book, part int, now int64) {
	g := l.ledger
	f := l.stance.Load()
	for i := part; i < len(b.records.all); i += coldEvery {
		r := &b.records.all[i]
		if r.last == 0 {
			continue
		}
		uses := b.records.usesOf(i)
		l.repay(b, r, uses, now)
		r.expire(uses, g.peers, now)
		r.owing = false
		if f.silent > f.lost {
			r.owing = l.hold(b, r, uses, now, f)
		}
		if now-r.last > 2*fresh && !r.owing {
			b.at(r.id).setShare(r.tag, 0, false)
			r.last = 0
			continue
		}
		l.weigh(r, uses, now, f)
		if r.idle(now) {
			b.hot.add(r.id) // to say so
		}
		l.share(b, r, now)
	}
}
