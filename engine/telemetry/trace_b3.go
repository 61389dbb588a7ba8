package telemetry

import "bytes"

// b3Forms is the ways in which a request spoke B3 (github.com/openzipkin/b3-propagation).
type b3Forms uint8

const (
	b3Single b3Forms = 1 << iota // one field: b3
	b3Multi                      // a field each: X-B3-TraceId, X-B3-SpanId, X-B3-Sampled, ...
)

// b3Fields is what a request says in B3. A field that comes twice says nothing.
type b3Fields struct {
	forms                       b3Forms
	single, trace, span, sample b3Field
	flags                       b3Field
}

type b3Field struct {
	value []byte
	n     int
}

func (f *b3Field) set(value []byte) {
	f.value = value
	f.n++
}

func (f *b3Field) sole() []byte {
	if f.n != 1 {
		return nil
	}
	return f.value
}

func (f *b3Fields) read(name, value []byte) {
	if len(name) == len("b3") {
		if equalLower(name, "b3") {
			f.single.set(value)
			f.forms |= b3Single
		}
		return
	}
	if !equalLower(name[:len("x-b3-")], "x-b3-") {
		return
	}
	switch rest := name[len("x-b3-"):]; {
	case len(rest) == len("traceid") && equalLower(rest, "traceid"):
		f.trace.set(value)
	case len(rest) == len("sampled") && equalLower(rest, "sampled"):
		f.sample.set(value)
	case len(rest) == len("spanid") && equalLower(rest, "spanid"):
		f.span.set(value)
	case len(rest) == len("flags") && equalLower(rest, "flags"):
		f.flags.set(value)
	case len(rest) == len("parentspanid") && equalLower(rest, "parentspanid"):
	default:
		return
	}
	f.forms |= b3Multi
}

// join reads the single field before the others. Either may decide alone, without ids.
func (f *b3Fields) join(t *Trace) (decided bool) {
	id, span, decision := f.single.sole(), []byte(nil), []byte(nil)
	if len(id) > 0 {
		if len(id) == 1 {
			id, decision = nil, id
		} else {
			id, span, _ = bytes.Cut(id, []byte{'-'})
			span, decision, _ = bytes.Cut(span, []byte{'-'})
			decision, _, _ = bytes.Cut(decision, []byte{'-'})
		}
	} else {
		id, span, decision = f.trace.sole(), f.span.sole(), f.sample.sole()
		if string(f.flags.sole()) == "1" {
			decision = f.flags.value // debug implies yes
		}
	}
	t.joinB3(id, span)
	switch string(decision) {
	case "1", "d", "true":
		t.flags = flagSampled
		return true
	case "0", "false":
		return true
	}
	return false
}

// joinB3 makes a trace t's, if ids of 64 or 128 bits and of 64 bits name one.
func (t *Trace) joinB3(id, span []byte) {
	if len(id) != traceIDLength && len(id) != traceIDLength/2 || len(span) != spanIDLength {
		return
	}
	low, okLow := parseHex(id[len(id)-traceIDLength/2:])
	high, okHigh := uint64(0), true
	if len(id) == traceIDLength {
		high, okHigh = parseHex(id)
	}
	caller, ok := parseHex(span)
	if ok && okLow && okHigh && caller != 0 && high|low != 0 {
		t.high, t.low, t.caller = high, low, caller
	}
}

// appendB3 appends the trace in the forms of B3 that the request had.
func (t *Trace) appendB3(dst []byte) []byte {
	decision := byte('0' + t.flags&flagSampled)
	if t.b3&b3Single != 0 {
		dst = append(dst, "b3: "...)
		dst = append(dst, t.ID()...)
		dst = append(dst, '-')
		dst = append(dst, t.span()...)
		dst = append(dst, '-', decision, '\r', '\n')
	}
	if t.b3&b3Multi != 0 {
		dst = append(dst, "X-B3-TraceId: "...)
		dst = append(dst, t.ID()...)
		dst = append(dst, "\r\nX-B3-SpanId: "...)
		dst = append(dst, t.span()...)
		dst = append(dst, "\r\nX-B3-Sampled: "...)
		dst = append(dst, decision, '\r', '\n')
	}
	return dst
}
