package telemetry

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/klauspost/compress/gzhttp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// Family is figures of one name, told apart by labels. Its name is given without sluice_.
type Family struct {
	Name, Help string
	Counter    bool // it never falls; else a gauge
	Labels     []string
}

// Report tells the figures of one moment: emit is called with a family's place, a value, and its labels' values.
type Report func(emit func(family int, value float64, labels ...string))

// mostScrapes is how many scrapes are answered at once.
const mostScrapes = 2

// Handler answers scrapes of Prometheus with what was counted, with what report tells of families, and with the
// figures of the Go runtime and the process.
func (m *Metrics) Handler(families []Family, report Report) http.Handler {
	g := &gatherer{metrics: m, rest: prometheus.NewRegistry(), scrapes: make(chan struct{}, mostScrapes)}
	g.rest.MustRegister(
		newReporter(families, report),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	g.others = promhttp.HandlerFor(g, promhttp.HandlerOpts{DisableCompression: true, ErrorHandling: promhttp.ContinueOnError})
	wrap, err := gzhttp.NewWrapper(gzhttp.CompressionLevel(1), gzhttp.EnableZstd(false))
	if err != nil {
		panic("BUG: a compression that is not known: " + err.Error())
	}
	return wrap(http.HandlerFunc(g.serve))
}

// gatherer puts the families of exchanges beside those of a registry. What a registry does with each metric, which
// is right by construction here, takes longer than all else for ten thousand routes; so does writing it line by line.
type gatherer struct {
	metrics *Metrics
	rest    *prometheus.Registry
	others  http.Handler  // answers in other formats than text
	scrapes chan struct{} // has one for each under way
}

func (g *gatherer) serve(w http.ResponseWriter, r *http.Request) {
	select {
	case g.scrapes <- struct{}{}:
		defer func() { <-g.scrapes }()
	default:
		http.Error(w, "too many scrapes at once", http.StatusServiceUnavailable)
		return
	}
	format := expfmt.Negotiate(r.Header)
	if format.FormatType() != expfmt.TypeTextPlain {
		g.others.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Content-Type", string(format))
	text := textWriter{out: w, text: make([]byte, 0, textBuffer+4<<10)}
	if text.write(g.metrics.gather()) != nil {
		return // whoever asked has left
	}
	rest, _ := g.rest.Gather() // what it could not gather is missing, as elsewhere
	encoder := expfmt.NewEncoder(w, format)
	for _, f := range rest {
		if encoder.Encode(f) != nil {
			return
		}
	}
}

// Gather implements prometheus.Gatherer.
func (g *gatherer) Gather() ([]*dto.MetricFamily, error) {
	rest, err := g.rest.Gather()
	all := append(g.metrics.gather(), rest...)
	slices.SortFunc(all, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return all, err
}

// reporter collects what a report tells.
type reporter struct {
	families []Family
	descs    []*prometheus.Desc
	report   Report
}

func newReporter(families []Family, report Report) *reporter {
	r := &reporter{families: families, report: report}
	for _, f := range families {
		r.descs = append(r.descs, prometheus.NewDesc("sluice_"+f.Name, f.Help, f.Labels, nil))
	}
	return r
}

// Describe implements prometheus.Collector.
func (r *reporter) Describe(to chan<- *prometheus.Desc) {
	for _, d := range r.descs {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (r *reporter) Collect(to chan<- prometheus.Metric) {
	r.report(func(family int, value float64, labels ...string) {
		kind := prometheus.GaugeValue
		if r.families[family].Counter {
			kind = prometheus.CounterValue
		}
		to <- prometheus.MustNewConstMetric(r.descs[family], kind, value, labels...)
	})
}
