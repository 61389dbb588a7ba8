package gossip

import (
	"maps"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// trace is what a listener on the wire has.
type trace struct {
	to     []int
	packet [][]byte
}

func (w *network) listen() *trace {
	tr := &trace{}
	w.tap = func(to int, packet []byte) {
		tr.to, tr.packet = append(tr.to, to), append(tr.packet, append([]byte(nil), packet...))
	}
	return tr
}

// strike delivers packets to a host, with nothing else going on, and checks that nothing came of it.
func (w *network) strike(h *host, packets [][]byte, why string, answers uint64) {
	w.t.Helper()
	w.tap = nil
	merged, debts, records := maps.Clone(h.merged), maps.Clone(h.debts), maps.Clone(h.records)
	acked, alive, sent := h.acked, h.alive(), w.carried
	for _, p := range packets {
		h.node.Receive(w.now, p)
	}
	if !maps.Equal(merged, h.merged) || !maps.Equal(debts, h.debts) || !maps.Equal(records, h.records) || acked != h.acked || alive != h.alive() {
		w.t.Errorf("%s: the ledger has changed", why)
	}
	if w.carried > sent+answers {
		w.t.Errorf("%s: answered by %d packets", why, w.carried-sent)
	}
}

// captured is a network and what was said on it in ten seconds. Where it relays, the first of its hosts are told of
// less directly than through others.
func captured(t *testing.T, nodes, above int) (*network, *trace) {
	w := newNetwork(t, 0, 1)
	w.above = above
	w.begin(nodes)
	tr := w.listen()
	w.meet()
	w.hosts[1].debts[7] = 7
	w.hosts[0].node.Publish([]byte("record"))
	w.traffic(10*time.Second, 1)
	w.settle(time.Second)
	w.agree()
	w.tap = nil
	return w, tr
}

func (tr *trace) heard(host int) (packets [][]byte) {
	for i, to := range tr.to {
		if to == host {
			packets = append(packets, tr.packet[i])
		}
	}
	return packets
}

func TestReplayChangesNothing(t *testing.T) {
	t.Run("a full mesh", func(t *testing.T) { replay(t, 3, 0) })
	t.Run("through relays", func(t *testing.T) { replay(t, 6, 2) })
}

func replay(t *testing.T, nodes, above int) {
	w, tr := captured(t, nodes, above)
	if len(tr.packet) < 10_000 {
		t.Fatalf("captured %d packets", len(tr.packet))
	}
	for _, h := range w.hosts {
		w.strike(h, tr.heard(h.index), "a replay", uint64(nodes)) // a hello may be answered: to the member that it names
		w.strike(h, tr.packet, "a replay of what others got", uint64(nodes))
	}
	w.agree()
	// One restarts: what was captured is all older than that.
	h := w.hosts[2]
	w.kill(h)
	w.start(h)
	w.strike(h, tr.packet, "a replay to who knows nobody yet", uint64(len(tr.packet)))
	if h.alive() != 0 || len(h.merged) != 0 {
		t.Error("a replay brought somebody to life")
	}
	for _, other := range w.hosts {
		other.lax = true
	}
	w.meet()
	h.want(t)
	w.strike(h, tr.packet, "a replay to who has begun anew", uint64(nodes))
	w.strike(w.hosts[0], tr.packet, "a replay of an earlier life of a peer", uint64(nodes))
	w.traffic(100*time.Millisecond, 1)
	w.settle(time.Second)
}

// want checks that a snapshot arrived, so that what follows finds no question open.
func (h *host) want(t *testing.T) {
	t.Helper()
	h.w.run(time.Second)
	for _, p := range h.node.names {
		if p.want.open {
			t.Fatal("a question is open")
		}
	}
}

func TestDamagedPacketsChangeNothing(t *testing.T) {
	w, tr := captured(t, 3, 0)
	w.kill(w.hosts[2])
	w.start(w.hosts[2])
	for _, h := range w.hosts {
		h.lax = true
	}
	fresh := w.listen()
	w.meet()
	w.tap = nil
	h := w.hosts[0]
	packets := append(fresh.heard(0), tr.heard(0)[:2000]...)
	var damaged [][]byte
	r := rand.New(rand.NewPCG(1, 2))
	for _, p := range packets {
		b := append([]byte(nil), p...)
		b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		damaged = append(damaged, b, p[:r.IntN(len(p))], append(append([]byte(nil), p...), 0))
	}
	before := h.node.drops
	w.strike(h, damaged, "damage", 0)
	dropped := uint64(0)
	for why, n := range h.node.drops {
		dropped += n - before[why]
	}
	if dropped != uint64(len(damaged)) {
		t.Errorf("%d of %d damaged packets are counted", dropped, len(damaged))
	}
}

// Whoever has another secret stays alone, and is a nuisance to nobody.
func TestOtherSecret(t *testing.T) {
	w := newNetwork(t, 3, 3)
	odd := w.hosts[2]
	w.kill(odd)
	w.start(odd)
	secrets, err := newSecrets([][]byte{testSecret("other")})
	if err != nil {
		t.Fatal(err)
	}
	odd.node.secrets, odd.node.out = secrets, secrets[0].frames(odd.node.life)
	w.run(5 * time.Second)
	if w.hosts[0].alive() != 1 || w.hosts[1].alive() != 1 || odd.alive() != 0 {
		t.Errorf("%d, %d and %d peers are alive", w.hosts[0].alive(), w.hosts[1].alive(), odd.alive())
	}
	for _, h := range w.hosts {
		if h.node.drops[dropUnverified]+h.node.drops[dropStranger] == 0 {
			t.Errorf("%s counts nothing", h.node.name)
		}
	}
	if odd.node.drops[dropUnverified] == 0 {
		t.Error("the odd one has no reason to say anything")
	}
}

func TestSecretRotation(t *testing.T) {
	old, young := testSecret("old"), testSecret("young")
	steps := [][2][][]byte{
		{{old}, {old, young}},
		{{old, young}, {young, old}},
		{{young, old}, {young}},
	}
	for i, step := range steps {
		w := newNetwork(t, 2, uint64(i))
		for j, h := range w.hosts {
			w.kill(h)
			w.start(h)
			secrets, err := newSecrets(step[j])
			if err != nil {
				t.Fatal(err)
			}
			h.node.secrets, h.node.out = secrets, secrets[0].frames(h.node.life)
		}
		w.meet()
		w.traffic(100*time.Millisecond, 2)
		w.settle(time.Second)
		w.agree()
	}
}

func TestSecretsAreChecked(t *testing.T) {
	for _, secrets := range [][][]byte{nil, {[]byte("short")}, {make([]byte, 31)}, {make([]byte, 32), nil}, {make([]byte, 32), make([]byte, 32), make([]byte, 32)}} {
		if _, err := newSecrets(secrets); err != ErrSecret {
			t.Errorf("%d secrets: %v", len(secrets), err)
		}
	}
}

func TestJunkTakesNoMemory(t *testing.T) {
	w := newNetwork(t, 3, 4)
	w.meet()
	h := w.hosts[0]
	r := rand.New(rand.NewPCG(5, 6))
	short := h.node.peers[0].in.short
	junk := make([][]byte, 1000)
	for i := range junk {
		b := make([]byte, r.IntN(1400))
		for j := range b {
			b[j] = byte(r.Uint32())
		}
		if i%4 > 0 && len(b) >= headerSize {
			head := header{kind: []byte{kindFrame, kindDirect, kindHello}[i%3], key: h.node.secrets[0].id, life: r.Uint64(), number: uint64(1_000_000 + i)}
			if i%8 > 3 {
				head.life = short // aimed at somebody
			}
			copy(b, head.append(nil))
		}
		junk[i] = b
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for range 10 {
		w.strike(h, junk, "junk", 0)
	}
	before := heap()
	rounds := 1000
	if raceEnabled {
		rounds = 50
	}
	for range rounds {
		for _, p := range junk {
			h.node.Receive(w.now, p)
		}
	}
	if after := heap(); after > before+64<<10 {
		t.Errorf("%d packets of junk took %d bytes", rounds*len(junk), after-before)
	}
	if len(h.node.lives) != 2 || len(h.node.names) != 2 {
		t.Errorf("%d lives of %d members", len(h.node.lives), len(h.node.names))
	}
	w.strike(h, junk, "junk", 0)
	w.traffic(100*time.Millisecond, 1)
	w.settle(time.Second)
	w.agree()
}
