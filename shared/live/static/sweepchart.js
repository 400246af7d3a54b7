// Score against what was swept: one dot a finished point, a colour a stage, the best in a ring, the others faint.

import uPlot from "./vendor/uplot/uPlot.esm.js";
import { byId, colour, make } from "./dom.js";
import { number, tick } from "./format.js";

const HEIGHT = 300;
const NUM_COLOURS = 8;
const LOG_SPAN = 20; // positive values that span so much are drawn on a logarithmic axis
const RATE = /(^|[._])lr$|rate$|decay$/;

export class SweepChart {
  constructor() {
    this.plot = null;
    this.key = "";
    new ResizeObserver(() => {
      const width = byId("chart-sweep")?.querySelector(".plot").clientWidth;
      if (this.plot && width && Math.abs(width - this.plot.width) > 1) this.plot.setSize({ width, height: HEIGHT });
    }).observe(byId("sweep"));
  }

  clear() {
    this.plot?.destroy();
    this.plot = null;
    this.key = "";
  }

  /** Draw `points` of a sweep into the figure over the swept key `name`. */
  draw(figure, points, { name, best }) {
    const place = figure.querySelector(".plot");
    const axis = axisOf(points, name);
    const dots = points.filter((point) => point.score !== null && name in point.values).map((point) => ({ ...point, x: axis.at(point.values[name]) }));
    const series = seriesOf(dots, best);
    figure.dataset.points = dots.length;
    figure.dataset.series = series.length;
    figure.dataset.axis = axis.log ? "log" : axis.names ? "names" : "linear";
    const key = JSON.stringify([series, axis.log, axis.names, place.clientWidth === 0]);
    if (key === this.key && this.plot && place.contains(this.plot.root)) return;
    this.clear();
    this.key = key;
    if (!dots.length) {
      place.replaceChildren(make("p", { class: "nothing" }, "No point has a score yet."));
      return;
    }
    place.replaceChildren();
    const data = uPlot.join(series.map((one) => [one.x, one.y]));
    this.plot = new uPlot(options(series, axis, name, place.clientWidth), data, place);
  }
}

/** Where values stand on the axis: numbers as they are, or log of them, anything else in the order of their names. */
function axisOf(points, name) {
  const values = points.filter((point) => name in point.values).map((point) => point.values[name]);
  const finite = values.filter((value) => typeof value === "number");
  if (finite.length === values.length) {
    const isPositive = finite.every((value) => value > 0);
    const isWide = Math.max(...finite) >= LOG_SPAN * Math.min(...finite);
    return { at: (value) => value, log: isPositive && finite.length > 0 && (RATE.test(name) || isWide), names: null };
  }
  const names = [...new Set(values.map(String))].sort();
  return { at: (value) => names.indexOf(String(value)), log: false, names };
}

/** One series a stage, in the order of x; of points at the same place, each gets a series' next row. */
function seriesOf(dots, best) {
  const ranked = dots.filter((dot) => dot.counts);
  const marked = dots.filter((dot) => !dot.counts);
  const stages = [...new Set(ranked.map((dot) => dot.stage))].sort((a, b) => a - b);
  const found = stages.flatMap((stage) => layers(ranked.filter((dot) => dot.stage === stage)).map((rows) => ({
    label: stages.length > 1 ? `stage ${stage}` : "score", colour: `c${stage % NUM_COLOURS}`, size: 8, ...rows,
  })));
  found.push(...layers(marked).map((rows) => ({ label: "not ranked", colour: "faint", size: 6, ...rows })));
  const winner = ranked.filter((dot) => dot.id === best);
  if (winner.length) found.push({ label: "best", colour: "done", size: 17, ring: true, ...layers(winner)[0] });
  return found;
}

/** uPlot wants x to grow: dots that share an x go into layers of their own. */
function layers(dots) {
  const sheets = [];
  for (const dot of [...dots].sort((a, b) => a.x - b.x)) {
    let sheet = sheets.find((one) => one.x.at(-1) < dot.x);
    if (!sheet) sheets.push((sheet = { x: [], y: [] }));
    sheet.x.push(dot.x);
    sheet.y.push(dot.score);
  }
  return sheets;
}

function options(series, axis, name, width) {
  const look = { stroke: colour("faint"), font: "11px system-ui", grid: { stroke: colour("grid"), width: 1 }, ticks: { stroke: colour("grid"), width: 1, size: 4 } };
  const shown = (value) => (axis.names ? axis.names[value] ?? "" : number(value));
  const first = (one, k) => series.findIndex((other) => other.label === one.label) === k;
  return {
    width, height: HEIGHT, ms: 1,
    scales: { x: { time: false, distr: axis.log ? 3 : 1, range: (_, low, high) => around(low, high, axis.log) }, y: { range: (_, low, high) => around(low, high, false) } },
    axes: [
      { ...look, splits: axis.names ? () => axis.names.map((_, k) => k) : axis.log ? (_, __, low, high) => decades(low, high) : undefined,
        values: (_, ticks) => ticks.map((value) => (axis.names ? axis.names[value] : value === null ? "" : tick(value))), filter: axis.log ? (_, ticks) => ticks : undefined,
        label: name, labelSize: 14, labelGap: 0, labelFont: "11px system-ui", size: 28 },
      { ...look, values: (_, ticks) => ticks.map((value) => (value === null ? "" : tick(value))), size: 58 },
    ],
    series: [
      { label: name, value: (_, value) => (value === null ? "–" : shown(value)) },
      ...series.map((one, k) => ({
        label: one.label, stroke: colour(one.colour), width: one.ring ? 2 : 0, paths: () => null, class: first(one, k) ? "one" : "more",
        points: { show: true, size: one.size, width: one.ring ? 2 : 1, stroke: colour(one.colour), fill: one.ring ? "transparent" : `${colour(one.colour)}c0` },
        value: (_, value) => (value === null || value === undefined ? "–" : number(value)),
      })),
    ],
    legend: { show: true },
    cursor: { points: { size: 10 }, drag: { x: true, y: false } },
  };
}

/** Room on both sides, so that no dot is cut. */
function around(low, high, isLog) {
  if (low === null) return [isLog ? 0.1 : 0, 1];
  if (isLog) {
    const room = Math.max(1.15, (high / low) ** 0.04);
    return [low / room, high * room];
  }
  const room = (high - low) * 0.07 || Math.abs(high) * 0.1 || 1;
  return [low - room, high + room];
}

/** 1, 2 and 5 of each decade; over many decades the 1 alone. */
function decades(low, high) {
  const steps = Math.log10(high / low) > 3 ? [1] : [1, 2, 5];
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const step of steps) {
      const value = Number(`${step}e${power}`);
      if (value >= low && value <= high) found.push(value);
    }
  }
  return found;
}
