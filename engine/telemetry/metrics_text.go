package telemetry

import (
	"io"
	"strconv"

	dto "github.com/prometheus/client_model/go"
)

// textBuffer is how much text is gathered before it is written.
const textBuffer = 32 << 10

// textWriter writes families of counters, gauges and histograms in Prometheus' text format 0.0.4. It is for those that
// may have ten thousand metrics each: labels are written out once for a metric, not for each of its lines.
type textWriter struct {
	out    io.Writer
	text   []byte
	labels []byte
	err    error
}

// write writes families. Their help must not need escaping.
func (w *textWriter) write(families []*dto.MetricFamily) error {
	for _, f := range families {
		name := f.GetName()
		w.text = append(w.text, "# HELP "...)
		w.text = append(w.text, name...)
		w.text = append(w.text, ' ')
		w.text = append(w.text, f.GetHelp()...)
		w.text = append(w.text, "\n# TYPE "...)
		w.text = append(w.text, name...)
		w.text = append(w.text, map[dto.MetricType]string{
			dto.MetricType_COUNTER: " counter\n", dto.MetricType_GAUGE: " gauge\n", dto.MetricType_HISTOGRAM: " histogram\n",
		}[f.GetType()]...)
		for _, m := range f.GetMetric() {
			w.metric(name, m)
			if len(w.text) >= textBuffer {
				w.flush()
			}
		}
	}
	w.flush()
	return w.err
}

func (w *textWriter) flush() {
	if w.err == nil {
		_, w.err = w.out.Write(w.text)
	}
	w.text = w.text[:0]
}

func (w *textWriter) metric(name string, m *dto.Metric) {
	w.labels = w.labels[:0]
	for _, l := range m.GetLabel() {
		if len(w.labels) > 0 {
			w.labels = append(w.labels, ',')
		}
		w.labels = append(w.labels, l.GetName()...)
		w.labels = append(w.labels, `="`...)
		w.labels = append(appendLabelValue(w.labels, l.GetValue()), '"')
	}
	switch {
	case m.GetHistogram() != nil:
		w.histogram(name, m.GetHistogram())
	case m.GetCounter() != nil:
		w.line(name, "", m.GetCounter().GetValue())
	default:
		w.line(name, "", m.GetGauge().GetValue())
	}
}

func (w *textWriter) histogram(name string, h *dto.Histogram) {
	for _, b := range h.GetBucket() {
		w.bucket(name)
		w.text = appendValue(w.text, b.GetUpperBound())
		w.text = append(w.text, `"} `...)
		w.text = append(strconv.AppendUint(w.text, b.GetCumulativeCount(), 10), '\n')
	}
	w.bucket(name)
	w.text = append(w.text, `+Inf"} `...)
	w.text = append(strconv.AppendUint(w.text, h.GetSampleCount(), 10), '\n')
	w.line(name, "_sum", h.GetSampleSum())
	w.line(name, "_count", float64(h.GetSampleCount()))
}

// bucket begins the line of a bucket, up to its bound.
func (w *textWriter) bucket(name string) {
	w.text = append(w.text, name...)
	w.text = append(w.text, "_bucket{"...)
	if w.text = append(w.text, w.labels...); len(w.labels) > 0 {
		w.text = append(w.text, ',')
	}
	w.text = append(w.text, `le="`...)
}

func (w *textWriter) line(name, suffix string, value float64) {
	w.text = append(w.text, name...)
	w.text = append(w.text, suffix...)
	if len(w.labels) > 0 {
		w.text = append(w.text, '{')
		w.text = append(w.text, w.labels...)
		w.text = append(w.text, '}')
	}
	w.text = append(w.text, ' ')
	w.text = append(appendValue(w.text, value), '\n')
}

func appendValue(dst []byte, v float64) []byte {
	if n := int64(v); float64(n) == v && n > -1<<53 && n < 1<<53 {
		return strconv.AppendInt(dst, n, 10)
	}
	return strconv.AppendFloat(dst, v, 'g', -1, 64)
}

// appendLabelValue escapes what the format wants escaped.
func appendLabelValue(dst []byte, value string) []byte {
	for i := range len(value) {
		switch c := value[i]; c {
		case '\\', '"':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, `\n`...)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
