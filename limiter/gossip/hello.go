package gossip

import (
	"encoding/binary"
	"io"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// MaxName is the longest name of a member in bytes.
const MaxName = 128

const (
	helloHeader = 2 + chacha20poly1305.NonceSizeX
	helloFixed  = lifeSize + 5*8
	helloMin    = helloHeader + helloFixed + 1 + tagSize
	helloMax    = helloHeader + helloFixed + MaxName + tagSize

	helloEvery  = 100 * time.Millisecond // while there is an answer to hope for
	helloRarely = time.Second            // to those who do not answer
	helloTries  = 30                     // before that
	helloLeast  = 5 * time.Millisecond   // between two to the same peer
)

// hello is how two nodes meet. A node's frames count once it has sent back a random number that it was sent,
// so that nobody is revived by what was overheard in an earlier life.
type hello struct {
	life      life
	challenge uint64 // to be sent back
	echo      uint64 // the last challenge that came from whom it is for; 0: none
	sees      uint64 // whose frames count here already; 0: nobody's
	frames    uint64 // number of the last frame; what counts comes later
	direct    uint64 // number of the last direct packet to whom it is for
	name      string
}

func (h *hello) append(b []byte) []byte {
	b = append(b, h.life[:]...)
	for _, v := range [...]uint64{h.challenge, h.echo, h.sees, h.frames, h.direct} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return append(b, h.name...)
}

func (h *hello) decode(b []byte) bool {
	if len(b) <= helloFixed || len(b) > helloFixed+MaxName {
		return false
	}
	copy(h.life[:], b)
	b = b[lifeSize:]
	for _, v := range [...]*uint64{&h.challenge, &h.echo, &h.sees, &h.frames, &h.direct} {
		*v = binary.BigEndian.Uint64(b)
		b = b[8:]
	}
	h.name = string(b)
	return h.frames < maxNumber && h.direct < maxNumber && h.challenge != 0 && h.life != life{}
}

// greet sends a hello to a peer.
func (n *Node) greet(now time.Duration, p *peer) {
	h := hello{life: n.life, challenge: p.challenge, echo: p.theirs, frames: n.log.last, direct: p.sentDirect, name: n.name}
	if p.in != nil {
		h.sees = p.in.short
	}
	b := append(n.packet[:0], kindHello, n.secrets[0].id)
	b = b[:helloHeader]
	if _, err := io.ReadFull(n.random, b[2:]); err != nil {
		return // there will be another time
	}
	nonce := b[2:helloHeader]
	n.plain = h.append(n.plain[:0])
	b = n.secrets[0].hello.Seal(b, nonce, n.plain, b[:2])
	n.post(p, b)
	p.greeted, p.greetings = now, p.greetings+1
	p.greetNext = now + helloEvery
	if p.greetings > helloTries {
		p.greetNext = now + helloRarely
	}
}

// receiveHello takes a hello. Nothing is kept of it unless it is a member's; the answer, if any, goes to where
// that member is said to be, not to where the packet came from.
func (n *Node) receiveHello(now time.Duration, packet []byte) {
	if len(packet) < helloMin || len(packet) > helloMax {
		n.drop(dropMalformed)
		return
	}
	var body []byte
	err := errUnverified
	for _, s := range n.secrets {
		if s.id == packet[1] && err != nil {
			body, err = s.hello.Open(n.sealer.plain[:0], packet[2:helloHeader], packet[helloHeader:], packet[:2])
		}
	}
	if err != nil {
		n.drop(dropUnverified)
		return
	}
	var h hello
	if !h.decode(body) {
		n.drop(dropMalformed)
		return
	}
	p := n.names[h.name]
	if p == nil || h.life == n.life {
		n.drop(dropStranger)
		return
	}
	n.meet(now, p, &h)
	n.report(now)
}

// meet goes on with the handshake.
func (n *Node) meet(now time.Duration, p *peer, h *hello) {
	p.theirs = h.challenge
	if h.echo == p.challenge {
		p.challenge = n.draw()
		n.accept(now, p, h)
	}
	if p.in != nil && h.life == p.in.life && h.sees == n.life.short() {
		p.met = true
		return
	}
	if now-p.greeted >= helloLeast || p.greetings == 0 {
		n.greet(now, p)
		return
	}
	p.greetNext, n.soon = min(p.greetNext, p.greeted+helloLeast), true
}

// accept makes the frames of a life count that has proved to be the present one.
func (n *Node) accept(now time.Duration, p *peer, h *hello) {
	if p.in != nil && p.in.life == h.life {
		return
	}
	if p.in != nil {
		delete(n.lives, p.in.short)
	}
	s := &session{life: h.life, short: h.life.short(), id: h.life.id()}
	for _, secret := range n.secrets {
		s.frames = append(s.frames, secret.frames(h.life))
		s.direct = append(s.direct, secret.direct(h.life, n.life))
	}
	s.out = n.secrets[0].direct(n.life, h.life)
	s.seen.start(h.frames)
	s.seenDirect.start(h.direct)
	n.lives[s.short] = p
	n.renew(now, p, s)
}

// draw returns a random challenge, never 0.
func (n *Node) draw() uint64 {
	var b [8]byte
	for {
		if _, err := io.ReadFull(n.random, b[:]); err != nil {
			panic("BUG: the source of random numbers ends: " + err.Error())
		}
		if v := binary.BigEndian.Uint64(b[:]); v != 0 {
			return v
		}
	}
}
