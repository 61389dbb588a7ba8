package router

import (
	"bytes"
	"math/bits"
)

// Outcome is how a match ended.
type Outcome uint8

const (
	// Found: the route takes the request.
	Found Outcome = iota
	// NotFound: no route takes host and path, whatever the method (404).
	NotFound
	// MethodNotAllowed: a route takes host and path, but none takes the method (405).
	MethodNotAllowed
)

// Captures says which bytes of a matched path the captures and the "*" of its route stand for. It
// holds positions, not bytes: every method needs the path that was matched. The zero value is ready;
// one value may serve any number of matches, one at a time.
type Captures struct {
	spans [MaxCaptures]span
	n     int
	rest  int // where "*" starts, plus one; 0 if there is none
}

// span is the bytes from start up to, not including, end.
type span struct{ start, end uint32 }

// Len is the number of captures in the route matched last, 0 if none was.
func (c *Captures) Len() int { return c.n }

// Value returns the bytes that capture i, less than Len, stands for: a whole segment, as in path.
func (c *Captures) Value(path []byte, i int) []byte {
	s := c.spans[i]
	return path[s.start:s.end]
}

// Rest returns what the "*" of the route stands for. It starts with "/", and is "/" when nothing is
// left: "/users/*" gives "/42" for "/users/42", and "/" for "/users/" and "/users". It is nil if the
// route has no "*".
func (c *Captures) Rest(path []byte) []byte {
	switch {
	case c.rest == 0:
		return nil
	case c.rest > len(path):
		return path[:1]
	}
	return path[c.rest-1:]
}

// Match finds the best route for a request and fills c. method is as in the request line, host as in
// the Host header, in any case, with or without port and trailing dot. path must come from
// AppendNormalized. The route is -1 and c empty unless the outcome is Found. c must not be nil.
func (t *Table) Match(method, host, path []byte, c *Captures) (route int, o Outcome) {
	wanted := t.methods.bit(method)
	var seen methodSet
	if t.hosts.empty() {
		route, seen = t.search(t.hosts.any, path, wanted, c)
	} else {
		route, seen = t.searchHosts(host, path, wanted, c)
	}
	switch {
	case route >= 0:
		return route, Found
	case seen == 0:
		return -1, NotFound
	}
	return -1, MethodNotAllowed
}

// AppendAllow appends the methods of all routes that take host and path, as an Allow header has them:
// "GET, POST", sorted. A route of any method counts with the standard methods that can be routed and
// those that other routes name.
func (t *Table) AppendAllow(dst, host, path []byte) []byte {
	var c Captures
	_, seen := t.searchHosts(host, path, 0, &c)
	return t.methods.appendNames(dst, seen)
}

// searchHosts searches the trees of a host, from the most specific to any host.
func (t *Table) searchHosts(host, path []byte, wanted methodSet, c *Captures) (route int, seen methodSet) {
	var buf [maxHost]byte
	name := hostName(host, &buf)
	tree := t.hosts.exact[string(name)]
	for at := 0; ; {
		found, more := t.search(tree, path, wanted, c)
		seen |= more
		if found >= 0 {
			return found, seen
		}
		if at == len(name) {
			break
		}
		tree, at = t.hosts.nextWildcard(name, at)
	}
	found, more := t.search(t.hosts.any, path, wanted, c)
	return found, seen | more
}

// search looks through one tree for the best route that takes path and a wanted method. Without one
// the route is -1, and seen holds the methods of all routes that take path.
//
// It goes down as far as it can. A node at which nothing is left to try names the node to retreat to;
// where that one stands in the path follows from the captures made before it, so nothing need be
// remembered on the way down.
func (t *Table) search(root uint32, path []byte, wanted methodSet, c *Captures) (route int, seen methodSet) {
	c.n, c.rest = 0, 0
	if root == none || len(path) == 0 || path[0] != '/' {
		return -1, 0
	}
	n, i := t.descend(root, path, 0, c)
	for arrived := i == len(path); ; {
		at := &t.nodes[n]
		if arrived && at.end != none {
			route, methods := t.take(at.end, wanted)
			if route >= 0 {
				c.n = int(at.caps)
				return route, 0
			}
			seen |= methods
		}
		if at.flags&hasRest != 0 {
			route, methods := t.take(t.detours[n].rest, wanted)
			if route >= 0 {
				c.n, c.rest = int(at.caps), i+1
				return route, 0
			}
			seen |= methods
		}
		back := t.detours[n]
		if back.retreat == none {
			return -1, seen
		}
		n, arrived = back.retreat, false
		i = t.position(n, c)
		if back.try != hasCapture {
			continue
		}
		if end := segmentEnd(path, i+1); end > i+1 {
			n = t.capture(n, span{uint32(i + 1), uint32(end)}, c)
			n, i = t.descend(n, path, end, c)
			arrived = i == len(path)
		}
	}
}

// descend goes from node n, which takes path[:i], to the last node that the rest of path leads to: by
// the literal wherever there is one for a segment, else by the capture. It returns that node and how
// much of path it takes.
func (t *Table) descend(n uint32, path []byte, i int, c *Captures) (last uint32, taken int) {
	for i < len(path) {
		from, end := i+1, len(path)
		head, tail := wordAt(path, from), uint64(0)
		if slashes := slashBits(head); slashes != 0 {
			width := bits.TrailingZeros64(slashes) &^ 7
			head &= 1<<(width&63) - 1
			end = from + width/8
		} else if end-from > wordSize {
			tail, end = spellTail(path, from)
		}
		at := &t.nodes[n]
		kid := uint32(none)
		if at.flags&hasLiterals != 0 {
			kid = at.place(hash(head, tail))
			if k := &t.nodes[kid]; k.head != head || k.tail != tail || int(k.size) != end-from || end-from > exactSize {
				kid = t.probe(kid, head, tail, path[from:end])
			}
		}
		if kid == none {
			if at.flags&hasCapture == 0 || end == from {
				break
			}
			kid = t.capture(n, span{uint32(from), uint32(end)}, c)
		}
		n, i = kid, end
	}
	return n, i
}

// capture goes on to the capture behind node n.
func (t *Table) capture(n uint32, s span, c *Captures) (kid uint32) {
	at := &t.nodes[n]
	c.spans[at.caps%MaxCaptures] = s
	return at.captureKid()
}

// probe looks for the literal with this segment in a block, from a place on.
func (t *Table) probe(place uint32, head, tail uint64, segment []byte) (kid uint32) {
	for {
		k := &t.nodes[place]
		if k.head == head && k.tail == tail && int(k.size) == len(segment) &&
			(len(segment) <= exactSize || string(segment) == string(t.text[t.detours[place].text:][:k.size])) {
			return place
		}
		if k.flags&hasMore == 0 {
			return none
		}
		place++
	}
}

// take finds the first route of a leaf that takes a wanted method; without one, it tells which methods
// the leaf takes.
func (t *Table) take(leaf uint32, wanted methodSet) (route int, methods methodSet) {
	for _, taker := range t.takers[leaf:] {
		if taker.methods&wanted != 0 {
			return taker.route(), 0
		}
		methods |= taker.methods
		if taker.last() {
			break
		}
	}
	return -1, methods
}

// position returns how much of a path node n takes, given the captures that lead to it.
func (t *Table) position(n uint32, c *Captures) int {
	position := t.detours[n].start
	if caps := t.nodes[n].caps; caps > 0 {
		position += c.spans[(caps-1)%MaxCaptures].end
	}
	return int(position)
}

// segmentEnd returns where the segment of path that starts at from ends.
func segmentEnd(path []byte, from int) int {
	if size := bytes.IndexByte(path[from:], '/'); size >= 0 {
		return from + size
	}
	return len(path)
}
