package telemetry

import (
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// The longest texts of a line; what is longer is cut.
const (
	longestPath = 2048
	longestText = 256
)

// accessLine makes one line after the other. It writes JSON itself: with a general encoder, this would be the most
// expensive thing that the gateway does with a request.
type accessLine struct {
	text   []byte
	second int64  // of the last line
	stamp  []byte // that second, written out
}

// make makes the line of an exchange. What is empty is left out.
func (l *accessLine) make(r *Record) {
	b := append(l.text[:0], `{"time":"`...)
	b = l.appendTime(b, r.Time)
	b = append(b, `","request_id":"`...)
	b = appendEscaped(b, r.RequestID)
	b = append(b, '"')
	b = appendText(b, `,"trace_id":"`, r.TraceID, longestText)
	b = appendText(b, `,"client_id":"`, r.Client, longestText)
	b = appendText(b, `,"tier":"`, r.Tier, longestText)
	if r.Address.IsValid() {
		b = append(b, `,"ip":"`...)
		b = r.Address.WithZone("").AppendTo(b)
		b = append(b, '"')
	}
	b = appendText(b, `,"method":"`, r.Method, longestText)
	b = appendText(b, `,"host":"`, r.Host, longestText)
	b = appendText(b, `,"path":"`, r.Path, longestPath)
	if r.Route != nil {
		b = append(b, r.Route.label...)
	}
	b = appendText(b, `,"variant":"`, r.Variant, longestText)
	if r.Upstream != nil {
		b = append(b, r.Upstream.label...)
	}
	b = appendText(b, `,"target":"`, r.Target, longestText)
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(r.Status), 10)
	b = appendText(b, `,"reason":"`, r.Reason, longestText)
	if r.Limit != "" {
		b = appendText(b, `,"limit":"`, r.Limit, longestText)
		b = append(b, `,"remaining":`...)
		b = strconv.AppendInt(b, r.Remaining, 10)
	}
	b = appendFigures(b, r)
	b = appendText(b, `,"protocol":"`, r.Protocol, longestText)
	b = appendText(b, `,"tls":"`, r.TLS, longestText)
	l.text = append(b, "}\n"...)
}

func appendFigures(b []byte, r *Record) []byte {
	b = append(b, `,"bytes_in":`...)
	b = strconv.AppendUint(b, r.BytesIn, 10)
	b = append(b, `,"bytes_out":`...)
	b = strconv.AppendUint(b, r.BytesOut, 10)
	b = append(b, `,"duration_ms":`...)
	b = appendMilliseconds(b, r.Duration)
	b = append(b, `,"upstream_ms":`...)
	b = appendMilliseconds(b, r.UpstreamTime)
	b = append(b, `,"overhead_us":`...)
	b = strconv.AppendInt(b, r.Overhead().Microseconds(), 10)
	b = append(b, `,"attempts":`...)
	return strconv.AppendInt(b, int64(r.Attempts), 10)
}

// appendTime appends a time in UTC, to the microsecond. Lines of the same second share what is costly to write.
func (l *accessLine) appendTime(dst []byte, t time.Time) []byte {
	if second := t.Unix(); second != l.second || len(l.stamp) == 0 {
		l.second, l.stamp = second, t.UTC().AppendFormat(l.stamp[:0], "2006-01-02T15:04:05.")
	}
	dst = append(dst, l.stamp...)
	return append(appendDigits(dst, uint(t.Nanosecond()/1000), 6), 'Z') // #nosec G115 -- not negative
}

// appendMilliseconds appends a duration with three digits behind the point.
func appendMilliseconds(dst []byte, d time.Duration) []byte {
	us := uint(max(d, 0).Microseconds()) // #nosec G115 -- not negative
	dst = append(strconv.AppendUint(dst, uint64(us/1000), 10), '.')
	return appendDigits(dst, us%1000, 3)
}

// appendDigits appends n with leading zeros, in so many digits, six at most.
func appendDigits(dst []byte, n uint, digits int) []byte {
	dst = append(dst, "000000"[:digits]...)
	for i := len(dst) - 1; n > 0; i-- { // from the end: to divide by what is no constant takes ten times as long
		dst[i] = byte('0' + n%10)
		n /= 10
	}
	return dst
}

// textSigns has a one for each byte that may not stand in a string of JSON as it is, or is not ASCII.
var textSigns = [256]uint8{
	0x00: 1, 0x01: 1, 0x02: 1, 0x03: 1, 0x04: 1, 0x05: 1, 0x06: 1, 0x07: 1, 0x08: 1, 0x09: 1, 0x0a: 1, 0x0b: 1, 0x0c: 1, 0x0d: 1, 0x0e: 1, 0x0f: 1,
	0x10: 1, 0x11: 1, 0x12: 1, 0x13: 1, 0x14: 1, 0x15: 1, 0x16: 1, 0x17: 1, 0x18: 1, 0x19: 1, 0x1a: 1, 0x1b: 1, 0x1c: 1, 0x1d: 1, 0x1e: 1, 0x1f: 1,
	0x22: 1, 0x5c: 1, 0x7f: 1, 0x80: 1, 0x81: 1, 0x82: 1, 0x83: 1, 0x84: 1, 0x85: 1, 0x86: 1, 0x87: 1, 0x88: 1, 0x89: 1, 0x8a: 1, 0x8b: 1, 0x8c: 1,
	0x8d: 1, 0x8e: 1, 0x8f: 1, 0x90: 1, 0x91: 1, 0x92: 1, 0x93: 1, 0x94: 1, 0x95: 1, 0x96: 1, 0x97: 1, 0x98: 1, 0x99: 1, 0x9a: 1, 0x9b: 1, 0x9c: 1,
	0x9d: 1, 0x9e: 1, 0x9f: 1, 0xa0: 1, 0xa1: 1, 0xa2: 1, 0xa3: 1, 0xa4: 1, 0xa5: 1, 0xa6: 1, 0xa7: 1, 0xa8: 1, 0xa9: 1, 0xaa: 1, 0xab: 1, 0xac: 1,
	0xad: 1, 0xae: 1, 0xaf: 1, 0xb0: 1, 0xb1: 1, 0xb2: 1, 0xb3: 1, 0xb4: 1, 0xb5: 1, 0xb6: 1, 0xb7: 1, 0xb8: 1, 0xb9: 1, 0xba: 1, 0xbb: 1, 0xbc: 1,
	0xbd: 1, 0xbe: 1, 0xbf: 1, 0xc0: 1, 0xc1: 1, 0xc2: 1, 0xc3: 1, 0xc4: 1, 0xc5: 1, 0xc6: 1, 0xc7: 1, 0xc8: 1, 0xc9: 1, 0xca: 1, 0xcb: 1, 0xcc: 1,
	0xcd: 1, 0xce: 1, 0xcf: 1, 0xd0: 1, 0xd1: 1, 0xd2: 1, 0xd3: 1, 0xd4: 1, 0xd5: 1, 0xd6: 1, 0xd7: 1, 0xd8: 1, 0xd9: 1, 0xda: 1, 0xdb: 1, 0xdc: 1,
	0xdd: 1, 0xde: 1, 0xdf: 1, 0xe0: 1, 0xe1: 1, 0xe2: 1, 0xe3: 1, 0xe4: 1, 0xe5: 1, 0xe6: 1, 0xe7: 1, 0xe8: 1, 0xe9: 1, 0xea: 1, 0xeb: 1, 0xec: 1,
	0xed: 1, 0xee: 1, 0xef: 1, 0xf0: 1, 0xf1: 1, 0xf2: 1, 0xf3: 1, 0xf4: 1, 0xf5: 1, 0xf6: 1, 0xf7: 1, 0xf8: 1, 0xf9: 1, 0xfa: 1, 0xfb: 1, 0xfc: 1,
	0xfd: 1, 0xfe: 1, 0xff: 1,
}

// appendText appends a field, which begins with key, unless it is empty.
func appendText[T string | []byte](dst []byte, key string, value T, longest int) []byte {
	if len(value) == 0 {
		return dst
	}
	dst = append(dst, key...)
	return append(appendEscaped(dst, value[:min(len(value), longest)]), '"')
}

// appendEscaped appends a text as it may stand in a string of JSON, less what could do something to a terminal or to
// the order in which the text is shown: controls and formats become U+FFFD, as does what is no UTF-8.
func appendEscaped[T string | []byte](dst []byte, text T) []byte {
	signs := uint8(0) // of all bytes without a branch, as nearly every text is plain
	rest := text
	for ; len(rest) >= 8; rest = rest[8:] {
		signs |= textSigns[rest[0]] | textSigns[rest[1]] | textSigns[rest[2]] | textSigns[rest[3]] |
			textSigns[rest[4]] | textSigns[rest[5]] | textSigns[rest[6]] | textSigns[rest[7]]
	}
	for i := range len(rest) {
		signs |= textSigns[rest[i]]
	}
	if signs == 0 {
		return append(dst, text...)
	}
	for _, r := range string(text) {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case unicode.IsGraphic(r):
			dst = utf8.AppendRune(dst, r)
		default:
			dst = utf8.AppendRune(dst, utf8.RuneError)
		}
	}
	return dst
}
