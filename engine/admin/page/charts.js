// The charts, drawn by uPlot.

import { h } from "./dom.js";
import { clock, millis, rate, reason } from "./format.js";

/* global uPlot */

// colour reads a colour of the theme, as a canvas takes it.
function colour(name) {
  const probe = h("span", { hidden: true });
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

const numbers = (c) => c.match(/[\d.]+/g).slice(0, 3).map(Number);
const faint = (c) => `rgba(${numbers(c).join(", ")}, 0.14)`;

// solid is a colour that hides what is behind it, and looks like 45 % of c on a ground.
const solid = (c, ground) => `rgb(${numbers(c).map((v, i) => Math.round(0.45 * v + 0.55 * numbers(ground)[i])).join(", ")})`;

// Chart is one plot in a figure. lines(model) tells what is drawn, as {name, label, colour, values, own}: own are the
// values to tell, if those that are drawn are stacked.
export class Chart {
  constructor(figure, { label, show, lines, fill = false, sync = "time", height = 160 }) {
    this.place = h("div", { class: "plot", role: "img", "aria-label": label });
    figure.append(this.place);
    Object.assign(this, { label, show, lines, fill, sync, height, drawn: "" });
    new ResizeObserver(() => this.resize()).observe(this.place);
  }

  resize() {
    const width = this.place.clientWidth;
    if (this.plot && width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: this.height });
  }

  // update draws the lines over times; the plot is made anew when they are others, or the theme is.
  update(times, lines) {
    if (!this.place.clientWidth || times.length < 2) return;
    this.shown = lines;
    const kind = JSON.stringify([document.documentElement.dataset.theme, matchMedia("(prefers-color-scheme: dark)").matches, lines.map((l) => l.name)]);
    const data = [times, ...lines.map((l) => l.values)];
    if (kind !== this.drawn) {
      this.drawn = kind;
      this.plot?.destroy();
      this.plot = new uPlot(this.options(lines), data, this.place);
    } else {
      this.plot.setData(data);
    }
    const last = lines.map((l) => `${l.label} ${this.show((l.own ?? l.values).at(-1))}`).join(", ");
    this.place.setAttribute("aria-label", `${this.label}: now ${last || "nothing"}`);
  }

  options(lines) {
    const [text, line, panel] = [colour("--quiet"), colour("--line-soft"), colour("--panel")];
    const axis = { stroke: text, font: "11px system-ui, sans-serif", grid: { stroke: line, width: 1 }, ticks: { show: false } };
    return {
      width: this.place.clientWidth, height: this.height,
      cursor: { sync: { key: this.sync }, drag: { x: false, y: false }, points: { size: 5 } },
      legend: { live: true },
      padding: [8, 6, 0, 0],
      scales: { x: { time: true, range: (_, min, max) => [Math.min(min, max - 60), max] }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] } },
      axes: [
        { ...axis, size: 24, space: 70, values: (_, ticks) => ticks.map((t) => clock(new Date(t * 1000)).slice(0, ticks[1] - ticks[0] < 60 ? 8 : 5)) },
        { ...axis, size: 46, space: 28, values: (_, ticks) => ticks.map((v) => this.show(v, true)) },
      ],
      series: [
        { label: "", value: (_, t) => (t ? clock(new Date(t * 1000)) : "") },
        ...lines.map((l, i) => {
          const c = colour(l.colour);
          return {
            label: l.label, stroke: c, width: 1.5, points: { show: false }, spanGaps: false,
            fill: l.own ? solid(c, panel) : this.fill && i === 0 ? faint(c) : undefined,
            value: (_, v, __, index) => this.show(index == null ? (this.shown[i].own ?? this.shown[i].values).at(-1) : (this.shown[i].own ?? this.shown[i].values)[index]),
          };
        }),
      ],
    };
  }
}

const tick = (v) => (v >= 1e6 ? `${v / 1e6}M` : v >= 1e4 ? `${v / 1e3}k` : String(+v.toFixed(3)));
const showRate = (v, axis) => (axis ? tick(v) : rate(v));
const showMillis = (v, axis) => (axis ? tick(v) : millis(v));

const values = (series, name, length) => series.get(name)?.values ?? new Array(length).fill(null);

const rateLines = (series, n) => [
  { name: "rate", label: "all", colour: "--series-1", values: values(series, "rate", n) },
  { name: "errors", label: "5xx", colour: "--series-2", values: values(series, "errors", n) },
];

const latencyLines = (series, n) => [
  { name: "p99", label: "p99", colour: "--series-2", values: values(series, "p99", n) },
  { name: "p95", label: "p95", colour: "--series-3", values: values(series, "p95", n) },
  { name: "p50", label: "p50", colour: "--series-1", values: values(series, "p50", n) },
];

// refusalLines stacks the reasons, those with the most on the ground. What is drawn first lies behind the rest.
function refusalLines(series) {
  const reasons = [...series.keys()].filter((k) => k.startsWith("reason:"))
    .map((k) => ({ k, own: series.get(k).values, all: series.get(k).values.reduce((a, b) => a + (b ?? 0), 0) }))
    .filter((r) => r.all > 0).sort((a, b) => b.all - a.all || (a.k < b.k ? -1 : 1));
  const few = reasons.slice(0, 7);
  if (reasons.length > 7) few.push({ k: "reason:others", own: reasons[7].own.map((_, i) => reasons.slice(7).reduce((n, r) => n + (r.own[i] ?? 0), 0)) });
  let below = null;
  const lines = few.map((r, i) => {
    below = r.own.map((v, j) => (below?.[j] ?? 0) + (v ?? 0));
    return { name: r.k, label: reason(r.k.slice(7)), colour: `--series-${[3, 2, 5, 1, 6, 7, 4, 8][i]}`, values: below, own: r.own };
  });
  return lines.reverse();
}

export class Charts {
  constructor(at) {
    this.rate = new Chart(at("chart-rate"), { label: "Requests per second", show: showRate, fill: true });
    this.latency = new Chart(at("chart-latency"), { label: "Latency in milliseconds", show: showMillis });
    this.refusals = new Chart(at("chart-refusals"), { label: "Refusals per second", show: showRate });
  }
  update(model) {
    const [s, n] = [model.series, model.times.length];
    this.rate.update(model.times, rateLines(s, n));
    this.latency.update(model.times, latencyLines(s, n));
    this.refusals.update(model.times, refusalLines(s));
  }
}

// RouteCharts are those of one route.
export class RouteCharts {
  constructor(rate, latency) {
    this.rate = new Chart(rate, { label: "Requests per second", show: showRate, fill: true, sync: "route", height: 140 });
    this.latency = new Chart(latency, { label: "Latency in milliseconds", show: showMillis, sync: "route", height: 140 });
  }
  update(model, name) {
    const [s, n] = [model.routes.get(name) ?? new Map(), model.times.length];
    this.rate.update(model.times, rateLines(s, n).slice(0, 1));
    this.latency.update(model.times, latencyLines(s, n));
  }
}
