package engine

import (
	"encoding/json"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metricsql"
	dto "github.com/prometheus/client_model/go"
	"go.yaml.in/yaml/v3"
)

// exposition is what Prometheus knows of a gateway: the labels of every family that there is.
type exposition struct {
	labels     map[string][]string
	histograms map[string]bool
	reasons    []string
}

func newExposition(t *testing.T) exposition {
	t.Helper()
	e := exposition{labels: map[string][]string{"up": {}}, histograms: map[string]bool{}}
	for _, f := range Faults() {
		e.reasons = append(e.reasons, f.Reason)
	}
	for _, f := range metricFamilies() {
		e.labels["sluice_"+f.Name] = append([]string{}, f.Labels...)
	}
	g := startGateway(t, metricsTables(rawServer(t, smallAnswer)))
	for range 4 { // the last is refused
		client := dial(t, g.address)
		if _, err := io.WriteString(client, "GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, client.in)
	}
	var families map[string]*dto.MetricFamily
	eventually(t, func() bool {
		families = scraped(t, g.Metrics())
		return sum(families, "sluice_rejections_total") > 0
	})
	for name, f := range families {
		e.histograms[name] = f.GetType() == dto.MetricType_HISTOGRAM
		for _, l := range f.GetMetric()[0].GetLabel() {
			if !slices.Contains(e.labels[name], l.GetName()) {
				e.labels[name] = append(slices.Clip(e.labels[name]), l.GetName())
			}
		}
		if e.labels[name] == nil {
			e.labels[name] = []string{}
		}
	}
	return e
}

// judge tells what is wrong with an expression, and which labels its result has.
func (e exposition) judge(text string) (labels, faults []string) {
	for variable, value := range map[string]string{"$__rate_interval": "5m", "$instance": ".*", "$route": ".*"} {
		text = strings.ReplaceAll(text, variable, value)
	}
	expr, err := metricsql.Parse(text)
	if err != nil {
		return nil, []string{err.Error()}
	}
	return e.walk(expr)
}

// walk goes through an expression from the inside, and keeps count of the labels.
func (e exposition) walk(expr metricsql.Expr) (labels, faults []string) {
	switch x := expr.(type) {
	case *metricsql.MetricExpr:
		return e.metric(x)
	case *metricsql.RollupExpr:
		return e.walk(x.Expr)
	case *metricsql.FuncExpr:
		for _, arg := range x.Args {
			l, f := e.walk(arg)
			labels, faults = append(labels, l...), append(faults, f...)
		}
		if x.Name == "histogram_quantile" {
			if !slices.Contains(labels, "le") {
				faults = append(faults, "histogram_quantile without le")
			}
			labels = slices.DeleteFunc(labels, func(l string) bool { return l == "le" })
		}
		return labels, faults
	case *metricsql.AggrFuncExpr:
		for _, arg := range x.Args {
			l, f := e.walk(arg)
			labels, faults = append(labels, l...), append(faults, f...)
		}
		if x.Name == "topk" {
			return labels, faults
		}
		return x.Modifier.Args, append(faults, missing(labels, x.Modifier.Args)...)
	case *metricsql.BinaryOpExpr:
		left, faults := e.walk(x.Left)
		right, more := e.walk(x.Right)
		faults = append(faults, more...)
		faults = append(faults, missing(left, x.GroupModifier.Args)...)
		if len(left) == 0 {
			return right, faults
		}
		return left, append(faults, missing(right, x.GroupModifier.Args)...)
	}
	return nil, nil
}

func (e exposition) metric(x *metricsql.MetricExpr) (labels, faults []string) {
	for _, filters := range x.LabelFilterss {
		name := filters[0].Value
		family, known := name, e.labels[name] != nil
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, cut := strings.CutSuffix(name, suffix); cut && e.histograms[base] {
				family, known = base, true
			}
		}
		if !known || e.histograms[name] {
			return nil, []string{"there is no metric " + name}
		}
		labels = append(slices.Clone(e.labels[family]), "instance", "job")
		if strings.HasSuffix(name, "_bucket") {
			labels = append(labels, "le")
		}
		for _, filter := range filters[1:] {
			faults = append(faults, missing(labels, []string{filter.Label})...)
			reasons := e.reasons
			if family == "sluice_cluster_dropped_total" {
				reasons = []string{"malformed", "overflow", "records", "replayed", "stranger", "unverified"}
			}
			known := map[string][]string{"reason": reasons, "result": {"ok", "failed", "exported", "dropped"}}[filter.Label]
			if known != nil && !filter.IsRegexp && !slices.Contains(known, filter.Value) {
				faults = append(faults, "there is no "+filter.Label+" "+filter.Value)
			}
		}
	}
	return labels, faults
}

func missing(labels, wanted []string) (faults []string) {
	for _, l := range wanted {
		if !slices.Contains(labels, l) {
			faults = append(faults, "there is no label "+l)
		}
	}
	return faults
}

func TestAdoptSeesWhatIsWrong(t *testing.T) {
	e := newExposition(t)
	for _, c := range []struct{ expr, fault, intent string }{
		{`sum by (route) (rate(sluice_requests_total{status=~"5..", instance=~"$instance"}[$__rate_interval]))`, "", "as it should be"},
		{`histogram_quantile(0.9, sum by (le) (rate(sluice_overhead_seconds_bucket[5m])))`, "", "a histogram"},
		{`sluice_target_present == 0 or process_start_time_seconds > 1`, "", "what comes with every program"},
		{`sluice_request_total`, "no metric sluice_request_total", "a misspelt name"},
		{`sluice_overhead_seconds`, "no metric", "a histogram has no value itself"},
		{`sluice_ready_bucket`, "no metric", "what is none has no buckets"},
		{`sum by (client) (sluice_requests_total)`, "no label client", "a label that there is not"},
		{`sluice_requests_total{client="x"}`, "no label client", "... to choose by"},
		{`sum by (le) (sum by (route) (rate(sluice_request_duration_seconds_bucket[5m])))`, "no label le", "a label that is lost on the way"},
		{`histogram_quantile(0.9, sum by (route) (rate(sluice_request_duration_seconds_bucket[5m])))`, "without le", "a quantile of nothing"},
		{`sluice_rejections_total{reason="tired"}`, "no reason tired", "a reason that nobody gives"},
		{`sluice_cluster_dropped_total{reason="rate_limited"}`, "no reason rate_limited", "another family's reason"},
		{`sum(`, "", "no expression"},
	} {
		_, faults := e.judge(c.expr)
		if got := strings.Join(faults, "; "); c.expr == "sum(" && got == "" || c.expr != "sum(" && (c.fault == "" && got != "" || !strings.Contains(got, c.fault)) {
			t.Errorf("%s: want %q, have %q", c.intent, c.fault, got)
		}
	}
}

func TestAlertsAreOfMetricsThatExist(t *testing.T) {
	text, err := os.ReadFile("telemetry/adopt/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		t.Fatal(err)
	}
	e, seen := newExposition(t), map[string]bool{}
	for _, rule := range file.Groups[0].Rules {
		labels, faults := e.judge(rule.Expr)
		for _, told := range rule.Annotations {
			for _, l := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(told, -1) {
				faults = append(faults, missing(labels, l[1:])...)
			}
		}
		if seen[rule.Alert] || !strings.HasPrefix(rule.Alert, "Sluice") {
			faults = append(faults, "its name is not its own")
		}
		seen[rule.Alert] = true
		if !slices.Contains([]string{"critical", "warning", "info"}, rule.Labels["severity"]) || rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
			faults = append(faults, "it does not say how bad it is, or what it is")
		}
		for _, fault := range faults {
			t.Errorf("%s: %s", rule.Alert, fault)
		}
	}
	if len(seen) < 15 {
		t.Errorf("%d alerts only", len(seen))
	}
}

func TestDashboardIsOfMetricsThatExist(t *testing.T) {
	text, err := os.ReadFile("telemetry/adopt/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	type query struct{ Expr, LegendFormat, TextFormat string }
	var board struct {
		Panels []struct {
			ID      int
			Title   string
			Type    string
			GridPos struct{ X, Y, W, H int }
			Targets []query
		}
		Annotations struct{ List []query }
		Templating  struct {
			List []struct{ Definition string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	e := newExposition(t)
	judge := func(where string, q query) {
		labels, faults := e.judge(q.Expr)
		for _, l := range regexp.MustCompile(`{{(\w+)}}`).FindAllStringSubmatch(q.LegendFormat+q.TextFormat, -1) {
			faults = append(faults, missing(labels, l[1:])...)
		}
		for _, fault := range faults {
			t.Errorf("%s: %s: %s", where, q.Expr, fault)
		}
	}
	cells, ids := map[[2]int]string{}, map[int]bool{}
	queries := 0
	for _, p := range board.Panels {
		for _, q := range p.Targets {
			judge(p.Title, q)
			queries++
		}
		if ids[p.ID] || (len(p.Targets) == 0) != (p.Type == "row") || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s: its id is another's, it shows nothing, or it sticks out", p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" {
					t.Fatalf("%s lies on %s", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
	}
	for _, a := range board.Annotations.List {
		judge("an annotation", a)
	}
	for _, v := range board.Templating.List {
		if found := regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`).FindStringSubmatch(v.Definition); found != nil {
			judge("a variable", query{Expr: "sum by (" + found[2] + ") (" + found[1] + ")"})
		}
	}
	if queries < 30 {
		t.Errorf("%d queries only", queries)
	}
}
