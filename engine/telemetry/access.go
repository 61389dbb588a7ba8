package telemetry

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rs/zerolog"
)

// The longest texts of a line; what is longer is cut.
const (
	longestPath = 2048
	longestText = 256
)

// AccessLog writes a line of JSON for every exchange. Write never waits: lines go through a buffer of bounded size,
// and are dropped and counted when their output does not keep up. It is safe for concurrent use.
//
// A line may be a tenth of a second late, and lines that are nearer to each other in time may change places.
type AccessLog struct {
	options   AccessOptions
	lines     sync.Pool // of *accessLine
	ring      ring
	enabled   atomic.Bool
	threshold atomic.Uint64 // successes are logged if they draw less, or this is the largest there is

	written, dropped atomic.Uint64 // lines
	trouble          trouble

	next    atomic.Pointer[AccessOutput] // that is to be written to from now on; nil: no other
	reopen  atomic.Bool
	ordered chan struct{} // one of these two was set
}

// AccessOptions is what an AccessLog is made of.
type AccessOptions struct {
	Random     func() uint64                         // uniform over all of uint64, safe for concurrent use
	Processors int                                   // how many goroutines are expected to write at once
	Report     func(t AccessTrouble, dropped uint64) // is told that lines are dropped, and that they are not any more; one call at a time
}

// NewAccessLog makes a log that is off. Nothing is written before Run.
func NewAccessLog(o AccessOptions) *AccessLog {
	l := &AccessLog{options: o, ordered: make(chan struct{}, 1)}
	l.ring.init(o.Processors)
	l.trouble.changed = make(chan struct{}, 1)
	l.lines.New = func() any {
		line := &accessLine{log: l}
		line.logger = zerolog.New(line)
		return line
	}
	return l
}

// Counts tells how many lines were written and dropped.
func (l *AccessLog) Counts() (written, dropped uint64) { return l.written.Load(), l.dropped.Load() }

// Write logs an exchange. Of those that succeeded it takes a sample.
func (l *AccessLog) Write(r *Record) {
	if !l.enabled.Load() || !r.Failed() && l.skips() {
		return
	}
	line := l.lines.Get().(*accessLine)
	line.stripe = r.Stripe
	line.write(r)
	l.lines.Put(line)
}

func (l *AccessLog) skips() bool {
	threshold := l.threshold.Load()
	return threshold < math.MaxUint64 && l.options.Random() >= threshold
}

// sampleThreshold is what a share of all random numbers is less than.
func sampleThreshold(share float64) uint64 {
	if share >= 1 {
		return math.MaxUint64
	}
	return uint64(max(share, 0) * (1 << 64))
}

// accessLine makes one line after the other.
type accessLine struct {
	log    *AccessLog
	logger zerolog.Logger // writes to the line itself
	stripe uint32
	text   []byte
}

// Write takes a line, whole, as the logger has made it.
func (l *accessLine) Write(line []byte) (int, error) {
	if !l.log.ring.put(l.stripe, line) {
		l.log.drop(1, nil)
	}
	return len(line), nil
}

// write makes the line of an exchange. What is empty is left out.
func (l *accessLine) write(r *Record) {
	e := l.logger.Log()
	l.text = r.Time.UTC().AppendFormat(l.text[:0], "2006-01-02T15:04:05.000000Z")
	e.Bytes("time", l.text)
	e.Bytes("request_id", r.RequestID) // the engine's own, or looked at
	l.bytes(e, "trace_id", r.TraceID, longestText)
	l.string(e, "client_id", r.Client)
	l.string(e, "tier", r.Tier)
	if r.Address.IsValid() {
		l.text = r.Address.WithZone("").AppendTo(l.text[:0])
		e.Bytes("ip", l.text)
	}
	l.bytes(e, "method", r.Method, longestText)
	l.bytes(e, "host", r.Host, longestText)
	l.bytes(e, "path", r.Path, longestPath)
	if r.Route != nil {
		l.string(e, "route", r.Route.name)
	}
	l.string(e, "variant", r.Variant)
	if r.Upstream != nil {
		l.string(e, "upstream", r.Upstream.name)
	}
	l.string(e, "target", r.Target)
	e.Int("status", r.Status)
	l.string(e, "reason", r.Reason)
	if r.Limit != "" {
		l.string(e, "limit", r.Limit)
		e.Int64("remaining", r.Remaining)
	}
	e.Uint64("bytes_in", r.BytesIn)
	e.Uint64("bytes_out", r.BytesOut)
	e.Float64("duration_ms", milliseconds(r.Duration))
	e.Float64("upstream_ms", milliseconds(r.UpstreamTime))
	e.Int64("overhead_us", r.Overhead().Microseconds())
	e.Int("attempts", r.Attempts)
	l.string(e, "protocol", r.Protocol)
	l.string(e, "tls", r.TLS)
	e.Send()
}

// milliseconds has three digits behind the point.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

func (l *accessLine) bytes(e *zerolog.Event, key string, value []byte, longest int) {
	if len(value) == 0 {
		return
	}
	value = value[:min(len(value), longest)]
	if plain(value) {
		e.Bytes(key, value)
		return
	}
	l.text = appendReadable(l.text[:0], value)
	e.Bytes(key, l.text)
}

func (l *accessLine) string(e *zerolog.Event, key, value string) {
	if value == "" {
		return
	}
	l.text = append(l.text[:0], value[:min(len(value), longestText)]...)
	if !plain(l.text) {
		l.text = appendReadable(nil, l.text)
	}
	e.Bytes(key, l.text)
}

// plain says whether a text is ASCII without controls.
func plain(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// appendReadable appends a text without what could do something to a terminal or to the order in which the text is
// shown: controls and formats become U+FFFD, as does what is no UTF-8.
func appendReadable(dst, text []byte) []byte {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if !unicode.IsGraphic(r) {
			r = utf8.RuneError
		}
		dst = utf8.AppendRune(dst, r)
		text = text[n:]
	}
	return dst
}
