package gossip

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

func randomDeltas(r *rand.Rand, n, rules int) (deltas []limiter.Delta) {
	for range n {
		d := limiter.Delta{Key: limiter.Key(r.Uint64()), Rule: uint64(r.IntN(rules)), Units: r.Uint32N(200), Demand: r.Uint32N(200)}
		switch r.IntN(10) {
		case 0:
			d.Units, d.Demand = r.Uint32(), r.Uint32()
		case 1:
			d.Window = r.Uint32N(3)
		case 2:
			d.Own = limiter.Rate{N: 1 + r.Int64N(2), Per: time.Second}
		}
		deltas = append(deltas, d)
	}
	return deltas
}

func TestDeltasSurviveTheWire(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		want := randomDeltas(r, r.IntN(1000), 1+r.IntN(100))
		var s sorter
		left := s.sort(slices.Clone(want))
		var got []limiter.Delta
		for len(left) > 0 {
			b, done := appendDeltas(make([]byte, 0, bodySize+slack), left, bodySize)
			var m message
			if done == 0 || len(b) > bodySize || !m.decode(kindFrame, b) || !slices.Equal(m.deltas, left[:done]) {
				t.Fatalf("%d bytes for %d deltas do not give them back", len(b), done)
			}
			got, left = append(got, m.deltas...), left[done:]
		}
		for _, all := range [][]limiter.Delta{want, got} {
			slices.SortStableFunc(all, func(a, b limiter.Delta) int { return bytes.Compare(word8(a.Key), word8(b.Key)) })
		}
		if !slices.Equal(got, want) {
			t.Fatal("sorting loses deltas")
		}
	}
}

func word8(k limiter.Key) []byte {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(k >> (56 - 8*i))
	}
	return b
}

func TestDeltasAreSmall(t *testing.T) {
	deltas := make([]limiter.Delta, 1000)
	for i := range deltas {
		deltas[i] = limiter.Delta{Key: limiter.Key(i) << 40, Rule: math.MaxUint64, Units: 100, Demand: uint32(i % 128)}
	}
	b, done := appendDeltas(nil, deltas, bodySize)
	if perKey := float64(len(b)+headerSize+tagSize) / float64(done); perKey > 10.6 {
		t.Errorf("%.1f bytes a key in a full frame of %d", perKey, done)
	}
}

func TestMalformedBodies(t *testing.T) {
	word := bytes.Repeat([]byte{7}, 8)
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	delta := cat(word, []byte{1, 1})
	cases := []struct {
		kind   byte
		body   []byte
		valid  bool
		intent string
	}{
		{kindFrame, nil, true, "nothing to say"},
		{kindFrame, cat([]byte{sectionDeltas}, word, []byte{0, 1}, delta), true, "a delta"},
		{kindFrame, cat([]byte{sectionDeltas}, word, []byte{0, 2}, delta), false, "a count beyond the end"},
		{kindFrame, cat([]byte{sectionDeltas}, word, []byte{0, 0}), false, "a group of none"},
		{kindFrame, cat([]byte{sectionDeltas}, word, []byte{0, 1}, word, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 1, 1}), false, "units of more than 32 bits"},
		{kindFrame, cat([]byte{sectionDeltas}, word, bytes.Repeat([]byte{0xff}, 12), delta), false, "a number without an end"},
		{kindFrame, cat([]byte{sectionOwn, 0, 1}, word, []byte{0, 1}, delta), false, "an own rate of nothing"},
		{kindFrame, cat([]byte{sectionOwn, 5, 1}, word, []byte{0, 1}, delta), true, "an own rate"},
		{kindFrame, []byte{0}, false, "no section"},
		{kindFrame, []byte{200}, false, "a section that is not known"},
		{kindFrame, []byte{sectionBye}, false, "a section of direct packets"},
		{kindFrame, []byte{sectionUrgent, sectionUrgent}, false, "twice what comes once"},
		{kindFrame, []byte{sectionRecord, 0}, false, "an empty record"},
		{kindFrame, []byte{sectionRecord, 2, 1}, false, "a record cut short"},
		{kindFrame, cat([]byte{sectionRecord, 0x81, 0x08}, make([]byte, 1025)), false, "a record too long"},
		{kindDirect, cat([]byte{sectionAck}, word, word, []byte{1, 0xff}), true, "an acknowledgement"},
		{kindDirect, cat([]byte{sectionAck}, word, word, []byte{2, 0xff}), false, "a bitmap cut short"},
		{kindDirect, cat([]byte{sectionAck}, word, word, []byte{maxHoles + 1}, make([]byte, 200)), false, "a bitmap too long"},
		{kindDirect, cat([]byte{sectionDeltas}, word, []byte{0, 1}, delta), false, "deltas in a direct packet"},
		{kindDirect, cat([]byte{sectionDebts}, word, word, []byte{sectionDeltas}, word, []byte{0, 1}, delta), true, "debts"},
		{kindDirect, cat([]byte{sectionEcho}, word[:4]), false, "half an echo"},
		{kindDirect, cat([]byte{sectionFloor}, word[:7]), false, "a word cut short"},
	}
	for _, c := range cases {
		var m message
		if got := m.decode(c.kind, c.body); got != c.valid {
			t.Errorf("%s: decoded %v", c.intent, got)
		}
	}
}

// Whatever a body is, decoding it ends, stays within it, and what is decoded can be encoded again.
func FuzzBody(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		b, _ := appendDeltas(nil, randomDeltas(r, 50, 3), bodySize)
		f.Add(byte(kindFrame), b)
		f.Add(byte(kindDirect), append(append([]byte{sectionDebts}, make([]byte, 16)...), b...))
	}
	f.Add(byte(kindDirect), append([]byte{sectionAck}, make([]byte, 17)...))
	for range 5 {
		f.Add(byte(kindDirect), randomPassed(r).append(nil))
	}
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		if len(b) > bodySize {
			return
		}
		var m, again message
		if !m.decode(kind, b) {
			return
		}
		for left := m.deltas; len(left) > 0; {
			body, done := appendDeltas(nil, left, bodySize)
			if done == 0 || !again.decode(kindFrame, body) || !slices.Equal(again.deltas, left[:done]) {
				t.Fatalf("%x does not survive", b)
			}
			left = left[done:]
		}
		for i := range m.passed {
			if it := &m.passed[i]; !again.decode(kindDirect, it.raw) || len(again.passed) != 1 || again.passed[0].id != it.id {
				t.Fatalf("%x: what is passed on does not survive", b)
			}
		}
	})
}

// Whatever a packet is, a node neither fails nor answers at once.
func FuzzReceive(f *testing.F) {
	w := newNetwork(f, 2, 1)
	w.tap = func(_ int, packet []byte) { f.Add(packet) }
	w.meet()
	w.tap = nil
	f.Fuzz(func(t *testing.T, packet []byte) {
		w.t = t
		w.hosts[0].node.Receive(w.now, packet)
	})
}
