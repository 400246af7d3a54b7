// Curves over the optimiser step: one run with its losses side by side, or many runs in one colour each.

import uPlot from "./vendor/uplot/uPlot.esm.js";
import { byId, colour, make } from "./dom.js";
import { number, tick } from "./format.js";

const MAX_LEGEND = 12;
const HEIGHT = { "chart-loss": 300, "chart-metric": 210, "chart-rate": 210 };
const STEP = 0, MEAN = 2, LOW = 3, HIGH = 4, RATE = 5; // places in a row of steps
const cursor = uPlot.sync("step");

export class Charts {
  constructor() {
    this.plots = new Map(); // id of the figure -> {plot, key}
    const watch = new ResizeObserver(() => this.resize());
    for (const id of Object.keys(HEIGHT)) watch.observe(byId(id).querySelector(".plot"));
  }

  /** Draw the selected runs; `runs` is [{id, name, colour, history}]. */
  draw(runs, { metric, log }) {
    const alone = runs.length === 1;
    this.show("chart-loss", lossSeries(runs, alone), log);
    byId("chart-metric").querySelector("figcaption").textContent = metric ?? "Metric";
    this.show("chart-metric", runs.flatMap((run) => epochSeries(run, metric, alone ? colour("c2") : run.colour, alone ? metric : run.name)), log);
    this.show("chart-rate", runs.flatMap((run) => rateSeries(run, alone)), log);
  }

  /** Forget the plots: their colours are those of another theme. */
  clear() {
    for (const { plot } of this.plots.values()) plot.destroy();
    this.plots.clear();
  }

  resize() {
    for (const [id, { plot }] of this.plots) {
      const width = byId(id).querySelector(".plot").clientWidth;
      if (width && Math.abs(width - plot.width) > 1) plot.setSize({ width, height: HEIGHT[id] });
    }
  }

  show(id, series, log) {
    const figure = byId(id);
    const place = figure.querySelector(".plot");
    const shown = series.filter((one) => one.x.length);
    figure.dataset.points = shown.reduce((sum, one) => sum + one.y.filter((value) => value !== null).length, 0);
    figure.dataset.series = shown.length;
    const known = this.plots.get(id);
    const key = JSON.stringify([shown.map((one) => [one.label, one.stroke, one.fill, one.dash, one.points, one.width]), log]);
    if (known && known.key !== key) {
      known.plot.destroy();
      this.plots.delete(id);
    }
    if (!shown.length) {
      place.replaceChildren(make("p", { class: "nothing" }, "No values yet."));
      this.plots.delete(id);
      return;
    }
    const data = aligned(shown, log);
    if (known && known.key === key) {
      const zoomed = isZoomed(known.plot);
      known.plot.setData(data, !zoomed);
      if (zoomed) known.plot.redraw(true);
      return;
    }
    place.replaceChildren();
    this.plots.set(id, { key, plot: new uPlot(options(id, shown, place.clientWidth, log), data, place) });
  }
}

function isZoomed(plot) {
  const x = plot.data[0];
  const { min, max } = plot.scales.x;
  return x.length > 1 && min !== null && (min > x[0] || max < x[x.length - 1]);
}

/** One x axis for all; places where a series has no value of its own are undefined, which draws no gap. */
function aligned(series, log) {
  const clean = (values) => (log ? values.map((value) => (value > 0 ? value : null)) : values);
  const tables = series.map((one) => [one.x, clean(one.y)]);
  return tables.length === 1 ? tables[0] : uPlot.join(tables);
}

function lossSeries(runs, alone) {
  const found = [];
  for (const run of runs) {
    const rows = run.history.steps;
    const x = rows.map((row) => row[STEP]);
    const thick = rows.some((row) => row[LOW] !== row[HIGH]);
    const own = alone ? colour("c0") : run.colour;
    if (alone && thick) {
      found.push({ label: "highest", x, y: rows.map((row) => row[HIGH]), stroke: "transparent", width: 0, band: true, fill: `${own}30` });
      found.push({ label: "lowest", x, y: rows.map((row) => row[LOW]), stroke: "transparent", width: 0 });
    }
    const mean = rows.map((row) => row[MEAN]);
    if (alone) found.push({ label: "train, step", x, y: mean, stroke: `${own}60`, width: 1 });
    found.push({ label: alone ? "smoothed" : `${run.name} train`, x, y: smoothed(mean), stroke: alone ? own : `${own}b0`, width: alone ? 2 : 1 });
    if (alone) found.push(...epochSeries(run, "train/loss", own, "train/loss", [5, 4]));
    found.push(...epochSeries(run, "val/loss", alone ? colour("c1") : own, alone ? "val/loss" : `${run.name} val`));
  }
  return found;
}

/** Exponential mean over about a hundredth of the curve; begins without a bias towards zero. */
function smoothed(values) {
  const keep = 1 - 1 / Math.max(1, values.length / 120);
  let [sum, weight] = [0, 0];
  return values.map((value) => {
    if (value === null) return null;
    sum = keep * sum + (1 - keep) * value;
    weight = keep * weight + (1 - keep);
    return weight ? sum / weight : value;
  });
}

function epochSeries(run, metric, stroke, label, dash) {
  const rows = run.history.epochs.filter((row) => metric && metric in row[2]);
  if (!rows.length) return [];
  const [x, y] = [[], []];
  for (const row of rows) {
    if (x.length && row[0] <= x[x.length - 1]) continue; // uPlot wants x to grow
    x.push(row[0]);
    y.push(row[2][metric]);
  }
  return [{ label, x, y, stroke, width: 2, dash, points: !dash && rows.length <= 80 }];
}

function rateSeries(run, alone) {
  const rows = run.history.steps.filter((row) => row[RATE] !== null);
  return [{ label: alone ? "learning rate" : run.name, x: rows.map((row) => row[STEP]), y: rows.map((row) => row[RATE]), stroke: alone ? colour("c6") : run.colour, width: 1.5 }];
}

function options(id, series, width, log) {
  const axis = { stroke: colour("faint"), font: "11px system-ui", grid: { stroke: colour("grid"), width: 1 }, ticks: { stroke: colour("grid"), width: 1, size: 4 } };
  const highest = series.findIndex((one) => one.band);
  return {
    width, height: HEIGHT[id], ms: 1,
    scales: { x: { time: false }, y: { distr: log ? 3 : 1, range: log ? undefined : padded } },
    axes: [
      { ...axis, values: (_, ticks) => ticks.map((value) => tick(value)), label: "step", labelSize: 14, labelGap: 0, labelFont: "11px system-ui", size: 28 },
      { ...axis, values: (_, ticks) => ticks.map((value) => (value === null ? "" : tick(value))), size: 58 },
    ],
    series: [
      { label: "step", value: (_, value) => number(value) },
      ...series.map((one) => ({
        label: one.label, stroke: one.stroke, width: one.width, dash: one.dash, value: (_, value) => number(value),
        points: { show: Boolean(one.points), size: 5 }, spanGaps: false,
      })),
    ],
    bands: highest < 0 ? [] : [{ series: [highest + 1, highest + 2], fill: series[highest].fill }],
    legend: { show: series.length <= MAX_LEGEND },
    cursor: { sync: { key: cursor.key, setSeries: false }, points: { size: 6 }, drag: { x: true, y: false } },
  };
}

/** A little room above and below, also for a flat curve. */
function padded(_, low, high) {
  if (low === null) return [0, 1];
  const room = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  return [low >= 0 && low - room < 0 ? 0 : low - room, high + room];
}
