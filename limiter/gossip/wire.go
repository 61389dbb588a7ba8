package gossip

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

// The first byte of a packet says what it is. Bytes that memberlist begins its packets with are others.
const (
	kindFrame  = 0x51 // deltas and records, the same bytes for every peer
	kindDirect = 0x52 // acknowledgements, questions and debts, for one peer
	kindHello  = 0x53 // who is there, and that he is there now
)

const (
	// MaxPacket is the longest payload of a datagram in bytes.
	MaxPacket = 1200

	headerSize = 1 + 1 + 8 + 8 + 4
	tagSize    = 16
	bodySize   = MaxPacket - headerSize - tagSize

	deltaSize = 8 + 1 + 1 // the least
	maxDeltas = bodySize / deltaSize
	maxHoles  = ringSize / 8 // bytes of an acknowledgement's bitmap

	maxNumber = 1 << 62 // numbers are below
)

// header begins frames and direct packets; it is authenticated, and not secret.
type header struct {
	kind   byte
	key    byte   // which secret
	life   uint64 // the sender's
	number uint64 // of the frame; or of the packet among those for this receiver
	stamp  uint32 // microseconds of the sender's clock, from anywhere
}

func (h header) append(b []byte) []byte {
	b = append(b, h.kind, h.key)
	b = binary.BigEndian.AppendUint64(b, h.life)
	b = binary.BigEndian.AppendUint64(b, h.number)
	return binary.BigEndian.AppendUint32(b, h.stamp)
}

// readHeader reads the header of a packet that is long enough to have one.
func readHeader(b []byte) header {
	return header{
		kind: b[0], key: b[1],
		life:   binary.BigEndian.Uint64(b[2:]),
		number: binary.BigEndian.Uint64(b[10:]),
		stamp:  binary.BigEndian.Uint32(b[18:]),
	}
}

// A body is sections, each of which begins with one of these.
const (
	sectionDeltas  = 1 + iota // rule:8 window count (key:8 units demand)*count
	sectionOwn                // n per, then as above: deltas under a credential's own rate
	sectionRecord             // length bytes
	sectionUrgent             // nothing
	sectionAck                // after:8 base:8 length:1 bitmap, bit i for frame base+2+i
	sectionEcho               // stamp:4 held, in microseconds
	sectionFloor              // number:8
	sectionAsk                // cursor:8
	sectionDebts              // cursor:8 next:8; the deltas that follow are debts
	sectionBye                // nothing
	sectionThrough            // groups:1
	sectionAnswer             // nothing
	sectionHeard              // n:1 id:4*n
	sectionPassed             // id:4 number stamp:4 size body of a frame
	sectionCarry              // id:4 urgent:1 after base length:1 bitmap
	sectionCarried            // as above

	deltaSections = 1<<sectionDeltas | 1<<sectionOwn
)

// message is a decoded body. It refers to the bytes it was read from.
type message struct {
	deltas  []limiter.Delta // in store
	records [][]byte
	ack     ack
	echo    echo
	floor   uint64 // the sender has nothing to repair up to here
	ask     uint64
	debts   span
	through int
	heard   []uint32
	passed  []passed
	has     uint32 // sections, a bit each
	store   [maxDeltas]limiter.Delta
}

// ack is what was merged of the frames of whom it is for: all up to base, not base+1, and of the rest what
// the bitmap says. It counts as soon as all frames of the sender up to after were merged; see acks.
type ack struct {
	after, base uint64
	bits        []byte
}

// echo is the stamp of the last packet that came from whom it is for, and how long ago that was.
type echo struct {
	stamp uint32
	held  uint32
}

type span struct{ cursor, next uint64 }

func (m *message) holds(section byte) bool { return m.has&(1<<section) != 0 }

func (m *message) reset() {
	m.deltas, m.records, m.has = m.store[:0], m.records[:0], 0
	m.heard, m.passed = m.heard[:0], m.passed[:0]
	m.ack = ack{}
}

// decode reads a body as a whole; false: it is malformed, and nothing in m means anything.
func (m *message) decode(kind byte, b []byte) bool {
	m.reset()
	for len(b) > 0 {
		section := b[0]
		if !allowed(kind, section) || m.has&^repeatable&(1<<section) != 0 {
			return false
		}
		var rest []byte
		var ok bool
		if passedSections&(1<<section) != 0 {
			rest, ok = m.readPassed(b)
		} else {
			rest, ok = m.section(section, b[1:])
		}
		if !ok {
			return false
		}
		m.has |= 1 << section
		b = rest
	}
	return kind == kindFrame || m.holds(sectionDebts) && len(m.passed) == 0 || !m.holds(sectionDebts) && m.has&deltaSections == 0
}

// What kinds of packets may hold, a bit for each section, and what may come more than once.
const (
	passedSections = 1<<sectionPassed | 1<<sectionCarry | 1<<sectionCarried

	inFrames  = deltaSections | 1<<sectionRecord | 1<<sectionUrgent
	inDirects = deltaSections | passedSections | 1<<sectionAck | 1<<sectionEcho | 1<<sectionFloor | 1<<sectionAsk | 1<<sectionDebts |
		1<<sectionBye | 1<<sectionThrough | 1<<sectionAnswer | 1<<sectionHeard
	repeatable = deltaSections | passedSections | 1<<sectionRecord
)

func allowed(kind, section byte) bool {
	if section > sectionCarried {
		return false
	}
	if kind == kindFrame {
		return inFrames&(1<<section) != 0
	}
	return inDirects&(1<<section) != 0
}

func (m *message) section(section byte, b []byte) (rest []byte, ok bool) {
	switch section {
	case sectionDeltas:
		return m.group(b, limiter.Rate{})
	case sectionOwn:
		n, b, ok := number(b)
		if !ok || n == 0 || n > math.MaxInt64 {
			return nil, false
		}
		per, b, ok := number(b)
		if !ok || per == 0 || per > math.MaxInt64 {
			return nil, false
		}
		return m.group(b, limiter.Rate{N: int64(n), Per: time.Duration(per)})
	case sectionRecord:
		n, b, ok := number(b)
		if !ok || n == 0 || n > MaxRecord || n > uint64(len(b)) {
			return nil, false
		}
		m.records = append(m.records, b[:n])
		return b[n:], true
	case sectionAck:
		if len(b) < 17 || int(b[16]) > maxHoles || len(b) < 17+int(b[16]) {
			return nil, false
		}
		m.ack = ack{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), b[17 : 17+int(b[16])]}
		return b[17+int(b[16]):], true
	case sectionEcho:
		if len(b) < 5 {
			return nil, false
		}
		held, rest, ok := number(b[4:])
		m.echo = echo{binary.BigEndian.Uint32(b), uint32(held)}
		return rest, ok && held <= 1<<32-1
	case sectionFloor:
		return word(b, &m.floor)
	case sectionAsk:
		return word(b, &m.ask)
	case sectionDebts:
		if b, ok = word(b, &m.debts.cursor); !ok {
			return nil, false
		}
		return word(b, &m.debts.next)
	case sectionThrough:
		if len(b) < 1 || b[0] == 0 || b[0] > MaxMembers {
			return nil, false
		}
		m.through = int(b[0])
		return b[1:], true
	case sectionHeard:
		return m.readHeard(b)
	}
	return b, true
}

// group reads the deltas of one rule and window.
func (m *message) group(b []byte, own limiter.Rate) (rest []byte, ok bool) {
	var rule, window, count uint64
	if b, ok = word(b, &rule); !ok {
		return nil, false
	}
	if window, b, ok = number(b); !ok || window > 1<<32-1 {
		return nil, false
	}
	if count, b, ok = number(b); !ok || count == 0 || count > uint64(len(b)/deltaSize) || int(count) > maxDeltas-len(m.deltas) {
		return nil, false
	}
	for range count {
		if len(b) < deltaSize {
			return nil, false
		}
		d := limiter.Delta{Key: limiter.Key(binary.BigEndian.Uint64(b)), Rule: rule, Window: uint32(window), Own: own}
		if b[8] < 0x80 && b[9] < 0x80 { // nearly always
			d.Units, d.Demand = uint32(b[8]), uint32(b[9])
			b = b[deltaSize:]
		} else {
			var units, demand uint64
			if units, b, ok = number(b[8:]); !ok || units > 1<<32-1 {
				return nil, false
			}
			if demand, b, ok = number(b); !ok || demand > 1<<32-1 {
				return nil, false
			}
			d.Units, d.Demand = uint32(units), uint32(demand)
		}
		m.deltas = append(m.deltas, d)
	}
	return b, true
}

func word(b []byte, to *uint64) (rest []byte, ok bool) {
	if len(b) < 8 {
		return nil, false
	}
	*to = binary.BigEndian.Uint64(b)
	return b[8:], true
}

func number(b []byte) (v uint64, rest []byte, ok bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}

// appendDeltas appends as many of the deltas as fit into limit bytes, and returns how many. Neighbours that
// share rule and window share a head.
func appendDeltas(b []byte, deltas []limiter.Delta, limit int) ([]byte, int) {
	done := 0
	for done < len(deltas) {
		first := &deltas[done]
		head := appendHead(b, first)
		countAt := len(head)
		head = append(head, 0, 0) // room for a count below 1<<14
		n := 0
		for i := done; i < len(deltas); i++ {
			d := &deltas[i]
			if !alike(d, first) || len(head)+8+uvarintSize(d.Units)+uvarintSize(d.Demand) > limit {
				break
			}
			head = binary.BigEndian.AppendUint64(head, uint64(d.Key))
			head = binary.AppendUvarint(head, uint64(d.Units))
			head = binary.AppendUvarint(head, uint64(d.Demand))
			n++
		}
		if n == 0 {
			return b, done
		}
		head[countAt], head[countAt+1] = byte(n)|0x80, byte(n>>7)
		b = head
		done += n
	}
	return b, done
}

func appendHead(b []byte, d *limiter.Delta) []byte {
	if d.Own == (limiter.Rate{}) {
		b = append(b, sectionDeltas)
	} else {
		b = append(b, sectionOwn)
		b = binary.AppendUvarint(b, uint64(d.Own.N))
		b = binary.AppendUvarint(b, uint64(d.Own.Per))
	}
	b = binary.BigEndian.AppendUint64(b, d.Rule)
	return binary.AppendUvarint(b, uint64(d.Window))
}

// alike says whether two deltas can share a head.
func alike(a, b *limiter.Delta) bool {
	return a.Rule == b.Rule && a.Window == b.Window && a.Own == b.Own
}

func uvarintSize(v uint32) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}
