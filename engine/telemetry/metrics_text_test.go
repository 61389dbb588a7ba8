package telemetry

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
)

// The text is to the letter what Prometheus' own encoder writes of the same families.
func TestTextIsThatOfPrometheus(t *testing.T) {
	m, _ := someMetrics(3, "gold", `a "quoted\" tier`+"\nand a line")
	m.Observe(&Record{Status: 404, Refused: true, Reason: "no_route", Duration: time.Hour})
	families := m.gather()
	var want, got bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&want, f); err != nil {
			t.Fatal(err)
		}
	}
	if err := (&textWriter{out: &got}).write(families); err != nil || got.String() != want.String() {
		t.Errorf("%v; wrote\n%s\nwant\n%s", err, got.String(), want.String())
	}
}

// Those who ask for another format get it; and no more than a few are answered at once.
func TestScrapeFormats(t *testing.T) {
	m, _ := someMetrics(1, "gold")
	started, release := make(chan struct{}, mostScrapes), make(chan struct{})
	held := m.Handler(nil, func(func(int, float64, ...string)) { started <- struct{}{}; <-release })
	ask := func(h http.Handler, accept string) *httptest.ResponseRecorder {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Header.Set("Accept", accept)
		h.ServeHTTP(w, r)
		return w
	}
	handler := m.Handler(nil, nothing)
	for accept, want := range map[string]string{
		"": "text/plain", "*/*": "text/plain",
		"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited": "application/vnd.google.protobuf",
	} {
		if w := ask(handler, accept); w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), want) || w.Body.Len() == 0 {
			t.Errorf("%q: %d %v", accept, w.Code, w.Header())
		}
	}
	var all sync.WaitGroup
	for range mostScrapes {
		all.Go(func() { ask(held, "") })
		<-started
	}
	if w := ask(held, ""); w.Code != 503 {
		t.Errorf("one too many: %d", w.Code)
	}
	close(release)
	all.Wait()
}
