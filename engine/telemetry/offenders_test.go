package telemetry

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// offended is a fixed moment at which tests begin.
func offended() time.Time { return time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC) }

func limited(at time.Time, client, limit string) *Record {
	return &Record{Time: at, Client: client, Status: 429, Refused: true, Reason: "rate_limited", Limit: limit}
}

// checkSketch holds a sketch against the laws of Space-Saving.
func checkSketch(t interface {
	Errorf(format string, args ...any)
}, s *sketch, truth map[uint64]uint64) {
	var total uint64
	for _, weight := range truth {
		total += weight
	}
	told := map[uint64]bool{}
	var sum uint64
	for i := range s.n {
		key, count, excess := s.keys[i], s.counts[i], s.excess[i]
		if told[key] {
			t.Errorf("key %d is there twice", key)
		}
		told[key] = true
		sum += count
		if truth[key] > count || count-excess > truth[key] || excess > total/sketchSize {
			t.Errorf("key %d: told %d to %d, was %d of %d", key, count-excess, count, truth[key], total)
		}
	}
	if sum != total {
		t.Errorf("all counts are %d, want %d", sum, total)
	}
	for key, weight := range truth {
		if weight > total/sketchSize && !told[key] {
			t.Errorf("key %d is not there: %d of %d", key, weight, total)
		}
	}
}

func TestSketchKeepsItsLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s sketch
		truth := map[uint64]uint64{}
		keys := rapid.Uint64Range(0, rapid.SampledFrom([]uint64{3, sketchSize, 3 * sketchSize, 1 << 40}).Draw(t, "keys"))
		for range rapid.IntRange(0, 1000).Draw(t, "offences") {
			key, weight := keys.Draw(t, "key"), rapid.Uint64Range(1, 30_000).Draw(t, "weight")
			s.add(key, weight)
			truth[key] += weight
		}
		checkSketch(t, &s, truth)
	})
}

func FuzzSketch(f *testing.F) {
	f.Add([]byte("\x00\x01\x00\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s sketch
		truth := map[uint64]uint64{}
		for ; len(data) >= 3; data = data[3:] {
			key, weight := uint64(binary.BigEndian.Uint16(data)), uint64(data[2])
			s.add(key, weight)
			truth[key] += weight
		}
		checkSketch(t, &s, truth)
	})
}

// TestFloodHidesNobody: one who offends a lot is told among any number who offend once, never more than he did, and
// short of it by no more than the bound.
func TestFloodHidesNobody(t *testing.T) {
	o := NewOffenders(offended())
	const flood, own = 20_000, 2_000
	for i := range uint32(flood) {
		r := limited(offended(), fmt.Sprint("one of many ", i), "guard")
		r.Stripe = i
		o.Observe(r, netip.Addr{})
		if i%(flood/own) == 0 {
			r.Client, r.Limit = "the one", "per-client"
			o.Observe(r, netip.Addr{})
		}
	}
	told := o.Limited(offended(), 3)
	if len(told) != 3 || told[0].Client != "the one" || told[0].Limit != "per-client" || told[0].Count > own || told[0].Count < own-(flood+own)/sketchSize {
		t.Errorf("told %+v", told)
	}
	if o.Missed() != 0 {
		t.Errorf("%d were missed with one writer", o.Missed())
	}
}

// TestWhatCounts: who is listed, for what.
func TestWhatCounts(t *testing.T) {
	address := netip.MustParseAddr("192.0.2.7")
	for _, c := range []struct {
		intent                 string
		record                 Record
		address                netip.Addr
		limited, refused, slow string // who is listed, and the count
	}{
		{"a success", Record{Client: "ada", Status: 200}, address, "", "", ""},
		{"limited, known", Record{Client: "ada", Status: 429, Refused: true, Limit: "daily"}, address, "ada 1 daily", "", ""},
		{"limited, unknown", Record{Status: 429, Refused: true, Limit: "guard"}, address, "192.0.2.7 1 guard", "", ""},
		{"credentials that are not good", Record{Status: 401, Refused: true}, address, "", "192.0.2.7 1 ", ""},
		{"a scope that is missing", Record{Client: "ada", Status: 403, Refused: true}, address, "", "ada 1 ", ""},
		{"refused by the target, which has reasons of its own", Record{Client: "ada", Status: 403}, address, "", "", ""},
		{"limited by the target", Record{Client: "ada", Status: 429, Limit: "daily"}, address, "", "", ""},
		{"another refusal", Record{Client: "ada", Status: 404, Refused: true}, address, "", "", ""},
		{"slow", Record{Client: "ada", Status: 200, Duration: 3 * time.Second}, address, "", "", "ada 3000 "},
		{"slow, and failed", Record{Client: "ada", Status: 504, Refused: true, Duration: 3 * time.Second}, address, "", "", "ada 3000 "},
		{"just not slow", Record{Client: "ada", Status: 200, Duration: slowRequest - 1}, address, "", "", ""},
		{"it was the client that was slow", Record{Client: "ada", Status: 200, Duration: 9 * time.Second, Waited: 9 * time.Second}, address, "", "", ""},
		{"a stream counts for so much", Record{Client: "ada", Status: 200, Duration: time.Hour}, address, "", "", "ada 30000 "},
		{"a tunnel is not slow", Record{Client: "ada", Status: 101, Duration: time.Hour, Tunnel: true}, address, "", "", ""},
		{"nobody can be named", Record{Status: 401, Refused: true}, netip.Addr{}, "", "", ""},
	} {
		o := NewOffenders(offended())
		c.record.Time = offended()
		o.Observe(&c.record, c.address)
		end := offended().Add(c.record.Duration)
		for _, list := range []struct {
			told []Offender
			want string
		}{{o.Limited(end, 9), c.limited}, {o.Refused(end, 9), c.refused}, {o.Slow(end, 9), c.slow}} {
			got := ""
			for _, f := range list.told {
				got += fmt.Sprint(f.Client, f.Address, " ", f.Count, " ", f.Limit)
			}
			if got != list.want {
				t.Errorf("%s: told %q, want %q", c.intent, got, list.want)
			}
		}
	}
}

// TestOffencesFade: after two windows without one, nobody remembers.
func TestOffencesFade(t *testing.T) {
	o := NewOffenders(offended())
	at := func(windows float64) time.Time {
		return offended().Add(time.Duration(windows * float64(offenderWindow)))
	}
	count := func(now time.Time) (n uint64) {
		for _, f := range o.Limited(now, 9) {
			n += f.Count
		}
		return n
	}
	for i, c := range []struct {
		at     float64
		offend bool
		want   uint64
		intent string
	}{
		{0, true, 1, "the first"},
		{0.9, true, 2, "in the same window"},
		{1.5, false, 2, "in the next window, told from the one before"},
		{1.6, true, 3, "and added to"},
		{2.1, false, 1, "the first window is over"},
		{3.1, false, 0, "nothing happened since"},
		{3.2, true, 1, "again"},
		{9.9, false, 0, "long after"},
		{3.3, true, 1, "a record that comes late counts for now"},
	} {
		if c.offend {
			r := limited(at(c.at), "ada", "daily")
			r.Stripe = uint32(i) // each stripe turns its windows by itself
			o.Observe(r, netip.Addr{})
		}
		if got := count(at(c.at)); got != c.want {
			t.Errorf("%s: %d, want %d", c.intent, got, c.want)
		}
	}
}

// TestHostileNames: whatever a client calls itself, what is told of it is bounded and fit for JSON.
func TestHostileNames(t *testing.T) {
	o := NewOffenders(offended())
	for _, name := range []string{strings.Repeat("ä", 1<<16), "<script>alert(1)</script>", "\xff\xfe\x00\r\n", strings.Repeat("x", 63) + "ä", "192.0.2.7"} {
		o.Observe(limited(offended(), name, "daily"), netip.Addr{})
	}
	o.Observe(&Record{Time: offended(), Status: 429, Refused: true}, netip.MustParseAddr("192.0.2.7"))
	told := o.Limited(offended(), 99)
	if len(told) != 6 {
		t.Errorf("told of %d, want 6: a client that calls itself an address is not the one there", len(told))
	}
	for _, f := range told {
		text, err := json.Marshal(f)
		if err != nil || len(text) > 512 {
			t.Errorf("%q: %d bytes, %v", f.Client, len(text), err)
		}
	}
}

// TestCrowd: offences that come at once are told or counted as missed, each once.
func TestCrowd(t *testing.T) {
	o := NewOffenders(offended())
	const goroutines, each = 8, 2000
	var crowd sync.WaitGroup
	for i := range uint32(goroutines) {
		crowd.Go(func() {
			r := limited(offended(), "ada", "daily")
			r.Stripe = i
			for range each {
				o.Observe(r, netip.Addr{})
				if r.Stripe++; r.Stripe%100 == 0 {
					o.Limited(offended(), 1)
				}
			}
		})
	}
	crowd.Wait()
	told := o.Limited(offended(), 9)
	if len(told) != 1 || told[0].Count+o.Missed() != goroutines*each {
		t.Errorf("told %+v, missed %d, want %d in all", told, o.Missed(), goroutines*each)
	}
}

func TestObserveOffenderAllocatesNothing(t *testing.T) {
	o := NewOffenders(offended())
	address := netip.MustParseAddr("2001:db8::")
	r := limited(offended(), "", "guard")
	known := limited(offended(), strings.Repeat("a", 100), "daily")
	known.Duration = time.Second
	if n := testing.AllocsPerRun(1000, func() {
		address = address.Next()
		o.Observe(r, address)
		o.Observe(known, address)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkObserveOffender is what an offence costs: one of somebody who is listed, and one of somebody new every
// time, as in a flood from many addresses; and what all other requests pay.
func BenchmarkObserveOffender(b *testing.B) {
	for _, c := range []struct {
		name   string
		status int
		next   bool
	}{{"none", 200, false}, {"listed", 429, false}, {"new", 429, true}} {
		b.Run(c.name, func(b *testing.B) {
			o := NewOffenders(offended())
			r := limited(offended(), "", "guard")
			r.Status, r.Refused = c.status, c.status != 200
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r, address := *r, netip.MustParseAddr("2001:db8::")
				for pb.Next() {
					if c.next {
						address = address.Next()
					}
					o.Observe(&r, address)
				}
			})
		})
	}
}
