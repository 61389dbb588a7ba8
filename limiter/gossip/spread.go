package gossip

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// Records go two ways. A new one is published, in frames, to whoever is alive. And members compare: when one
// joins, and every few seconds any two, by a digest of 256 parts of the set; what differs is sent over a stream.
const (
	parts      = 256
	partSize   = 8
	digestSize = parts * partSize
	maxChunk   = 256 << 10 // bytes of records in a message
	maxBatch   = 4 << 20   // bytes that are looked up at once, unless a part has more
	maxApply   = 1024      // records that wait to be applied
	maxNames   = 256       // members that wait to be compared with
	greetAfter = 500 * time.Millisecond
	// appliers is how many records are applied at once: each may wait for a disk, and they share the wait.
	appliers = 64
	talkers  = 4 // members that are talked with at once: one may not answer
)

// The first byte of what is said over a stream.
const (
	saysDigest  = 1 + iota // name's length, name, digest: an answer is wanted
	saysAnswer             // the same, and none is
	saysRecords            // name's length, name, comparison:8, all:4, (length:2 bytes)*; all is 0 but in the last: messages before it
)

// spread is what memberlist asks for what is no business of its own.
type spread struct {
	g       *Gossip
	fresh   chan []byte // to be applied
	bulk    chan waiting
	met     chan newcomer
	compare chan compared
	full    atomic.Uint64
	refused atomic.Uint64
	first   comparison
}

// waiting is a record of a comparison: it can wait to be applied, and somebody waits for that.
type waiting struct {
	record  []byte
	applied *sync.WaitGroup
}

// newcomer is a member that should know us before we talk with it.
type newcomer struct {
	name string
	at   time.Time
}

// compared is a member to talk with; sum is its digest, nil if it does not know ours either.
type compared struct {
	name   string
	sum    *[digestSize]byte
	answer bool
}

func newSpread(g *Gossip) *spread {
	return &spread{
		g: g, fresh: make(chan []byte, maxApply), bulk: make(chan waiting), met: make(chan newcomer, maxNames),
		compare: make(chan compared, maxNames), first: comparison{done: g.config.Records == nil},
	}
}

// take takes a record that came in a frame.
func (s *spread) take(record []byte) {
	if s.g.config.Records == nil {
		return
	}
	select {
	case s.fresh <- append([]byte(nil), record...):
	default:
		s.full.Add(1) // it comes again when sets are compared
	}
}

// greet has a new member compared with.
func (s *spread) greet(name string) {
	if s.g.config.Records == nil || name == s.g.config.Name {
		return
	}
	select {
	case s.met <- newcomer{name, time.Now()}:
	default:
		s.full.Add(1)
	}
}

func (s *spread) ask(c compared) {
	select {
	case s.compare <- c:
	default:
		s.full.Add(1)
	}
}

// run applies records and compares until ctx ends. Records may be slow: they are on a disk.
func (s *spread) run(ctx context.Context) {
	if s.g.config.Records == nil {
		<-ctx.Done()
		return
	}
	var working sync.WaitGroup
	for range appliers {
		working.Go(func() { s.apply(ctx) })
	}
	for range talkers {
		working.Go(func() { s.converse(ctx) })
	}
	working.Go(func() { s.introduce(ctx) })
	working.Wait()
}

// introduce has members that have come compared with, in the order they came.
func (s *spread) introduce(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-s.met:
			select {
			case <-ctx.Done():
			case <-time.After(time.Until(m.at.Add(greetAfter))):
				s.ask(compared{name: m.name})
			}
		}
	}
}

func (s *spread) converse(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-s.compare:
			s.talk(ctx, c)
		}
	}
}

func (s *spread) apply(ctx context.Context) {
	for {
		var w waiting
		select {
		case <-ctx.Done():
			return
		case w.record = <-s.fresh:
		case w = <-s.bulk:
		}
		if err := s.g.config.Records.Apply(w.record); err != nil {
			s.refused.Add(1)
		}
		if w.applied != nil {
			w.applied.Done()
		}
	}
}

// talk sends what a member lacks, or what it needs to know for that.
func (s *spread) talk(ctx context.Context, c compared) {
	sum, sizes := s.digest()
	if c.sum == nil {
		s.say(c.name, s.state(saysDigest, sum))
		return
	}
	if *c.sum == *sum {
		s.first.end()
		return
	}
	if c.answer {
		s.say(c.name, s.state(saysAnswer, sum))
	}
	head, sent := s.begin(), uint32(0)
	for part := 0; part < parts; {
		var wanted [parts]bool
		for bytes := 0; part < parts && bytes < maxBatch; part++ {
			at := part * partSize
			if wanted[part] = [partSize]byte(c.sum[at:]) != [partSize]byte(sum[at:]); wanted[part] {
				bytes += sizes[part]
			}
		}
		for _, chunk := range s.collect(head, &wanted) {
			if ctx.Err() != nil || !s.say(c.name, chunk) {
				return // until the next comparison
			}
			sent++
		}
	}
	binary.BigEndian.PutUint32(head[len(head)-4:], sent+1)
	s.say(c.name, head)
}

// begin makes what begins all messages of records of a comparison.
func (s *spread) begin() []byte {
	b := append([]byte{saysRecords, byte(len(s.g.config.Name))}, s.g.config.Name...)
	b = binary.BigEndian.AppendUint64(b, rand.Uint64())
	return append(b, 0, 0, 0, 0)
}

// collect makes messages of the records of some parts. Nothing is sent meanwhile, for the set may be locked.
func (s *spread) collect(head []byte, wanted *[parts]bool) (chunks [][]byte) {
	s.g.config.Records.All(func(r []byte) bool {
		if part, _ := partOf(r); len(r) > MaxRecord || !wanted[part] {
			return true
		}
		last := len(chunks) - 1
		if last < 0 || len(chunks[last])+2+len(r) > maxChunk {
			chunks, last = append(chunks, slices.Clone(head)), last+1
		}
		chunks[last] = append(binary.BigEndian.AppendUint16(chunks[last], uint16(len(r))), r...)
		return true
	})
	return chunks
}

// say sends over a stream.
func (s *spread) say(name string, text []byte) bool {
	for _, p := range s.g.members.present() {
		if p.Name == name {
			to := memberlist.Node{Name: name, Addr: p.Address.Addr().AsSlice(), Port: p.Address.Port()}
			return s.g.members.list.SendReliable(&to, text) == nil
		}
	}
	return false
}

// partOf is where in a digest a record counts, and as what.
func partOf(record []byte) (part int, value uint64) {
	h := sha256.Sum256(record)
	return int(h[0]), binary.BigEndian.Uint64(h[1:])
}

// digest is the sum of all records' hashes, in parts: the same for the same set. sizes is how many bytes each has.
func (s *spread) digest() (sum *[digestSize]byte, sizes *[parts]int) {
	sum, sizes = new([digestSize]byte), new([parts]int)
	s.g.config.Records.All(func(r []byte) bool {
		if len(r) <= MaxRecord {
			part, v := partOf(r)
			b := sum[part*partSize:]
			binary.BigEndian.PutUint64(b, binary.BigEndian.Uint64(b)+v)
			sizes[part] += len(r)
		}
		return true
	})
	return sum, sizes
}

func (s *spread) state(says byte, sum *[digestSize]byte) []byte {
	b := append([]byte{says, byte(len(s.g.config.Name))}, s.g.config.Name...)
	return append(b, sum[:]...)
}

// NodeMeta implements memberlist.Delegate, as what follows does.
func (s *spread) NodeMeta(int) []byte { return nil }

// GetBroadcasts gives nothing: what is lost on the way would stay so.
func (s *spread) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState is what a member is told that we exchange members with.
func (s *spread) LocalState(bool) []byte {
	if s.g.config.Records == nil {
		return nil
	}
	sum, _ := s.digest()
	return s.state(saysAnswer, sum)
}

// MergeRemoteState takes what it told.
func (s *spread) MergeRemoteState(b []byte, _ bool) { s.NotifyMsg(b) }

// NotifyMsg takes a message. It is not from the network at large: memberlist has opened it.
func (s *spread) NotifyMsg(b []byte) {
	if s.g.config.Records == nil || len(b) < 2 || len(b) < 2+int(b[1]) {
		return
	}
	says, name, b := b[0], string(b[2:2+b[1]]), b[2+b[1]:]
	switch {
	case (says == saysDigest || says == saysAnswer) && len(b) == digestSize:
		sum := [digestSize]byte(b)
		s.ask(compared{name: name, sum: &sum, answer: says == saysDigest})
	case says == saysRecords && len(b) >= 12:
		number, all := binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:])
		if s.applyAll(b[12:]) {
			s.first.came(name, number, all)
		}
	}
}

// applyAll waits until all records of a message are applied; false: they are not.
func (s *spread) applyAll(b []byte) bool {
	var applied sync.WaitGroup
	defer applied.Wait()
	for len(b) > 0 {
		if len(b) < 2 {
			return false
		}
		n := int(binary.BigEndian.Uint16(b))
		if n == 0 || n > MaxRecord || n > len(b)-2 {
			return false
		}
		applied.Add(1)
		select {
		case s.bulk <- waiting{slices.Clone(b[2 : 2+n]), &applied}:
		case <-s.g.transport.ctx.Done():
			applied.Done()
			return false
		}
		b = b[2+n:]
	}
	return true
}
