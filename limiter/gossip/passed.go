package gossip

import (
	"encoding/binary"
	"math"

	"github.com/sluice-gateway/sluice/limiter"
)

// passedHead is the most that a frame's body grows by when it is passed on, with what else such a packet begins with.
const passedHead = 2 + 1 + 4 + binary.MaxVarintLen64 + 4 + 2

// frame is what a body of a frame says.
type frame struct {
	deltas  []limiter.Delta
	records [][]byte
	urgent  bool
}

// passed is a section that came through, or goes through, another member than who said it.
type passed struct {
	section byte
	id      uint32 // of who said it; or, of what is to be carried, who it is for
	raw     []byte // the section

	number uint64
	stamp  uint32
	frame
	ack ack
}

// id is short for a life among those of a fleet. Two that have the same are not passed on to, but told directly.
func (l life) id() uint32 { return binary.BigEndian.Uint32(l[lifeSize-4:]) }

func appendID(b []byte, id uint32) []byte { return binary.BigEndian.AppendUint32(b, id) }

func appendPassed(b []byte, id uint32, number uint64, stamp uint32, body []byte) []byte {
	b = appendID(append(b, sectionPassed), id)
	b = binary.AppendUvarint(b, number)
	b = binary.BigEndian.AppendUint32(b, stamp)
	b = binary.AppendUvarint(b, uint64(len(body)))
	return append(b, body...)
}

func appendCarried(b []byte, section byte, id uint32, urgent bool, a ack) []byte {
	b = appendID(append(b, section), id)
	u := byte(0)
	if urgent {
		u = 1
	}
	b = binary.AppendUvarint(append(b, u), a.after)
	b = binary.AppendUvarint(b, a.base)
	return append(append(b, byte(len(a.bits))), a.bits...)
}

// readPassed reads a section that begins with an id, which section[0] is the kind of.
func (m *message) readPassed(section []byte) (rest []byte, ok bool) {
	if len(section) < 5 {
		return nil, false
	}
	it := passed{section: section[0], id: binary.BigEndian.Uint32(section[1:])}
	b := section[5:]
	if it.section == sectionPassed {
		if b, ok = m.readFrame(&it, b); !ok {
			return nil, false
		}
	} else if b, ok = it.readAck(b); !ok {
		return nil, false
	}
	it.raw = section[:len(section)-len(b)]
	m.passed = append(m.passed, it)
	return b, true
}

func (m *message) readFrame(it *passed, b []byte) (rest []byte, ok bool) {
	var size uint64
	if it.number, b, ok = number(b); !ok || it.number == 0 || it.number >= maxNumber || len(b) < 4 {
		return nil, false
	}
	it.stamp = binary.BigEndian.Uint32(b)
	if size, b, ok = number(b[4:]); !ok || size > uint64(len(b)) {
		return nil, false
	}
	body, rest := b[:size], b[size:]
	deltas, records := len(m.deltas), len(m.records)
	for len(body) > 0 {
		section := body[0]
		if !allowed(kindFrame, section) || section == sectionUrgent && it.urgent {
			return nil, false
		}
		if body, ok = m.section(section, body[1:]); !ok {
			return nil, false
		}
		it.urgent = it.urgent || section == sectionUrgent
	}
	it.deltas, it.records = m.deltas[deltas:], m.records[records:]
	return rest, true
}

func (it *passed) readAck(b []byte) (rest []byte, ok bool) {
	if len(b) < 1 || b[0] > 1 {
		return nil, false
	}
	it.urgent = b[0] == 1
	if it.ack.after, b, ok = number(b[1:]); !ok || it.ack.after > math.MaxInt64 {
		return nil, false
	}
	if it.ack.base, b, ok = number(b); !ok || it.ack.base > math.MaxInt64 || len(b) < 1 || int(b[0]) > maxHoles || int(b[0]) > len(b)-1 {
		return nil, false
	}
	size := int(b[0])
	it.ack.bits = b[1 : 1+size]
	return b[1+size:], true
}

func (m *message) readHeard(b []byte) (rest []byte, ok bool) {
	if len(b) < 1 || len(b) < 1+4*int(b[0]) {
		return nil, false
	}
	n := int(b[0])
	for i := range n {
		m.heard = append(m.heard, binary.BigEndian.Uint32(b[1+4*i:]))
	}
	return b[1+4*n:], true
}
