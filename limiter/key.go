package limiter

import (
	"net/netip"

	"github.com/cespare/xxhash/v2"
	"github.com/dchest/siphash"
)

// Key names a bucket: a rule, and what its requests have in common. It is made by adding the parts, one
// after the other, to what Rule.Key gives; which part comes from whom decides how:
//
//   - XXH64 is fast, and not made against enemies: for inputs of 16 bytes and more anybody can compute
//     two that collide under every seed. It takes only what the operator wrote.
//   - SipHash-2-4 (Aumasson and Bernstein, 2012) under the limiter's secret takes whatever a client had a
//     say in. Who does not know the secret cannot aim at a bucket.
type Key uint64

// Trusted adds text that clients have no influence on: names in the configuration.
func (k Key) Trusted(part string) Key { return k.add(xxhash.Sum64String(part)) }

// Number adds a number that clients have no influence on beyond choosing among few: a method, a route.
func (k Key) Number(part uint64) Key { return k.add(part * 0x9e3779b97f4a7c15) }

// Hostile adds bytes that a client may have chosen.
func (l *Limiter) Hostile(k Key, part []byte) Key {
	return k.add(siphash.Hash(l.secret[0], l.secret[1], part))
}

// Address adds the address of a peer. IPv4 addresses are too short to hide a collision in: no two of
// them meet. Whoever has a network of IPv6 chooses among 2^64 and more.
func (l *Limiter) Address(k Key, a netip.Addr) Key {
	if a = a.Unmap(); a.Is4() {
		b := a.As4()
		return k.Number(1<<32 | uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3]))
	}
	b := a.As16()
	return l.Hostile(k, b[:])
}

// add is a mixer of the kind of SplitMix64's: a permutation of the key for each part, and of the part for
// each key.
func (k Key) add(part uint64) Key {
	x := uint64(k) ^ part
	x = (x ^ x>>32) * 0xd6e8feb86659fd93
	x = (x ^ x>>29) * 0xbf58476d1ce4e5b9
	return Key(x ^ x>>32)
}
