package engine

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// scraped asks for the metrics as Prometheus does, and reads them with its parser.
func scraped(t testing.TB, handler http.Handler) map[string]*dto.MetricFamily {
	t.Helper()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// sum adds up the series of a family that have these labels, "name=value".
func sum(families map[string]*dto.MetricFamily, family string, labels ...string) (total float64) {
	for _, m := range families[family].GetMetric() {
		has := map[string]bool{}
		for _, l := range m.GetLabel() {
			has[l.GetName()+"="+l.GetValue()] = true
		}
		all := true
		for _, l := range labels {
			all = all && has[l]
		}
		if all {
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return total
}

func metricsTables(target string) string {
	return publicRoute(target) + `limits = ["tight", "shade"]
timeout = "5s"
[[limit]]
name  = "tight"
key   = ["ip"]
rate  = "3/h"
burst = 3
[[limit]]
name  = "shade"
key   = ["ip"]
rate  = "1/h"
burst = 1
mode  = "shadow"
`
}

// Every request is counted once, whatever became of it: here a known number of each.
func TestMetricsOfKnownLoad(t *testing.T) {
	g := startGateway(t, metricsTables(rawServer(t, smallAnswer)))
	client := dial(t, g.address)
	ask := func(raw string) (status int) {
		t.Helper()
		if _, err := io.WriteString(client, raw); err != nil {
			t.Fatal(err)
		}
		r, err := http.ReadResponse(client.in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Fatal(err)
		}
		return r.StatusCode
	}
	statuses := map[int]int{}
	for range 5 {
		statuses[ask("GET /a HTTP/1.1\r\nHost: h\r\n\r\n")]++
	}
	statuses[ask("GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")]++
	client = dial(t, g.address)
	statuses[ask("nonsense\r\n\r\n")]++
	for i := range 3 { // connects and leaves: no request
		c := dial(t, g.address)
		_, _ = io.WriteString(c, []string{"", "G", "GET /a HTTP/1.1\r\nHost"}[i])
		c.Close()
	}
	if fmt.Sprint(statuses) != "map[200:3 400:1 429:3]" {
		t.Fatal(statuses)
	}
	var families map[string]*dto.MetricFamily
	eventually(t, func() bool {
		families = scraped(t, g.Metrics())
		return sum(families, "sluice_requests_total") == 7 && sum(families, "sluice_connections_total") == 5 && sum(families, "sluice_connections") == 0
	})
	for _, c := range []struct {
		family string
		labels []string
		want   float64
	}{
		{"sluice_requests_total", []string{"route=all", "status=200", "tier="}, 3},
		{"sluice_requests_total", []string{"route=all", "status=429"}, 3},
		{"sluice_requests_total", []string{"route=", "status=400"}, 1},
		{"sluice_rejections_total", []string{"route=all", "reason=rate_limited", "limit=tight"}, 3},
		{"sluice_rejections_total", []string{"route=", "reason=bad_request", "limit="}, 1},
		{"sluice_rejections_total", nil, 4},
		{"sluice_limit_refused_total", []string{"limit=tight"}, 3},
		{"sluice_limit_shadowed_total", []string{"limit=shade"}, 2},
		{"sluice_request_duration_seconds", []string{"route=all"}, 6},
		{"sluice_upstream_duration_seconds", []string{"upstream=origin"}, 3},
		{"sluice_overhead_seconds", nil, 7},
		{"sluice_requests_in_flight", nil, 0},
		{"sluice_connections_total", nil, 5},
		{"sluice_config_info", nil, 1},
		{"sluice_ready", nil, 1},
	} {
		if got := sum(families, c.family, c.labels...); got != c.want {
			t.Errorf("%s%v is %v, want %v", c.family, c.labels, got, c.want)
		}
	}
	for _, family := range []string{"go_goroutines", "process_open_fds", "sluice_build_info", "sluice_target_present", "sluice_received_bytes_total"} {
		if sum(families, family) == 0 {
			t.Errorf("no %s", family)
		}
	}
	status := g.Status(time.Now())
	traffic := status.Routes[0].Traffic
	if status.Requests != 7 || status.Responses["2xx"] != 3 || status.Responses["4xx"] != 4 {
		t.Errorf("the status tells of %d requests, %v", status.Requests, status.Responses)
	}
	if rest := g.metrics.Traffic(nil); rest.Requests != 1 || rest.Refusals["bad_request"] != 1 {
		t.Errorf("without a route: %+v", rest)
	}
	if traffic.Requests != 6 || traffic.Statuses["2xx"] != 3 || traffic.Refusals["rate_limited"] != 3 || traffic.Duration.P50 <= 0 ||
		traffic.Duration.P99 < traffic.Duration.P50 || traffic.BytesIn < 6*29 || traffic.BytesOut <= 0 {
		t.Errorf("the route's traffic is %+v", traffic)
	}
	if all := status.Traffic; all.Requests != 7 || all.Statuses["4xx"] != 4 || all.Refusals["rate_limited"] != 3 || all.Refusals["bad_request"] != 1 ||
		all.InFlight != 0 || all.Duration.P99 < traffic.Duration.P50 || all.BytesOut <= traffic.BytesOut {
		t.Errorf("all traffic is %+v", all)
	}
}

// A reload keeps what was counted. A route that it takes away is told of for a while, and goes on if it comes back.
func TestMetricsOutliveReloads(t *testing.T) {
	origin := rawServer(t, smallAnswer)
	g := startGateway(t, publicRoute(origin))
	ask := func() {
		client := dial(t, g.address)
		if _, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, client.in); err != nil {
			t.Fatal(err)
		}
	}
	count := func(want float64) {
		t.Helper()
		eventually(t, func() bool { return sum(scraped(t, g.Metrics()), "sluice_requests_total", "route=all") == want })
	}
	reload := func(tables string) {
		t.Helper()
		g.write(t, tables)
		if err := g.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	count(1)
	reload(publicRoute(origin) + "timeout = \"3s\"\n")
	ask()
	count(2)
	reload(strings.ReplaceAll(publicRoute(origin), `"all"`, `"other"`))
	ask()
	count(2)
	reload(publicRoute(origin))
	ask()
	count(3)
	families := scraped(t, g.Metrics())
	if n := sum(families, "sluice_config_reloads_total", "result=ok"); n < 3 { // the file is watched as well
		t.Errorf("%v reloads", n)
	}
	if n := sum(families, "sluice_upstream_duration_seconds", "upstream=origin"); n != 4 {
		t.Errorf("%v requests met the upstream", n)
	}
	g.write(t, "nonsense")
	if err := g.Reload(); err == nil {
		t.Fatal("nonsense was accepted")
	}
	if n := sum(scraped(t, g.Metrics()), "sluice_config_reloads_total", "result=failed"); n < 1 {
		t.Errorf("%v failed reloads", n)
	}
}

// TestMetricsAreDocumented keeps the README's table and the code the same.
func TestMetricsAreDocumented(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := regexp.MustCompile(`sluice_[a-z_]+`).FindAllString(string(readme), -1)
	for _, name := range MetricNames() {
		if !slices.Contains(documented, name) {
			t.Errorf("the README does not tell of %s", name)
		}
	}
	for _, name := range documented {
		if !slices.Contains(MetricNames(), name) {
			t.Errorf("the README tells of %s, which is no metric", name)
		}
	}
}
