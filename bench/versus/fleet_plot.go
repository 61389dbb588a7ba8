package versus

import (
	"image/color"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// fleetRun is what one system admitted.
type fleetRun struct {
	name     string
	admitted []time.Duration
}

// drawFleets draws how many requests each system had admitted beyond its burst, over time, beside what the limit
// grants, as an SVG.
func drawFleets(path, title string, runs []fleetRun, limit float64, long time.Duration) error {
	p := plot.New()
	p.Title.Text = title
	p.X.Label.Text, p.Y.Label.Text = "seconds", "requests admitted"
	p.X.Min, p.Y.Min = 0, 0
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	granted, err := plotter.NewLine(plotter.XYs{{X: 0, Y: limit}, {X: long.Seconds(), Y: limit * (1 + long.Seconds())}})
	if err != nil {
		return err
	}
	granted.Width, granted.Dashes = vg.Points(1), []vg.Length{vg.Points(4), vg.Points(3)}
	p.Add(granted)
	p.Legend.Add("limit: rate and burst", granted)
	colors := []color.Color{
		color.RGBA{0x0b, 0x6e, 0x4f, 0xff}, color.RGBA{0xd1, 0x49, 0x5b, 0xff}, color.RGBA{0x2e, 0x5e, 0xaa, 0xff},
	}
	for i, run := range runs {
		points := make(plotter.XYs, 0, len(run.admitted)/10+1)
		for n, at := range run.admitted {
			if n%10 == 0 || n == len(run.admitted)-1 {
				points = append(points, plotter.XY{X: at.Seconds(), Y: float64(n + 1)})
			}
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return err
		}
		line.Width, line.Color = vg.Points(1.6), colors[i%len(colors)]
		p.Add(line)
		p.Legend.Add(run.name, line)
	}
	return p.Save(16*vg.Centimeter, 9*vg.Centimeter, path)
}
