package limiter

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"testing"

	"github.com/cespare/xxhash/v2"
	"pgregory.net/rapid"
)

const (
	xxPrime1 = 0x9e3779b185ebca87
	xxPrime2 = 0xc2b2ae3d27d4eb4f
)

// inverse of an odd number modulo 2^64, by Newton's iteration.
func inverse(a uint64) uint64 {
	x := a
	for range 6 {
		x *= 2 - a*x
	}
	return x
}

// XXH64 takes in an input's last lanes of eight bytes by
//
//	h = rotl(h ^ mix(lane), 27)*prime1 + prime4
//
// where mix(lane) = rotl(lane*prime2, 31)*prime1 can be undone. To flip bit 36 of the first lane's mix
// flips bit 63 after the rotation, and as the prime is odd, bit 63 and no other after multiplication and
// addition: whatever h was, and so under every seed. To flip bit 63 of the second lane's mix flips it back.
func xxPartner(of [16]byte) (partner [16]byte) {
	for lane, flip := range []uint64{1 << 36, 1 << 63} {
		x := binary.LittleEndian.Uint64(of[8*lane:])
		mixed := bits.RotateLeft64(x*xxPrime2, 31) * xxPrime1
		mixed ^= flip
		x = bits.RotateLeft64(mixed*inverse(xxPrime1), -31) * inverse(xxPrime2)
		binary.LittleEndian.PutUint64(partner[8*lane:], x)
	}
	return partner
}

func bytes16(t *rapid.T, name string) (b [16]byte) {
	copy(b[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, name))
	return b
}

// What anybody can make collide under XXH64 does not meet in the limiter.
func TestCollidingKeysDoNotMeet(t *testing.T) {
	l, rules := newWithRules(t, 64, bucket("x", 1))
	begin := rules[0].Key()
	rapid.Check(t, func(t *rapid.T) {
		victim := bytes16(t, "victim")
		partner := xxPartner(victim)
		tail := rapid.SliceOfN(rapid.Byte(), 0, 15).Draw(t, "tail") // the same for both
		a, b := append(victim[:], tail...), append(partner[:], tail...)
		seed := rapid.Uint64().Draw(t, "seed")
		one, two := xxhash.NewWithSeed(seed), xxhash.NewWithSeed(seed)
		one.Write(a)
		two.Write(b)
		if one.Sum64() != two.Sum64() || string(a) == string(b) {
			t.Fatalf("%x and %x were to collide under seed %x", a, b, seed)
		}
		if begin.Trusted(string(a)) != begin.Trusted(string(b)) {
			t.Fatalf("the test proves nothing: trusted keys are not hashed by XXH64")
		}
		if l.Hostile(begin, a) == l.Hostile(begin, b) {
			t.Errorf("%x and %x meet", a, b)
		}
		if l.Address(begin, netip.AddrFrom16(victim)) == l.Address(begin, netip.AddrFrom16(partner)) {
			t.Errorf("addresses %x and %x meet", victim, partner)
		}
	})
}

// Ten thousand who each aim at somebody miss all of them.
func TestCollisionAttack(t *testing.T) {
	l, rules := newWithRules(t, 1<<16, bucket("x", 1))
	attack := func(hash func(b []byte) Key) (met int) {
		for i := range uint64(10_000) {
			var victim [16]byte
			binary.LittleEndian.PutUint64(victim[:], i*0x9e3779b97f4a7c15)
			binary.LittleEndian.PutUint64(victim[8:], i)
			partner := xxPartner(victim)
			takeOne(l, rules[0], hash(victim[:]), 0)
			if v := takeOne(l, rules[0], hash(partner[:]), 0); v.Refused {
				met++
			}
		}
		return met
	}
	begin := rules[0].Key()
	if met := attack(func(b []byte) Key { return l.Hostile(begin, b) }); met != 0 {
		t.Errorf("%d met their victims' buckets", met)
	}
	if met := attack(func(b []byte) Key { return begin.Trusted(string(b)) }); met < 9_990 {
		t.Errorf("the test proves nothing: only %d would have met their victims by XXH64", met)
	}
	if s := l.Stats(0); s.Overflowed != 0 {
		t.Errorf("%+v", s)
	}
}

// Secrets decide where hostile parts go, and nothing else does.
func TestHostileKeysNeedTheSecret(t *testing.T) {
	one := New(Options{Capacity: 8, Secret: [16]byte{1}, Epoch: epoch})
	two := New(Options{Capacity: 8, Secret: [16]byte{15: 1}, Epoch: epoch})
	again := New(Options{Capacity: 80, Secret: [16]byte{1}, Epoch: epoch})
	for _, part := range [][]byte{nil, {0}, []byte("a client"), make([]byte, 100)} {
		if one.Hostile(7, part) == two.Hostile(7, part) {
			t.Errorf("%q has one key under two secrets", part)
		}
		if one.Hostile(7, part) != again.Hostile(7, part) {
			t.Errorf("%q has two keys under one secret", part)
		}
	}
}

func TestAddresses(t *testing.T) {
	l := newTestLimiter(8)
	seen := map[Key]netip.Addr{}
	for i := range uint32(200_000) {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], i*21474)
		a := netip.AddrFrom4(b)
		k := l.Address(3, a)
		if other, found := seen[k]; found && other != a {
			t.Fatalf("%v and %v meet", a, other)
		}
		seen[k] = a
	}
	tests := []struct {
		intent, one, two string
		same             bool
	}{
		{"an address in two spellings", "2001:db8::1", "2001:0db8:0::0:1", true},
		{"neighbours", "2001:db8::1", "2001:db8::2", false},
		{"the four bytes of an IPv4 address in both families", "1.2.3.4", "::1.2.3.4", false},
		{"an interface's name", "fe80::1%eth0", "fe80::1%eth1", true},
		{"an IPv4 address that came by a socket of both families", "1.2.3.4", "::ffff:1.2.3.4", true},
	}
	for _, test := range tests {
		one, two := l.Address(3, netip.MustParseAddr(test.one)), l.Address(3, netip.MustParseAddr(test.two))
		if (one == two) != test.same {
			t.Errorf("%s: %s and %s have one key: %v", test.intent, test.one, test.two, one == two)
		}
	}
}

// Parts and their order make a key.
func TestKeysOfParts(t *testing.T) {
	l := newTestLimiter(8)
	a, b := []byte("a"), []byte("b")
	keys := map[string]Key{
		"a":      l.Hostile(0, a),
		"b":      l.Hostile(0, b),
		"ab":     l.Hostile(0, []byte("ab")),
		"a, b":   l.Hostile(l.Hostile(0, a), b),
		"b, a":   l.Hostile(l.Hostile(0, b), a),
		"a, a":   l.Hostile(l.Hostile(0, a), a),
		"a, '1'": l.Hostile(0, a).Trusted("1"),
		"a, 1":   l.Hostile(0, a).Number(1),
		"a, 0":   l.Hostile(0, a).Number(0),
		"1":      Key(0).Number(1),
		"2":      Key(0).Number(2),
	}
	seen := map[Key]string{}
	for name, k := range keys {
		if other, found := seen[k]; found {
			t.Errorf("%s and %s have the same key", name, other)
		}
		seen[k] = name
	}
}
