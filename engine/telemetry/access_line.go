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
		b = appendText(b, `,"route":"`, r.Route.name, longestText)
	}
	b = appendText(b, `,"variant":"`, r.Variant, longestText)
	if r.Upstream != nil {
		b = appendText(b, `,"upstream":"`, r.Upstream.name, longestText)
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
	return append(appendDigits(dst, t.Nanosecond()/1000, 100_000), 'Z')
}

// appendMilliseconds appends a duration with three digits behind the point.
func appendMilliseconds(dst []byte, d time.Duration) []byte {
	us := max(d, 0).Microseconds()
	dst = append(strconv.AppendInt(dst, us/1000, 10), '.')
	return appendDigits(dst, int(us%1000), 100)
}

// appendDigits appends n with leading zeros; the first digit is worth most.
func appendDigits(dst []byte, n, most int) []byte {
	for ; most > 0; most /= 10 {
		dst = append(dst, byte('0'+n/most%10))
	}
	return dst
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
	plain := true
	for i := range len(text) {
		c := text[i]
		plain = plain && c >= ' ' && c <= '~' && c != '"' && c != '\\'
	}
	if plain {
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
