package router

import (
	"maps"
	"math/bits"
	"slices"
)

// freezer lays the trees of segments out in flat arrays.
type freezer struct {
	nodes   []node
	detours []detour
	takers  []taker
	text    []byte
}

func newFreezer() *freezer {
	f := &freezer{takers: make([]taker, none+1)}
	f.reserve(none + 1)
	return f
}

// tree freezes the tree of one host and returns its root.
func (f *freezer) tree(root *branch) (at uint32) {
	at = f.reserve(1)
	f.put(at, root, node{size: voidSize}, detour{})
	return at
}

// reserve makes room for n nodes that take nothing until they are put.
func (f *freezer) reserve(n int) (first uint32) {
	first = uint32(len(f.nodes))
	for range n {
		f.nodes = append(f.nodes, node{size: voidSize})
		f.detours = append(f.detours, detour{})
	}
	return first
}

// leaf stores routes and returns where.
func (f *freezer) leaf(l leaf) uint32 {
	if len(l) == 0 {
		return none
	}
	first := uint32(len(f.takers))
	f.takers = append(f.takers, l...)
	f.takers[len(f.takers)-1].tagged |= 1
	return first
}

// put completes a node, which knows its literal and how to get back from it, and lays it out at index
// at, with all that is behind it further on.
func (f *freezer) put(at uint32, b *branch, n node, d detour) {
	n.end, d.rest = f.leaf(b.end), f.leaf(b.rest)
	behind := detour{start: d.start, retreat: d.retreat, try: d.try}
	if d.rest != none {
		n.flags |= hasRest
		behind.retreat, behind.try = at, hasRest
	}
	behindCapture := detour{retreat: behind.retreat, try: behind.try}
	if b.capture != nil {
		n.flags |= hasCapture
		n.kids = f.reserve(1)
		behind.retreat, behind.try = at, hasCapture
	}
	if len(b.literals) > 0 {
		f.putLiterals(&n, b, behind)
	}
	if b.capture != nil {
		f.put(n.captureKid(), b.capture, node{size: voidSize, caps: n.caps + 1}, behindCapture)
	}
	f.nodes[at], f.detours[at] = n, d
}

// putLiterals lays out the literals behind n in a block.
func (f *freezer) putLiterals(n *node, b *branch, behind detour) {
	names := slices.Sorted(maps.Keys(b.literals))
	hashes := make([]uint64, len(names))
	for i, name := range names {
		hashes[i] = hash(spell(name))
	}
	n.flags |= hasLiterals
	n.shift, n.width = chooseWindow(hashes)
	block := node{shift: n.shift, width: n.width}
	places, size := arrange(hashes, block)
	n.kids = f.reserve(size)
	more := make([]nodeFlags, size)
	for i, place := range places {
		for passed := block.place(hashes[i]); passed < place; passed++ {
			more[passed] = hasMore
		}
	}
	for i, name := range names {
		kid := node{size: uint16(len(name)), caps: n.caps, flags: more[places[i]]}
		kid.head, kid.tail = spell(name)
		d := behind
		d.text = uint32(len(f.text))
		d.start += uint32(len("/") + len(name))
		f.text = append(f.text, name...)
		f.put(n.kids+places[i], b.literals[name], kid, d)
	}
}

// chooseWindow finds the few bits of the hashes that tell them apart, so that every literal is found
// in its first place. Where that would take too many, or there are too many literals to hope for it,
// the block gets at least twice as many places as literals.
func chooseWindow(hashes []uint64) (shift, width uint8) {
	const hopeful, spare = 64, 1
	least := uint8(bits.Len(uint(len(hashes) - 1)))
	for width = least; width <= least+spare && len(hashes) <= hopeful; width++ {
		for shift = range 64 - width {
			if distinct(hashes, node{shift: shift, width: width}) {
				return shift, width
			}
		}
	}
	width = least + 1
	return 64 - width, width
}

// distinct reports whether no two hashes have the same place behind n.
func distinct(hashes []uint64, n node) bool {
	seen := make([]bool, 1<<n.width)
	for _, h := range hashes {
		place := n.place(h)
		if seen[place] {
			return false
		}
		seen[place] = true
	}
	return true
}

// arrange gives every hash the first free place from its own on, counted from the start of the block.
// There is no wrapping around: size is how many places that takes in all.
func arrange(hashes []uint64, n node) (places []uint32, size int) {
	size = 1 << n.width
	taken := make([]bool, size+len(hashes))
	places = make([]uint32, len(hashes))
	for i, h := range hashes {
		place := n.place(h)
		for taken[place] {
			place++
		}
		taken[place] = true
		places[i] = place
		size = max(size, int(place)+1)
	}
	return places, size
}
