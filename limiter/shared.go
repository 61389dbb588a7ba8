package limiter

import "time"

// stance is what the fleet is like at the moment, as far as requests need to know. It is immutable.
type stance struct {
	members  int64 // nodes that are known, with this one
	prior    int64 // share of a bucket of which nothing is known, in 1/whole
	interval int64 // nanoseconds from one delta of a bucket to the next

	// Part of the fleet is silent: it may be at work where we cannot see it. Then a node goes without the part of
	// the limit that they may be using, by charging more for each token: by held, for buckets in which
	// their use is held as it was last seen, by toll for all others. Of windows, only a part is given out.
	toll, held     int64 // in 1/whole, at least whole
	part, heldPart int64 // in 1/whole, at most whole
	silent, lost   int   // peers that are; of them, those whose use is not held any more
}

// alone says that nobody else is known: nothing needs to be told.
func (f *stance) alone() bool { return f.members == 1 }

// outcome is what becomes of a request to a shared bucket.
type outcome uint8

const (
	admitted outcome = iota
	empty            // the bucket does not hold as much
	withheld         // it does, by what we know, but peers may have taken it
)

// pressure is how much of its share a node has used of a bucket.
type pressure uint8

const (
	slack pressure = iota
	some           // an eighth
	tight          // half
)

// spend is take for a shared bucket: from its value, from what the peers do not know of it, and the share. anew
// says that the window is another one than that of use.
func (p *policy) spend(value uint64, now int64, f *stance, use, meta uint64) (next uint64, o outcome, by pressure, anew bool) {
	toll, part := f.toll, f.part
	if meta&heldFlag != 0 {
		toll, part = f.held, f.heldPart
	}
	var room, need, unit int64
	switch p.algorithm {
	case TokenBucket, LeakyBucket:
		clock := p.scale.at(now)
		full := max(int64(value), clock)
		unit = p.scale.token
		need = p.cost * unit
		room = clock + p.size - full
		if p.algorithm == LeakyBucket {
			room += need // the last of the line is behind it
		}
		charge := need
		if toll != whole {
			charge = tolled(need, toll)
			if p.algorithm == TokenBucket {
				need = min(charge, p.size)
			}
		}
		next = uint64(full + charge)
	case FixedWindow:
		number, used, _ := p.fixed(value, now)
		anew = number != value>>p.count
		room, need, unit = p.partOf(part)-used, p.cost, 1
		next = number<<p.count | uint64(used+p.cost)
	default:
		w := p.sliding(value, now)
		room, need, unit = p.partOf(part)-w.current-int64(w.carried(p.window)), p.cost, 1
		w.current += p.cost
		next = p.slidingValue(&w)
	}
	if need > room {
		return 0, empty, slack, anew
	}
	if f.alone() {
		return next, admitted, slack, anew
	}
	own := int64(0)
	if !anew {
		own = ownOf(use)
	}
	ok, by := p.admits(own, room, unit, shareOr(meta, f.prior), f.members)
	if !ok {
		return 0, withheld, tight, anew
	}
	return next, admitted, by, anew
}

func shareOr(meta uint64, prior int64) int64 {
	if share := shareOf(meta); share != 0 {
		return share
	}
	return prior
}

// admits is the rule of the escrow. room is what the bucket holds by what this node knows (V), own is what it
// took itself and not all peers know of (U): so all peers see a slack of at least S = V + U, less what they took
// themselves. A node takes no more of S than its share before it has been acknowledged: U + cost <= share*S. As the
// shares add up to one at most, so do all U to S, and nothing is taken twice.
//
// A share of a small limit may be less than one request for ever. There, each node may have one that is not
// acknowledged, and as many are admitted too many as there are peers, at most.
func (p *policy) admits(own, room, unit, share, members int64) (ok bool, by pressure) {
	counted := min(max(own, -p.limit), p.limit) * unit
	most := portion(share, room+counted)
	after := counted + p.cost*unit
	switch {
	case after > most>>1:
		by = tight
	case after > most>>3:
		by = some
	}
	if after <= most && own < mostOwn {
		return true, by
	}
	return own <= 0 && p.small(members), tight
}

// small says whether a node's share may be less than a request for good.
func (p *policy) small(members int64) bool { return p.limit < 2*members*p.cost }

// portion is a share of some grains, rounded down.
func portion(share, grains int64) int64 {
	return grains>>16*share + grains&(whole-1)*share>>16
}

// tolled is a charge with the toll on it, rounded up.
func tolled(charge, toll int64) int64 {
	return int64(mulDivUp(uint64(charge), uint64(toll), whole, maxDebt))
}

// partOf is the part of a window's limit that may be given out. It is one at least.
func (p *policy) partOf(part int64) int64 {
	if part == whole {
		return p.limit
	}
	return max(portion(part, p.limit), min(p.limit, p.cost))
}

// takeShared is take for shared rules.
func (l *Limiter) takeShared(c *Charge, v *Verdict, now int64) {
	v.begin(c, now)
	b := l.book.Load()
	live := stateLive | v.plan.id | uint64(c.Key)&printMask
	n := b.first(c.Key)
	r := &b.wide[n]
	for i := range r {
		if tag := r[i].tag.Load(); tag&^versionMask == live && v.drawShared(l, b, &r[i], uint32(n*rowSize+i), tag, now) {
			return
		}
	}
	l.search(c, v, now)
}

// lookShared says what takeShared would say, and takes nothing.
func (l *Limiter) lookShared(c *Charge, v *Verdict, now int64) {
	at := l.book.Load().place(v.plan, c.Key)
	v.value, v.policy = 0, v.plan.policy.Load()
	f, use, meta := l.stance.Load(), uint64(0), uint64(0)
	if w, tag, _ := at.findWide(); w != nil {
		use, meta = w.use.Load(), w.meta.Load()
		if word := w.word.Load(); word != owned && w.tag.Load() == tag {
			v.value, v.policy = v.plan.read(word, now)
		}
	}
	v.cost = v.policy.cost
	_, o, _, _ := v.policy.spend(v.value, now, f, use, meta)
	v.Refused, v.held = o != admitted, o == withheld
}

// drawShared is draw for shared buckets.
func (v *Verdict) drawShared(l *Limiter, b *book, w *wide, id uint32, tag uint64, now int64) bool {
	f := l.stance.Load()
	for {
		use, meta := w.use.Load(), w.meta.Load()
		word := w.word.Load()
		if word == owned || w.tag.Load() != tag {
			return false
		}
		v.value, v.policy = v.plan.read(word, now)
		p := v.policy
		v.cost = p.cost
		if p.algorithm == TokenBucket && f.toll == whole && f.members != 1 {
			if next, charged, ok := p.spendPlain(v.value, p.scale.at(now), use, shareOr(meta, f.prior)); ok && w.use.CompareAndSwap(use, charged) {
				if w.word.CompareAndSwap(word, p.epoch<<valueBits|next) {
					v.chargedShared(next, w, tag, charged)
					return true
				}
				w.returned(markOf(charged), v.cost)
				stepBack()
				continue
			}
		}
		next, o, by, anew := p.spend(v.value, now, f, use, meta)
		if v.Refused = o != admitted; v.Refused {
			v.refuseShared(l, b, w, id, o == withheld, f)
			return true
		}
		if f.alone() {
			if w.word.CompareAndSwap(word, v.policy.epoch<<valueBits|next) {
				v.chargedShared(next, w, tag, use)
				return true
			}
			continue
		}
		charged := chargeUse(use, v.cost, by, anew)
		if !w.use.CompareAndSwap(use, charged) {
			stepBack()
			continue
		}
		if fresh := charged &^ use & listed; fresh != 0 {
			b.list(id, fresh)
		}
		if by == tight {
			l.hurry(v, f)
		}
		if w.word.CompareAndSwap(word, v.policy.epoch<<valueBits|next) {
			v.chargedShared(next, w, tag, charged)
			return true
		}
		w.returned(markOf(charged), v.cost)
		stepBack()
	}
}

// spendPlain is spend for what most requests find: a token bucket that is in the list it belongs to, and has so much
// left, of the node's share too, that nobody needs to hurry.
func (p *policy) spendPlain(value uint64, clock int64, use uint64, share int64) (next, charged uint64, ok bool) {
	unit := p.scale.token
	full := max(int64(value), clock)
	own := ownOf(use)
	after := (own + p.cost) * unit
	most := (clock + p.size - full) >> 16 * share // less than the escrow's: S is room, and what is ours
	ok = use&listedHot != 0 && after <= most>>1 || use&listed != 0 && after <= most>>3
	ok = ok && uint64(own) < uint64(min(p.limit, mostOwn)) && unsentOf(use) >= 0
	return uint64(full + p.cost*unit), use + uint64(p.cost)<<unsentBits + uint64(p.cost), ok
}

// chargeUse is the use after a charge, in the lists that it then belongs to.
func chargeUse(use uint64, cost int64, by pressure, anew bool) uint64 {
	lists := use & listed
	if by != slack {
		lists |= listedHot
	} else if lists == 0 {
		lists = listedCold
	}
	if anew { // what was taken in another window is no business of this one
		return packUse(lists, markOf(use)+1, cost, cost)
	}
	return packUse(lists, markOf(use), ownOf(use)+cost, unsentOf(use)+cost)
}

func (v *Verdict) chargedShared(next uint64, w *wide, tag, use uint64) {
	v.charged(next, &w.slot, tag)
	v.wide, v.mark = w, uint16(markOf(use))
}

// refuseShared counts a refusal, so that peers hear of the demand, and asks for a delta if that would help.
func (v *Verdict) refuseShared(l *Limiter, b *book, w *wide, id uint32, held bool, f *stance) {
	if f.alone() {
		return
	}
	if w.refused() {
		b.list(id, listedHot)
	}
	if v.held = held; held {
		l.hurry(v, f)
	}
}

// hurry asks for a delta before the interval is over, if that makes a difference.
func (l *Limiter) hurry(v *Verdict, f *stance) {
	if !l.ledger.pressed.Load() && v.policy.hasty(v.value, v.now, max(2*f.interval, l.ledger.lag.Load()), f.members) {
		l.ledger.press()
	}
}

// hasty says whether a bucket holds so much that it is a pity to wait for the next interval: more than the rate
// grants while acknowledgements are on their way, and more than a token or two for each node, or a quarter of a bucket
// that holds no more than that. While a bucket is nearly empty, who gets the next token is decided once an
// interval, by shares, and not by who is quickest.
func (p *policy) hasty(value uint64, now, lag, members int64) bool {
	room, unit := p.room(value, now)
	size := p.limit
	if p.window == 0 {
		size = p.size
		return room >= unit && room >= min(size/4, max(p.scale.span(time.Duration(lag), size), 2*members*p.cost*unit))
	}
	granted := int64(mulDivUp(uint64(p.limit), uint64(lag), uint64(p.window), uint64(p.limit)))
	return room >= min(size/2, max(granted, 2*members*p.cost))
}

// askShared is ask for a shared bucket that is new, and what it begins with beside its value.
func (v *Verdict) askShared(f *stance, now int64) (next, charge uint64, ok bool) {
	v.cost = v.policy.cost
	next, o, by, _ := v.policy.spend(v.value, now, f, 0, 0)
	if v.Refused = o != admitted; v.Refused || f.alone() {
		return next, 0, !v.Refused
	}
	return next, chargeUse(0, v.cost, by, false), true
}
