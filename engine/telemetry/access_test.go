package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// startAccess runs a log until stop is called, which returns once all is written. Reports go to told.
func startAccess(t testing.TB, w *AccessOutput, sample float64) (l *AccessLog, told *reports, stop func()) {
	t.Helper()
	told = &reports{}
	l = NewAccessLog(AccessOptions{Random: rand.Uint64, Processors: 4, Report: told.add})
	l.Switch(w, sample)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	eventually(t, func() bool { return l.next.Load() == nil })
	return l, told, stop
}

// reports is what a log has reported.
type reports struct {
	mu  sync.Mutex
	all []AccessTrouble
}

func (r *reports) add(t AccessTrouble, _ uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, t)
}

func (r *reports) list() []AccessTrouble {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]AccessTrouble{}, r.all...)
}

// memory is an output that keeps all.
type memory struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (m *memory) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.Write(p)
}

func (m *memory) lines() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return splitLines(m.text.String())
}

func splitLines(text string) (lines []string) {
	for line := range strings.Lines(text) {
		lines = append(lines, line)
	}
	return lines
}

// fullRecord has something in every field.
func fullRecord() *Record {
	m := NewMetrics(nil, 1)
	plan := m.Prepare(nil)
	return &Record{
		Time: time.Date(2027, 1, 31, 12, 0, 0, 123456789, time.UTC), RequestID: []byte("r-1"), TraceID: []byte("0af7651916cd43dd8448eb211c80319c"),
		Client: "MobileApp", Tier: "gold", Address: netip.MustParseAddr("2001:db8::1"), Method: []byte("GET"), Host: []byte("api.example.com"),
		Path: []byte("/users/42"), Query: []byte("?token=secret"), Route: plan.Route("users", nil), Variant: "users-canary", Upstream: plan.Upstream("users"),
		Target: "10.0.0.1:3000", Status: 502, Refused: true, Reason: "upstream_reset", Limit: "per-client", Remaining: 7, BytesIn: 120, BytesOut: 3400,
		Duration: 12345678, UpstreamTime: 12000000, Waited: 300000, Attempts: 2, Protocol: "HTTP/1.1", TLS: "1.3",
	}
}

// accessSchema is what a line promises to whoever reads it.
const accessSchema = `{
	"type": "object", "additionalProperties": false,
	"required": ["time", "request_id", "status", "bytes_in", "bytes_out", "duration_ms", "upstream_ms", "overhead_us", "attempts"],
	"dependentRequired": {"limit": ["remaining"], "remaining": ["limit"]},
	"properties": {
		"time": {"type": "string", "pattern": "^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{6}Z$"},
		"request_id": {"type": "string", "minLength": 1}, "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
		"client_id": {"type": "string"}, "tier": {"type": "string"}, "ip": {"type": "string", "pattern": "^[0-9a-f.:]+$"},
		"method": {"type": "string"}, "host": {"type": "string"}, "path": {"type": "string"},
		"route": {"type": "string"}, "variant": {"type": "string"}, "upstream": {"type": "string"}, "target": {"type": "string"},
		"status": {"type": "integer", "minimum": 100, "maximum": 599}, "reason": {"type": "string"},
		"limit": {"type": "string"}, "remaining": {"type": "integer"},
		"bytes_in": {"type": "integer", "minimum": 0}, "bytes_out": {"type": "integer", "minimum": 0},
		"duration_ms": {"type": "number", "minimum": 0}, "upstream_ms": {"type": "number", "minimum": 0},
		"overhead_us": {"type": "integer", "minimum": 0}, "attempts": {"type": "integer", "minimum": 0},
		"protocol": {"enum": ["HTTP/1.0", "HTTP/1.1", "HTTP/2"]}, "tls": {"enum": ["1.2", "1.3"]}
	}}`

func compileSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(accessSchema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("line.json", document); err != nil {
		t.Fatal(err)
	}
	return c.MustCompile("line.json")
}

func judgeLine(t testing.TB, schema *jsonschema.Schema, line string) {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
	if err == nil {
		err = schema.Validate(v)
	}
	if err != nil {
		t.Errorf("%q: %v", line, err)
	}
}

func TestAccessLine(t *testing.T) {
	out := &memory{}
	l, _, stop := startAccess(t, &AccessOutput{Writer: out}, 1)
	l.Write(fullRecord())
	l.Write(&Record{RequestID: []byte("r-2"), Status: 400, Refused: true, Reason: "bad_request"})
	stop()
	lines := out.lines()
	if len(lines) != 2 {
		t.Fatalf("%d lines", len(lines))
	}
	schema := compileSchema(t)
	for _, line := range lines {
		judgeLine(t, schema, line)
	}
	const want = `{"time":"2027-01-31T12:00:00.123456Z","request_id":"r-1","trace_id":"0af7651916cd43dd8448eb211c80319c","client_id":"MobileApp",` +
		`"tier":"gold","ip":"2001:db8::1","method":"GET","host":"api.example.com","path":"/users/42","route":"users","variant":"users-canary",` +
		`"upstream":"users","target":"10.0.0.1:3000","status":502,"reason":"upstream_reset","limit":"per-client","remaining":7,"bytes_in":120,` +
		`"bytes_out":3400,"duration_ms":12.345,"upstream_ms":12.000,"overhead_us":45,"attempts":2,"protocol":"HTTP/1.1","tls":"1.3"}` + "\n"
	if lines[0] != want {
		t.Errorf("the line is\n%swant\n%s", lines[0], want)
	}
	if strings.Contains(lines[1], `""`) {
		t.Errorf("what is empty is written: %s", lines[1])
	}
}

// FuzzAccessLine: whatever a client sends, a record is one line of valid JSON that a terminal can bear, of bounded
// length.
func FuzzAccessLine(f *testing.F) {
	f.Add([]byte("/a\x00\x1b[31m\r\n\"\\\x7f\xc2\x9b\xe2\x80\xae\xff\xfe"), "client\u202e\u0085", "host")
	f.Add(bytes.Repeat([]byte{0x01}, 5000), strings.Repeat("\"", 5000), "\n")
	schema := compileSchema(f)
	f.Fuzz(func(t *testing.T, path []byte, client, host string) {
		out := &memory{}
		l, _, stop := startAccess(t, &AccessOutput{Writer: out}, 1)
		r := fullRecord()
		r.Path, r.Client, r.Host, r.Tier, r.Variant = path, client, []byte(host), client, client
		r.Method = path
		l.Write(r)
		stop()
		lines := out.lines()
		if len(lines) != 1 || len(lines[0]) > 6*(longestPath+8*longestText) {
			t.Fatalf("%d lines: %.200q", len(lines), lines)
		}
		line := strings.TrimSuffix(lines[0], "\n")
		if !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsGraphic(r) }) {
			t.Errorf("not fit for a terminal: %q", line)
		}
		judgeLine(t, schema, line)
	})
}

// Failures and refusals are always logged; of successes, the share that was asked for.
func TestAccessSample(t *testing.T) {
	for _, c := range []struct {
		sample float64
		least  int
		most   int
	}{{0, 0, 0}, {1, 20000, 20000}, {0.1, 1600, 2400}} {
		out := &memory{}
		l, _, stop := startAccess(t, &AccessOutput{Writer: out}, c.sample)
		for range 20000 {
			l.Write(&Record{Status: 200})
		}
		always := []*Record{
			{Status: 404}, {Status: 500}, {Status: 429, Refused: true, Reason: "rate_limited"}, {Status: 200, Reason: "client_gone"},
		}
		for _, r := range always {
			l.Write(r)
		}
		stop()
		if n := len(out.lines()) - len(always); n < c.least || n > c.most {
			t.Errorf("of 20000 successes %d were logged, at a share of %v", n, c.sample)
		}
	}
}

// Many write at once: every line is there once, and whole.
func TestAccessKeepsEveryLine(t *testing.T) {
	const writers, each = 8, 3000
	out := &memory{}
	l, _, stop := startAccess(t, &AccessOutput{Writer: out}, 1)
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				for !l.ring.relaxed() {
					time.Sleep(time.Millisecond) // a slow machine is not what is tested
				}
				l.Write(&Record{RequestID: fmt.Appendf(nil, "%d-%d", w, i), Status: 200, Path: bytes.Repeat([]byte("p"), i%300), Stripe: uint32(w)})
			}
		})
	}
	all.Wait()
	stop()
	seen := map[string]int{}
	for _, line := range out.lines() {
		var fields struct {
			RequestID string `json:"request_id"`
		}
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		seen[fields.RequestID]++
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s is there %d times", id, n)
		}
	}
	written, dropped := l.Counts()
	if len(seen) != writers*each || written != writers*each || dropped != 0 {
		t.Errorf("%d lines of %d; counted %d written, %d dropped", len(seen), writers*each, written, dropped)
	}
}

// eventually waits until ok, and fails the test when that takes too long.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("did not happen in time")
		}
	}
}

// A line that finds everybody at a shelf, as when the kernel has put them aside, is not lost.
func TestAccessSpills(t *testing.T) {
	out := &memory{}
	l, _, stop := startAccess(t, &AccessOutput{Writer: out}, 1)
	for i := range l.ring.shelves {
		l.ring.shelves[i].busy.Lock()
	}
	const n = mostSpilt + 10
	for range n {
		l.Write(fullRecord())
	}
	for i := range l.ring.shelves {
		l.ring.shelves[i].busy.Unlock()
	}
	stop()
	if written, dropped := l.Counts(); written+dropped != n || written < mostSpilt || uint64(len(out.lines())) != written {
		t.Errorf("%d written, %d dropped, %d are there", written, dropped, len(out.lines()))
	}
}

// A burst takes all the memory that there may be. In quiet times the same few chunks are used again and again, which
// stay in the processor's cache.
func TestAccessStaysWarm(t *testing.T) {
	var r ring
	r.init(1)
	line := bytes.Repeat([]byte("x"), chunkSize)
	for round := range 3 {
		used := map[*byte]bool{}
		for range 10 * mostChunks {
			r.put(0, line[:1])
			r.collect()
			chunk := <-r.full
			used[&chunk[0]] = true
			r.release(chunk)
		}
		if len(used) > warmChunks {
			t.Errorf("round %d: one after the other, %d chunks were used", round, len(used))
		}
		kept := 0
		for r.put(0, line) {
			kept++
		}
		if r.collect(); kept != mostChunks || len(r.full) != mostChunks {
			t.Errorf("round %d: %d chunks were filled, %d are to be written, want %d", round, kept, len(r.full), mostChunks)
		}
		for range kept {
			r.release(<-r.full)
		}
	}
}
