package router

// branch is a node of the tree of segments that routes of one host are compiled into. The root stands
// for no segment at all, its children for the first segment.
type branch struct {
	literals map[string]*branch // by segment; "" is what follows a trailing slash
	capture  *branch
	end      leaf // patterns that end here
	rest     leaf // patterns that go on with a closing "*"
}

// leaf holds the routes of one pattern and one host. Their methods do not intersect, except that the
// last one may take any method.
type leaf []taker

// taker is a route and the methods it takes. The takers of a leaf stand in a row in Table.takers.
type taker struct {
	methods methodSet
	tagged  uint32 // the route's index, doubled, plus one if it is the last of its leaf
}

func newTaker(route int, methods methodSet) taker { return taker{methods, uint32(route) << 1} }

func (t taker) route() int { return int(t.tagged >> 1) }
func (t taker) last() bool { return t.tagged&1 != 0 }

// add gives the leaf one more route, unless one of the same rank takes the same methods.
func (l *leaf) add(t taker) (conflict taker, ok bool) {
	for _, other := range *l {
		sameRank := (other.methods == anyMethod) == (t.methods == anyMethod)
		if sameRank && other.methods&t.methods != 0 {
			return other, false
		}
	}
	*l = append(*l, t)
	if n := len(*l); n > 1 && (*l)[n-2].methods == anyMethod {
		(*l)[n-2], (*l)[n-1] = (*l)[n-1], (*l)[n-2]
	}
	return taker{}, true
}

// methods is the union of what the routes take.
func (l leaf) methods() (set methodSet) {
	for _, t := range l {
		set |= t.methods
	}
	return set
}

// leaf returns the leaf of a pattern, made if need be.
func (b *branch) leaf(p pattern) *leaf {
	for _, s := range p.segments {
		if s.capture {
			if b.capture == nil {
				b.capture = new(branch)
			}
			b = b.capture
			continue
		}
		next := b.literals[s.text]
		if next == nil {
			if b.literals == nil {
				b.literals = map[string]*branch{}
			}
			next = new(branch)
			b.literals[s.text] = next
		}
		b = next
	}
	if p.rest {
		return &b.rest
	}
	return &b.end
}

// find returns the branch of segments that were inserted.
func (b *branch) find(segments []segment) *branch {
	for _, s := range segments {
		if s.capture {
			b = b.capture
		} else {
			b = b.literals[s.text]
		}
	}
	return b
}

// hides reports whether a "*" at b can match nothing that better patterns do not take with all these
// methods, and if so one route that takes a share. It decides exactly: "*" stands for nothing, for "/",
// or for at least one segment. Of segments, those matter that no literal spells, so that only
// captures and the "*" behind them can take them.
func (b *branch) hides(methods methodSet, root bool) (by int, hidden bool) {
	slash := b.literals[""]
	if slash == nil || methods&^slash.end.methods() != 0 {
		return 0, false
	}
	if !root && methods&^b.end.methods() != 0 {
		return 0, false
	}
	if b.capture == nil {
		return 0, false
	}
	left := methods &^ b.capture.rest.methods()
	if left == 0 {
		return b.capture.rest[0].route(), true
	}
	return b.capture.hides(left, false)
}
