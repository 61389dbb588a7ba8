package telemetry

// The parts of a traceparent: VERSION "-" TRACE-ID "-" PARENT-ID "-" FLAGS, all in lower-case hexadecimal.
const (
	traceIDAt     = len("00-")
	traceIDLength = 32
	spanIDAt      = traceIDAt + traceIDLength + len("-")
	spanIDLength  = 16
	traceFlagsAt  = spanIDAt + spanIDLength + len("-")
	parentLength  = traceFlagsAt + len("00")

	flagSampled = 1 << 0
	flagRandom  = 1 << 1 // the trace id's last 7 bytes are random (level 2)
	knownFlags  = flagSampled | flagRandom
)

// Trace is the place of one request in a trace (W3C Trace Context, level 2). It is kept as the text that goes
// on, so that passing it on is copying. The zero value is no place at all. It is for one goroutine.
type Trace struct {
	text     [parentLength]byte // the traceparent that is sent on
	high     uint64             // the trace id
	low      uint64
	caller   uint64 // the span of whoever sent the request; zero: the trace begins here
	flags    byte
	w3c      bool // joined by a traceparent
	badState bool // the request's tracestate is not one
	b3       b3Forms
}

// Share turns the share of traces that are sampled where they begin into what Begin holds trace ids against. It
// agrees with OpenTelemetry's TraceIDRatioBased: who sees the same id decides alike.
func Share(sample float64) uint64 { return uint64(sample * (1 << 63)) }

// Begin finds a request's place: in the trace that its fields name, with the decision that was made there, or in
// a new one, which is sampled if its id is within share. random is uniform over all of uint64.
//
// A new trace's flags do not say that its id is random, though it is: OpenTelemetry for Go joined no such trace
// of version 00 until 2026.
func (t *Trace) Begin(f *TraceFields, random func() uint64, share uint64) {
	t.high, t.low, t.caller, t.flags, t.w3c = 0, 0, 0, 0, false
	t.b3, t.badState = f.b3.forms, f.state.bad
	decided := f.join(t)
	if !t.joined() {
		t.high, t.low = random(), random()
		if t.high|t.low == 0 {
			t.low = 1 // all zeros is no id
		}
	}
	if !decided && t.low>>1 < share {
		t.flags |= flagSampled
	}
	copy(t.text[:], "00-")
	if !t.w3c {
		putHex(t.text[traceIDAt:], t.high)
		putHex(t.text[traceIDAt+traceIDLength/2:], t.low)
		t.text[spanIDAt-1] = '-'
	}
	putHex(t.text[spanIDAt:], NewSpanID(random))
	t.text[traceFlagsAt-1], t.text[traceFlagsAt], t.text[traceFlagsAt+1] = '-', '0', '0'+t.flags
}

// joined says whether the trace began before the request came.
func (t *Trace) joined() bool { return t.caller != 0 }

// Sampled says whether the trace is recorded, by whoever takes part in it.
func (t *Trace) Sampled() bool { return t.flags&flagSampled != 0 }

// KeepsState says whether the request's tracestate belongs to the trace, and may go on: one that came without a
// traceparent, or is malformed, may not (W3C Trace Context section 3.3).
func (t *Trace) KeepsState() bool { return t.w3c && !t.badState }

// ID is the trace id: 32 hexadecimal digits, or none before Begin. It lives as long as t does.
func (t *Trace) ID() []byte {
	if t.text[0] == 0 {
		return nil
	}
	return t.text[traceIDAt : traceIDAt+traceIDLength]
}

// AppendFields appends the field lines that tell a target of its place: as a child of span, or, if that is zero,
// of the gateway's own. Whoever spoke B3 gets B3 sent on beside the traceparent.
func (t *Trace) AppendFields(dst []byte, span uint64) []byte {
	if span == 0 {
		return t.appendFields(dst)
	}
	child := *t
	putHex(child.text[spanIDAt:], span)
	return child.appendFields(dst)
}

func (t *Trace) appendFields(dst []byte) []byte {
	dst = append(dst, "traceparent: "...)
	dst = append(dst, t.text[:]...)
	dst = append(dst, "\r\n"...)
	if t.b3 != 0 {
		dst = t.appendB3(dst)
	}
	return dst
}

func (t *Trace) span() []byte { return t.text[spanIDAt : spanIDAt+spanIDLength] }

// NewSpanID draws an id for a span, which is never zero.
func NewSpanID(random func() uint64) uint64 {
	if id := random(); id != 0 {
		return id
	}
	return 1
}

// TraceFields is what the fields of a request say of its trace. The zero value has seen none. It points into
// the fields, and is for one goroutine.
type TraceFields struct {
	parent  []byte
	parents int
	state   stateCheck
	b3      b3Fields
}

// Reset forgets all fields.
func (f *TraceFields) Reset() {
	f.parent, f.parents, f.state = nil, 0, stateCheck{}
	if f.b3.forms != 0 {
		f.b3 = b3Fields{}
	}
}

// Read takes note of a field, if it is about traces. All fields of a request are shown, in their order.
func (f *TraceFields) Read(name, value []byte) {
	switch len(name) {
	default:
		return
	case len("traceparent"): // and X-B3-SpanId
		if equalLower(name, "traceparent") {
			f.parent = value
			f.parents++
			return
		}
	case len("tracestate"): // and X-B3-Flags
		if equalLower(name, "tracestate") {
			f.state.read(value)
			return
		}
	case len("b3"), len("x-b3-traceid"), len("x-b3-parentspanid"): // and X-B3-Sampled
	}
	if len(name) == len("b3") || name[len("x-b")] == '3' { // which spares other fields of these lengths a call
		f.b3.read(name, value)
	}
}

// join makes the trace that the fields name t's. It says whether they decide if it is sampled, which B3 may do
// without naming one.
func (f *TraceFields) join(t *Trace) (decided bool) {
	if f.parents == 1 && parseParent(f.parent, t) {
		t.w3c = true
		return true
	}
	if f.b3.forms == 0 {
		return false
	}
	return f.b3.join(t)
}

// parseParent reads a traceparent (W3C Trace Context section 3.2). Of a version that we do not know, what
// version 00 has is read, and its other flags are nobody's (section 3.2.4). t changes only if it is one.
func parseParent(b []byte, t *Trace) bool {
	if len(b) < parentLength || b[2] != '-' || b[spanIDAt-1] != '-' || b[traceFlagsAt-1] != '-' {
		return false
	}
	version, ok := hexPair(b)
	flags, okFlags := hexPair(b[traceFlagsAt:])
	high, okHigh := parseHex(b[traceIDAt:])
	low, okLow := parseHex(b[traceIDAt+traceIDLength/2:])
	span, okSpan := parseHex(b[spanIDAt:])
	if !ok || !okFlags || !okHigh || !okLow || !okSpan || version == 0xff || high|low == 0 || span == 0 {
		return false
	}
	known := byte(knownFlags)
	if version != 0 {
		if len(b) > parentLength && b[parentLength] != '-' {
			return false
		}
		known = flagSampled
	} else if len(b) != parentLength {
		return false
	}
	t.high, t.low, t.caller, t.flags = high, low, span, flags&known
	copy(t.text[traceIDAt:spanIDAt], b[traceIDAt:spanIDAt])
	return true
}

// hexPair reads two lower-case hexadecimal digits.
func hexPair(b []byte) (n byte, ok bool) {
	x, ok := values('0'*(eachByte&^0xffff) | uint64(b[0])<<8 | uint64(b[1]))
	return byte(gather(x)), ok
}

// equalLower compares a field's name, in any case, to one in lower case of the same length.
func equalLower(name []byte, lower string) bool {
	for i := range len(lower) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
