package telemetry

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"pgregory.net/rapid"
)

const (
	someID     = "0af7651916cd43dd8448eb211c80319c"
	someSpan   = "b7ad6b7169203331"
	someParent = "00-" + someID + "-" + someSpan + "-01"
)

// begin places a request that has the field lines given, "Name: value" each. Nothing that begins here is sampled.
func begin(lines ...string) *Trace {
	var f TraceFields
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		f.Read([]byte(name), []byte(strings.TrimSpace(value)))
	}
	t := new(Trace)
	t.Begin(&f, rand.New(rand.NewPCG(1, 2)).Uint64, 0)
	return t
}

func (t *Trace) sent() string { return string(t.AppendFields(nil, 0)) }

// TestJoin holds what is joined against the specification: sections of W3C Trace Context level 2, whose test
// suite has most of these cases.
func TestJoin(t *testing.T) {
	for _, c := range []struct {
		intent  string
		lines   []string
		joined  bool
		sampled bool
	}{
		{"nothing is said", nil, false, false},
		{"sampled", []string{"traceparent: " + someParent}, true, true},
		{"not sampled", []string{"traceparent: " + someParent[:53] + "00"}, true, false},
		{"another case of the name", []string{"TraceParent: " + someParent}, true, true},
		{"a flag that nobody knows, set with sampled", []string{"traceparent: " + someParent[:53] + "ff"}, true, true},
		{"a flag that nobody knows, set alone", []string{"traceparent: " + someParent[:53] + "04"}, true, false},
		{"a random trace id", []string{"traceparent: " + someParent[:53] + "03"}, true, true},
		{"two of them", []string{"traceparent: " + someParent, "traceparent: " + someParent}, false, false},
		{"version ff", []string{"traceparent: ff" + someParent[2:]}, false, false},
		{"a version that is no number", []string{"traceparent: 0x" + someParent[2:]}, false, false},
		{"a version in capitals", []string{"traceparent: CC" + someParent[2:]}, false, false},
		{"a version to come", []string{"traceparent: cc" + someParent[2:]}, true, true},
		{"a version to come, with more behind", []string{"traceparent: cc" + someParent[2:] + "-what-follows"}, true, true},
		{"a version to come, with more behind and no separator", []string{"traceparent: cc" + someParent[2:] + ".what"}, false, false},
		{"a version to come, cut short", []string{"traceparent: cc" + someParent[2:54]}, false, false},
		{"version 00 with more behind", []string{"traceparent: " + someParent + "-00"}, false, false},
		{"version 00 with a separator behind", []string{"traceparent: " + someParent + "-"}, false, false},
		{"a trace id of zeros", []string{"traceparent: 00-" + strings.Repeat("0", 32) + someParent[35:]}, false, false},
		{"a parent of zeros", []string{"traceparent: " + someParent[:36] + strings.Repeat("0", 16) + "-01"}, false, false},
		{"a trace id in capitals", []string{"traceparent: 00-" + strings.ToUpper(someID) + someParent[35:]}, false, false},
		{"a trace id with a sign", []string{"traceparent: 00-." + someParent[4:]}, false, false},
		{"flags that are no number", []string{"traceparent: " + someParent[:53] + ".0"}, false, false},
		{"too short", []string{"traceparent: " + someParent[:54]}, false, false},
		{"empty", []string{"traceparent: "}, false, false},
		{"other separators", []string{"traceparent: " + strings.ReplaceAll(someParent, "-", "_")}, false, false},

		{"B3 in one field", []string{"b3: " + someID + "-" + someSpan + "-1"}, true, true},
		{"B3, debugging", []string{"b3: " + someID + "-" + someSpan + "-d-" + someSpan}, true, true},
		{"B3, not sampled", []string{"b3: " + someID + "-" + someSpan + "-0"}, true, false},
		{"B3, the decision left to others", []string{"b3: " + someID + "-" + someSpan}, true, false},
		{"B3 with an id of 64 bits", []string{"b3: " + someSpan + "-" + someSpan + "-1"}, true, true},
		{"B3, a decision alone: yes", []string{"b3: 1"}, false, true},
		{"B3, a decision alone: no", []string{"b3: 0"}, false, false},
		{"B3 with a span of zeros", []string{"b3: " + someID + "-0000000000000000-0"}, false, false},
		{"B3 twice", []string{"b3: 1", "b3: 1"}, false, false},
		{"B3 that is none", []string{"b3: -"}, false, false},
		{"B3 in fields of its own", []string{"X-B3-TraceId: " + someID, "X-B3-SpanId: " + someSpan, "X-B3-Sampled: 1"}, true, true},
		{"B3 of an old kind", []string{"x-b3-traceid: " + someSpan, "x-b3-spanid: " + someSpan, "x-b3-sampled: true"}, true, true},
		{"B3, flags say debug", []string{"X-B3-TraceId: " + someID, "X-B3-SpanId: " + someSpan, "X-B3-Flags: 1"}, true, true},
		{"B3, a decision alone in a field", []string{"X-B3-Sampled: 1"}, false, true},
		{"B3 without a span", []string{"X-B3-TraceId: " + someID, "X-B3-Sampled: 0"}, false, false},
		{"W3C wins over B3", []string{"b3: " + someSpan + "-" + someSpan + "-1", "traceparent: " + someParent[:53] + "00"}, true, false},
		{"B3 when W3C is malformed", []string{"traceparent: ff" + someParent[2:], "b3: " + someID + "-" + someSpan + "-1"}, true, true},
	} {
		p := begin(c.lines...)
		if p.joined() != c.joined || p.Sampled() != c.sampled {
			t.Errorf("%s: joined %v, sampled %v", c.intent, p.joined(), p.Sampled())
		}
		if id := string(p.ID()); c.joined && id != someID && id != "0000000000000000"+someSpan {
			t.Errorf("%s: joined %s", c.intent, id)
		}
		if sc := extract(p); !sc.IsValid() || sc.IsSampled() != c.sampled || sc.SpanID().String() == someSpan {
			t.Errorf("%s: sends %q", c.intent, p.sent())
		}
	}
}

// extract reads what is sent on as OpenTelemetry does.
func extract(t *Trace) trace.SpanContext {
	_, value, _ := strings.Cut(strings.TrimSpace(t.sent()), ": ")
	value, _, _ = strings.Cut(value, "\r\n")
	return referee(value)
}

func referee(traceparent string) trace.SpanContext {
	carrier := propagation.HeaderCarrier(http.Header{"Traceparent": {traceparent}})
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
}

func TestTraceState(t *testing.T) {
	long := strings.Repeat("a", 256)
	many := strings.TrimSuffix(strings.Repeat("a=1,", 32), ",")
	for _, c := range []struct {
		intent string
		lines  []string
		kept   bool
	}{
		{"none", nil, true},
		{"one member", []string{"foo=1"}, true},
		{"spaces around members", []string{" foo=1 \t, bar=2 "}, true},
		{"empty members", []string{"foo=1,,", ",bar=2"}, true},
		{"all signs", []string{"a0_-*/=!#$%&'()*+-./:;<>?@[]^_{|}~ x"}, true},
		{"a tenant", []string{"0tenant@system=1"}, true},
		{"as many as there may be", []string{many}, true},
		{"as many, on two lines", []string{"a=1,b=2", many[8:]}, true},
		{"one too many", []string{many, "b=2"}, false},
		{"the longest key and value", []string{long + "=" + long}, true},
		{"a key too long", []string{long + "a=1"}, false},
		{"a value too long", []string{"a=" + long + "a"}, false},
		{"no value", []string{"foo="}, false},
		{"no key", []string{"=1"}, false},
		{"no sign of equality", []string{"foo"}, false},
		{"a key in capitals", []string{"Foo=1"}, false},
		{"a key that begins with a digit", []string{"0foo=1"}, false},
		{"a system that begins with a digit", []string{"foo@0=1"}, false},
		{"a system too long", []string{"foo@aaaaaaaaaaaaaaa=1"}, false},
		{"no tenant", []string{"@a=1"}, false},
		{"two tenants", []string{"a@b@c=1"}, false},
		{"a space in the key", []string{"foo =1"}, false},
		{"two signs of equality", []string{"foo=1=2"}, false},
		{"other than ASCII", []string{"foo=ä"}, false},
		{"the second line is bad", []string{"foo=1", "bar"}, false},
	} {
		lines := []string{"traceparent: " + someParent}
		for _, l := range c.lines {
			lines = append(lines, "tracestate: "+l)
		}
		if begin(lines...).KeepsState() != c.kept {
			t.Errorf("%s: kept is %v", c.intent, !c.kept)
		}
		if begin(lines[1:]...).KeepsState() {
			t.Errorf("%s: kept without a traceparent", c.intent)
		}
	}
}

// TestSentOn: the trace stays, the span is the gateway's, and who speaks B3 hears B3, of the same place.
func TestSentOn(t *testing.T) {
	for _, c := range []struct {
		intent string
		lines  []string
		want   []string // names of fields
	}{
		{"W3C", []string{"traceparent: " + someParent}, []string{"traceparent"}},
		{"one field of B3", []string{"b3: " + someID + "-" + someSpan + "-1"}, []string{"traceparent", "b3"}},
		{"fields of B3", []string{"X-B3-TraceId: " + someID, "X-B3-SpanId: " + someSpan, "X-B3-Sampled: 1"},
			[]string{"traceparent", "X-B3-TraceId", "X-B3-SpanId", "X-B3-Sampled"}},
		{"all of them", []string{"traceparent: " + someParent, "b3: 0", "X-B3-Sampled: 0"},
			[]string{"traceparent", "b3", "X-B3-TraceId", "X-B3-SpanId", "X-B3-Sampled"}},
	} {
		p := begin(c.lines...)
		const child = 0x1234567890abcdef
		for span, want := range map[uint64]string{0: string(p.span()), child: "1234567890abcdef"} {
			var names []string
			for line := range strings.SplitSeq(strings.TrimSuffix(string(p.AppendFields(nil, span)), "\r\n"), "\r\n") {
				name, value, _ := strings.Cut(line, ": ")
				names = append(names, name)
				parts := map[string]string{
					"traceparent": "00-" + someID + "-" + want + "-01", "b3": someID + "-" + want + "-1",
					"X-B3-TraceId": someID, "X-B3-SpanId": want, "X-B3-Sampled": "1",
				}
				if value != parts[name] {
					t.Errorf("%s: %s is %q, want %q", c.intent, name, value, parts[name])
				}
			}
			if !slices.Equal(names, c.want) {
				t.Errorf("%s: sends %q, want %q", c.intent, names, c.want)
			}
		}
	}
}

// TestSampledShare: as many traces are sampled as was asked for, and the ids alone decide which.
func TestSampledShare(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4)).Uint64
	for _, share := range []float64{0, 0.01, 0.5, 1} {
		const n = 20_000
		sampled := 0
		for range n {
			var p Trace
			p.Begin(new(TraceFields), random, Share(share))
			if p.Sampled() {
				sampled++
			}
		}
		// Five standard deviations of a binomial distribution are at most 354.
		if got := float64(sampled); got < share*n-354 || got > share*n+354 || share == 0 && got > 0 || share == 1 && got < n {
			t.Errorf("share %v: %d of %d are sampled", share, sampled, n)
		}
	}
}

// TestNoIDIsZero: whatever chance gives.
func TestNoIDIsZero(t *testing.T) {
	var p Trace
	p.Begin(new(TraceFields), func() uint64 { return 0 }, 0)
	if !extract(&p).IsValid() {
		t.Errorf("sends %q", p.sent())
	}
}

// TestParentLikeOpenTelemetry: what OpenTelemetry joins we join, and nothing else; but for flags that version 00
// does not define, of which it wants none, and for a separator with nothing behind it, which it does not see.
func TestParentLikeOpenTelemetry(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`(00|01|cc|ff|0)-[0-9a-f]{31,32}[0aG]?-[0-9a-f]{15,16}0?-(00|01|02|03|0)(|-|-x|\.)`).Draw(t, "traceparent")
		compareParent(t, text)
	})
}

func FuzzParent(f *testing.F) {
	f.Add(someParent)
	f.Add("cc" + someParent[2:] + "-more")
	f.Add(strings.ToUpper(someParent))
	f.Fuzz(func(t *testing.T, text string) { compareParent(t, text) })
}

func compareParent(t interface {
	Errorf(format string, args ...any)
}, text string) {
	var f TraceFields
	f.Read([]byte("traceparent"), []byte(text))
	var p Trace
	p.Begin(&f, rand.New(rand.NewPCG(1, 2)).Uint64, 0)
	want := referee(text)
	if len(text) == parentLength+1 && text[:2] == "00" && text[parentLength] == '-' {
		want = trace.SpanContext{}
	}
	if len(text) >= parentLength && text[0] == '0' && text[1] == '0' && text[traceFlagsAt:] > "03" {
		want = referee(text[:traceFlagsAt] + "00" + text[parentLength:])
		if want.IsValid() {
			return
		}
	}
	if p.joined() != want.IsValid() {
		t.Errorf("%q: joined %v, OpenTelemetry %v", text, p.joined(), want.IsValid())
	}
	if p.joined() && (string(p.ID()) != want.TraceID().String() || p.Sampled() != want.IsSampled() || fmt.Sprintf("%016x", p.caller) != want.SpanID().String()) {
		t.Errorf("%q: %s %v, OpenTelemetry %s %v", text, p.ID(), p.Sampled(), want.TraceID(), want.IsSampled())
	}
	if !extract(&p).IsValid() {
		t.Errorf("%q: sends %q", text, p.sent())
	}
}

// FuzzTraceFields: whatever fields say, what is sent on is well-formed.
func FuzzTraceFields(f *testing.F) {
	f.Add("b3", "1", "X-B3-TraceId", someID)
	f.Add("b3", someID+"-"+someSpan, "tracestate", "a=1,b@c=2")
	f.Add("X-B3-Sampled", "d", "X-B3-SpanId", someSpan)
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		var fields TraceFields
		fields.Read([]byte(name1), []byte(value1))
		fields.Read([]byte(name2), []byte(value2))
		var p Trace
		p.Begin(&fields, rand.New(rand.NewPCG(1, 2)).Uint64, Share(0.5))
		if !extract(&p).IsValid() || p.KeepsState() && !p.joined() {
			t.Errorf("sends %q", p.sent())
		}
		for line := range strings.SplitSeq(p.sent(), "\r\n") {
			if strings.ContainsAny(line, "\r\n\x00") {
				t.Errorf("sends %q", p.sent())
			}
		}
	})
}

// BenchmarkUnsampled is all that a request without a span costs: twelve fields looked at, an id found, and what
// is sent on to the target and back.
func BenchmarkUnsampled(b *testing.B) {
	for _, c := range []struct{ name, first string }{
		{"new", "Accept: */*"}, {"joined", "traceparent: " + someParent[:53] + "00"},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := newUnsampled(c.first)
			b.ReportAllocs()
			for b.Loop() {
				r.pass()
			}
		})
	}
}

// unsampled is a request as it meets tracing.
type unsampled struct {
	names, values [][]byte
	fields        TraceFields
	trace         Trace
	head          []byte
}

func newUnsampled(first string) *unsampled {
	u := &unsampled{head: make([]byte, 0, 256)}
	lines := []string{first, "Host: api.example.com", "User-Agent: test/1.0", "Accept-Encoding: gzip", "Cookie: a=b", "X-API-Version: v1"}
	for i := range 6 {
		lines = append(lines, fmt.Sprintf("X-Filler-%d: some", i))
	}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		u.names, u.values = append(u.names, []byte(name)), append(u.values, []byte(value))
	}
	return u
}

func (u *unsampled) pass() {
	u.fields.Reset()
	for i := range u.names {
		u.fields.Read(u.names[i], u.values[i])
	}
	u.trace.Begin(&u.fields, rand.Uint64, 0)
	u.head = u.trace.AppendFields(u.head[:0], 0)
	u.head = append(append(u.head, "X-Trace-ID: "...), u.trace.ID()...)
	u.head = append(append(u.head, "X-Trace-ID: "...), u.trace.ID()...)
}

func TestUnsampledAllocatesNothing(t *testing.T) {
	for _, first := range []string{
		"Accept: */*", "traceparent: " + someParent[:53] + "00", "b3: " + someID + "-" + someSpan + "-0", "X-B3-Sampled: 0",
	} {
		u := newUnsampled(first)
		if n := testing.AllocsPerRun(100, u.pass); n != 0 {
			t.Errorf("%s: %v allocations", first, n)
		}
		if u.trace.Sampled() {
			t.Errorf("%s: sampled", first)
		}
	}
}
