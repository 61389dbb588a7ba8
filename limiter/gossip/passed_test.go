package gossip

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

// parcel is what a direct packet may have for others.
type parcel struct {
	through int
	heard   []uint32
	frames  []parcelFrame
	acks    []parcelAck
}

type parcelFrame struct {
	id, stamp uint32
	number    uint64
	deltas    []limiter.Delta
	records   [][]byte
	urgent    bool
}

type parcelAck struct {
	section byte
	id      uint32
	urgent  bool
	ack     ack
}

func randomPassed(r *rand.Rand) (p parcel) {
	p.through = 1 + r.IntN(MaxMembers)
	for range r.IntN(20) {
		p.heard = append(p.heard, r.Uint32())
	}
	for range r.IntN(4) {
		f := parcelFrame{id: r.Uint32(), stamp: r.Uint32(), number: 1 + r.Uint64N(maxNumber-1), urgent: r.IntN(2) == 0}
		var s sorter
		f.deltas = s.sort(randomDeltas(r, r.IntN(10), 3))
		for range r.IntN(3) {
			f.records = append(f.records, bytes.Repeat([]byte{byte(r.Uint32())}, 1+r.IntN(20)))
		}
		p.frames = append(p.frames, f)
	}
	for range r.IntN(10) {
		a := ack{after: r.Uint64N(1 << 60), base: r.Uint64N(1 << 60), bits: make([]byte, r.IntN(5))}
		p.acks = append(p.acks, parcelAck{[]byte{sectionCarry, sectionCarried}[r.IntN(2)], r.Uint32(), r.IntN(2) == 0, a})
	}
	return p
}

func (p parcel) append(b []byte) []byte {
	b = append(b, sectionThrough, byte(p.through), sectionHeard, byte(len(p.heard)))
	for _, id := range p.heard {
		b = appendID(b, id)
	}
	for _, f := range p.frames {
		var body []byte
		if f.urgent {
			body = append(body, sectionUrgent)
		}
		for _, r := range f.records {
			body = append(append(body, sectionRecord, byte(len(r))), r...)
		}
		body, _ = appendDeltas(body, f.deltas, bodySize)
		b = appendPassed(b, f.id, f.number, f.stamp, body)
	}
	for _, a := range p.acks {
		b = appendCarried(b, a.section, a.id, a.urgent, a.ack)
	}
	return b
}

func TestPassedSurvivesTheWire(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		p := randomPassed(r)
		var m message
		if !m.decode(kindDirect, p.append(nil)) || m.through != p.through || !slices.Equal(m.heard, p.heard) || len(m.passed) != len(p.frames)+len(p.acks) {
			t.Fatalf("%+v does not survive: %+v", p, m.passed)
		}
		for i, f := range p.frames {
			got := m.passed[i]
			if got.section != sectionPassed || got.id != f.id || got.number != f.number || got.stamp != f.stamp || got.urgent != f.urgent ||
				!slices.Equal(got.deltas, f.deltas) || !slices.EqualFunc(got.records, f.records, bytes.Equal) {
				t.Fatalf("%+v became %+v", f, got)
			}
		}
		for i, a := range p.acks {
			got := m.passed[len(p.frames)+i]
			if got.section != a.section || got.id != a.id || got.urgent != a.urgent || got.ack.after != a.ack.after || got.ack.base != a.ack.base || !bytes.Equal(got.ack.bits, a.ack.bits) {
				t.Fatalf("%+v became %+v", a, got)
			}
		}
	}
}

func TestMalformedPassed(t *testing.T) {
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	word := bytes.Repeat([]byte{7}, 8)
	id, delta := word[:4], cat([]byte{sectionDeltas}, word, []byte{0, 1}, word, []byte{1, 1})
	passed := func(body []byte) []byte { return appendPassed(nil, 7, 1, 9, body) }
	for _, c := range []struct {
		kind   byte
		body   []byte
		valid  bool
		intent string
	}{
		{kindDirect, passed(delta), true, "a frame"},
		{kindDirect, passed(nil), true, "a frame that says nothing"},
		{kindDirect, cat(passed(delta), passed(delta)), true, "two frames"},
		{kindFrame, passed(delta), false, "a frame in a frame"},
		{kindDirect, passed(passed(delta)), false, "a frame in a frame that is passed on"},
		{kindDirect, passed(cat([]byte{sectionAck}, word, word, []byte{0})), false, "an acknowledgement in a frame"},
		{kindDirect, passed([]byte{sectionUrgent, sectionUrgent}), false, "twice what comes once"},
		{kindDirect, passed(delta[:10]), false, "a delta cut short"},
		{kindDirect, passed(delta)[:20], false, "a frame cut short"},
		{kindDirect, cat([]byte{sectionPassed}, id[:3]), false, "half an id"},
		{kindDirect, cat([]byte{sectionPassed}, id, []byte{0}, id, []byte{0}), false, "a frame without a number"},
		{kindDirect, cat([]byte{sectionPassed}, id, bytes.Repeat([]byte{0xff}, 8), []byte{0x7f}, id, []byte{0}), false, "a number that no frame has"},
		{kindDirect, cat([]byte{sectionPassed}, id, []byte{1}, id, []byte{9}, word), false, "a size beyond the end"},
		{kindDirect, cat([]byte{sectionDebts}, word, word, passed(delta)), false, "debts and frames in one packet"},
		{kindDirect, cat([]byte{sectionCarry}, id, []byte{0, 1, 1, 1, 0xff}), true, "an acknowledgement to carry"},
		{kindDirect, cat([]byte{sectionCarried}, id, []byte{1, 1, 1, 0}), true, "an urgent one that was carried"},
		{kindDirect, cat([]byte{sectionCarry}, id, []byte{2, 1, 1, 0}), false, "one that is neither urgent nor not"},
		{kindDirect, cat([]byte{sectionCarry}, id, []byte{0, 1, 1, 2, 0xff}), false, "a bitmap cut short"},
		{kindDirect, cat([]byte{sectionCarry}, id, []byte{0, 1, 1, maxHoles + 1}, make([]byte, 200)), false, "a bitmap too long"},
		{kindDirect, cat([]byte{sectionCarry}, id, []byte{0, 1}, bytes.Repeat([]byte{0xff}, 9), []byte{1, 0}), false, "a number of more than 63 bits"},
		{kindFrame, cat([]byte{sectionCarry}, id, []byte{0, 1, 1, 0}), false, "an acknowledgement in a frame of its own"},
		{kindDirect, cat([]byte{sectionHeard, 1}, id), true, "who was heard"},
		{kindDirect, cat([]byte{sectionHeard, 2}, id), false, "fewer than were said"},
		{kindDirect, []byte{sectionThrough, 3}, true, "a relay"},
		{kindDirect, []byte{sectionThrough}, false, "a relay of how many groups?"},
		{kindDirect, []byte{sectionThrough, 0}, false, "no groups"},
		{kindDirect, []byte{sectionThrough, MaxMembers + 1}, false, "more groups than members"},
		{kindDirect, []byte{sectionThrough, 3, sectionThrough, 3}, false, "twice how many groups"},
		{kindDirect, []byte{sectionAnswer}, true, "a question"},
		{kindDirect, []byte{sectionCarried + 1}, false, "a section that is not known"},
	} {
		var m message
		if got := m.decode(c.kind, c.body); got != c.valid {
			t.Errorf("%s: decoded %v", c.intent, got)
		}
	}
}

// Whatever a member says, who it says it to neither fails nor keeps more than there is room for.
func FuzzMember(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	w := newNetwork(f, 0, 1)
	w.above = 1
	w.begin(5)
	w.meet()
	for _, h := range w.hosts {
		h.lax = true
	}
	for range 10 {
		f.Add(uint8(kindDirect), uint8(0), randomPassed(r).append(nil))
	}
	for _, p := range w.hosts[0].node.peers {
		if p != nil { // of somebody who is there
			body := appendPassed([]byte{sectionThrough, 2}, p.in.id, p.in.seen.top+1, 1, nil)
			f.Add(uint8(kindDirect), uint8(1), appendCarried(body, sectionCarry, p.in.id, true, ack{}))
			f.Add(uint8(kindDirect), uint8(2), appendCarried(body, sectionCarried, p.in.id, true, ack{after: 1, base: 1, bits: []byte{1}}))
		}
	}
	number := uint64(1 << 20)
	f.Fuzz(func(t *testing.T, kind, from uint8, body []byte) {
		if len(body) > bodySize {
			return
		}
		w.t = t
		n := w.hosts[0].node
		p := n.names[name(1+int(from)%4)]
		if p.in == nil {
			return // it has said good-bye
		}
		number++
		w.now += time.Millisecond
		n.receiveBody(w.now, p, header{kind: kind, life: p.in.short, number: number}, body)
		n.Tick(w.now)
		for _, p := range n.names {
			if len(p.route.waiting) > maxPassing {
				t.Fatalf("%d bytes wait", len(p.route.waiting))
			}
		}
	})
}
