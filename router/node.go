package router

import (
	"encoding/binary"
	"math/bits"
)

// node is a branch of the tree of segments, frozen: it stands for the segments that lead to it. It
// holds what a search needs on its way down, in 32 bytes, so that two share a cache line and none
// straddles one: what a lookup costs in a large table is the lines it touches.
type node struct {
	// What the last of its segments must be; empty in a capture.
	head, tail uint64
	size       uint16

	// What may come behind: a block of literal nodes, first the places that their hash, shifted and
	// masked, gives, then some for those whose place was taken. The node of a capture stands before
	// the block, or in its place if there are no literals.
	kids  uint32
	shift uint8
	width uint8 // of the mask, in bits
	caps  uint8 // captures up to and including this node
	flags nodeFlags

	end uint32 // routes whose pattern ends here: first of them in Table.takers, or none
}

type nodeFlags uint8

const (
	hasLiterals nodeFlags = 1 << iota // must be 1, see captureKid
	hasCapture
	hasRest
	hasMore // a literal that belongs in this place stands further on in the block
)

// detour is the part of a node that a search needs only where it does not go straight down.
type detour struct {
	text    uint32    // where the literal stands in Table.text
	rest    uint32    // routes whose pattern goes on with "*": first of them in Table.takers
	start   uint32    // bytes of path between the end of the last capture up to here and the end of this node
	retreat uint32    // the node further up to go on with when nothing here or behind takes the path, or none
	try     nodeFlags // what is left to try there: hasCapture (and then "*") or hasRest
}

// none is the index of no node or no taker; both arrays begin with a dummy.
const none = 0

// voidSize is the size of a node that takes no literal: of a capture, and of a place in a block of
// literals that none has.
const voidSize = maxPattern + 1

// place is where a literal with this hash stands, if the node in that place does not have more.
func (n *node) place(hash uint64) uint32 {
	return n.kids + uint32(hash>>(n.shift&63))&(1<<(n.width&31)-1)
}

// captureKid is the node of the capture behind n, which has one.
func (n *node) captureKid() uint32 { return n.kids - uint32(n.flags&hasLiterals) }

// wordSize is how many bytes of path are looked at in one go.
const wordSize = 8

// exactSize is the length up to which head, tail and length say all of a segment. In a longer one, tail
// is a digest of all but the head, and the text must be compared.
const exactSize = 2 * wordSize

// Odd constants with bits all over, from the golden ratios of one and of three dimensions.
const (
	oddBits     = 0x9E3779B97F4A7C15
	moreOddBits = 0xD1B54A32D192ED03
)

// spellTail spells the segment of path that starts at from and is longer than a word, or exactly one:
// tail is then 0. It also returns where the segment ends.
func spellTail(path []byte, from int) (tail uint64, end int) {
	var middle uint64
	for end = from + wordSize; ; end += wordSize {
		word := wordAt(path, end)
		if slashes := slashBits(word); slashes != 0 {
			end += bits.TrailingZeros64(slashes) / 8
			break
		}
		if len(path)-end < wordSize {
			end = len(path)
			break
		}
		middle = bits.RotateLeft64((middle^word)*oddBits, wordSize/2)
	}
	if end-from == wordSize {
		return 0, end
	}
	tail = wordAt(path, end-wordSize)
	if end-from > exactSize {
		tail ^= middle
	}
	return tail, end
}

// spell returns the head and tail of a literal.
func spell(literal string) (head, tail uint64) {
	text := []byte(literal)
	if len(text) > wordSize {
		tail, _ = spellTail(text, 0)
	}
	return wordAt(text, 0), tail
}

// hash mixes head and tail by a folded product, so that any window of its bits serves as an index.
func hash(head, tail uint64) uint64 {
	high, low := bits.Mul64(head^oddBits, tail^moreOddBits)
	return high ^ low
}

// wordAt reads up to wordSize bytes of path at from, first one lowest, with zeros behind the end.
func wordAt(path []byte, from int) (word uint64) {
	if len(path) < wordSize {
		for i := len(path) - 1; i >= from; i-- {
			word = word<<8 | uint64(path[i])
		}
		return word
	}
	inside := min(from, len(path)-wordSize)
	return binary.LittleEndian.Uint64(path[inside:]) >> (uint(from-inside) * 8)
}

// slashBits has the highest bit of the first byte of word that is a slash set, and no bit below; it
// is 0 if there is no slash. (The zero-byte search of Hacker's Delight, 6-1.)
func slashBits(word uint64) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	x := word ^ '/'*ones
	return (x - ones) &^ x & highs
}
