package main

import (
	"image/color"
	"path/filepath"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// draw draws the processor time of main scenarios, and latencies at half load, as SVG.
func (r report) draw(folder string) error {
	if err := r.drawTime(filepath.Join(folder, "gateways-cpu.svg")); err != nil {
		return err
	}
	return r.drawLatency(filepath.Join(folder, "gateways-latency.svg"))
}

// shades are the gateways' colours, the same in both plots.
func shades() map[string]color.Color {
	return map[string]color.Color{
		"sluice": color.RGBA{0x0b, 0x6e, 0x4f, 0xff}, "nginx": color.RGBA{0x2e, 0x5e, 0xaa, 0xff}, nginxBare: color.RGBA{0x8f, 0xb1, 0xe3, 0xff},
		"haproxy": color.RGBA{0xd1, 0x49, 0x5b, 0xff}, "caddy": color.RGBA{0xed, 0xae, 0x49, 0xff}, "traefik": color.RGBA{0x8a, 0x5a, 0x9e, 0xff},
		"fasthttp": color.RGBA{0x77, 0x77, 0x77, 0xff}, direct: color.RGBA{0xbb, 0xbb, 0xbb, 0xff},
	}
}

// shown are the gateways that take part in any of the scenarios, in the order of the legend.
func (r report) shown(scenarios []string) (names []string) {
	for _, name := range []string{"sluice", nginxBare, "nginx", "haproxy", "fasthttp", "caddy", "traefik", direct} {
		if slices.ContainsFunc(scenarios, func(s string) bool { return r.of(s, name) != nil }) {
			names = append(names, name)
		}
	}
	return names
}

func (r report) drawTime(path string) error {
	scenarios := slices.DeleteFunc([]string{"bare", "full", "jwt", "refused", "routes-10k", "post-4KiB", "tls"}, func(s string) bool { return r.of(s, "sluice") == nil })
	p := plot.New()
	p.Title.Text = "CPU time of a request (what reaches the top goes on)"
	p.Y.Label.Text, p.Y.Min = "microseconds", 0
	names := r.shown(scenarios)
	width := vg.Points(340 / float64(max(1, len(scenarios)*(len(names)+1))))
	highest := 0.0 // of those that are near each other
	for i, name := range names {
		var values plotter.Values
		for _, s := range scenarios {
			value := 0.0
			if one := r.of(s, name); one != nil {
				value, _ = one.median(cpuPerRequest)
			}
			if serious(name) {
				highest = max(highest, value)
			}
			values = append(values, value)
		}
		bars, err := plotter.NewBarChart(values, width)
		if err != nil {
			return err
		}
		bars.Color, bars.LineStyle.Width = shades()[name], 0
		bars.Offset = width * vg.Length(float64(i)-float64(len(names)-1)/2)
		p.Add(bars)
		p.Legend.Add(name, bars)
	}
	if len(names) > 0 {
		p.NominalX(scenarios...)
		p.Y.Max = max(1, 1.5*highest)
		legendRight(p, len(scenarios), 14.9*vg.Centimeter)
	}
	return p.Save(20*vg.Centimeter, 10*vg.Centimeter, path)
}

// legendRight puts the legend beside what is drawn at 0 to n-1.
func legendRight(p *plot.Plot, n int, at vg.Length) {
	p.X.Min, p.X.Max = -0.6, float64(n)*1.2-0.3
	p.Legend.Top, p.Legend.Left, p.Legend.XOffs = true, true, at
}

func (r report) drawLatency(path string) error {
	const scenario = "latency-full"
	p := plot.New()
	p.Title.Text = "Latency at half load"
	p.Y.Label.Text = "microseconds, logarithmic"
	percentiles := []figure{p50, p99, p999}
	for _, name := range r.shown([]string{scenario}) {
		var points plotter.XYs
		for i, f := range percentiles {
			if value, ok := r.of(scenario, name).median(f); ok && value > 0 {
				points = append(points, plotter.XY{X: float64(i), Y: value})
			}
		}
		if len(points) == 0 {
			continue
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return err
		}
		line.Width, line.Color, dots.Color = vg.Points(1.6), shades()[name], shades()[name]
		p.Add(line, dots)
		p.Legend.Add(name, line)
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	p.NominalX("p50", "p99", "p99.9")
	legendRight(p, len(percentiles), 10.3*vg.Centimeter)
	return p.Save(16*vg.Centimeter, 10*vg.Centimeter, path)
}
