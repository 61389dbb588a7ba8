package limiter

import (
	"encoding/binary"
	"testing"
	"time"
)

// Whatever a member tells, in whatever order, no debt grows beyond its bound, and buckets come back.
func FuzzMerge(f *testing.F) {
	f.Add(uint8(0), []byte("a seed of some bytes, for a start, and a few more"))
	f.Add(uint8(2), []byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, algorithm uint8, data []byte) {
		names := []string{"token bucket", "fixed window", "sliding window", "leaky bucket"}
		spec := algorithms(10)[names[algorithm%4]]
		spec.Shared = true
		l, rules := newFleet(t, 3, spec)
		p := rules[0].base.policy.Load()
		now := time.Hour
		for len(data) >= 12 {
			d := Delta{Key: Key(data[0]%4) << 60, Rule: p.rule, Units: binary.LittleEndian.Uint32(data[1:]), Demand: uint32(data[5])}
			d.Window = p.windowOf(0, int64(now)) + uint32(int8(data[6])/32)
			if data[7] == 0 {
				d.Rule, d.Own = binary.LittleEndian.Uint64(data), Rate{int64(data[8]), time.Duration(data[9])}
			}
			age := time.Duration(int8(data[8])) * time.Millisecond * 100
			from := int(int8(data[9]))
			switch data[10] % 5 {
			case 0:
				l.Merge(now, from, age, []Delta{d})
			case 1:
				l.Restore(now, age, []Delta{d})
			case 2:
				takeOne(l, rules[0], d.Key, now)
			case 3:
				l.Doubt()
				l.Resolve(now, age, []Delta{d})
			default:
				l.Acknowledge(now, l.Drain(now, make([]Delta, 0, 8)))
			}
			now += time.Duration(data[11]) * time.Millisecond
			data = data[12:]
		}
		v := takeOne(l, rules[0], 1<<60, now)
		if r := v.Reset(); r > 3*time.Minute {
			t.Fatalf("%v until a bucket is full", r)
		}
		now += v.Reset() + v.RetryAfter() + 3*time.Minute
		for k := range Key(4) {
			v := takeOne(l, rules[0], k<<60, now)
			for try := 0; v.Refused && try < 8; try++ { // until others are seen to be idle, or have heard of the demand
				now += 50 * time.Millisecond
				l.Acknowledge(now, drainAll(l, now))
				v = takeOne(l, rules[0], k<<60, now)
			}
			if v.Refused {
				t.Fatalf("a bucket stays empty: %d left", v.Remaining())
			}
		}
		checkTable(t, l)
	})
}
