// Sweeps: their list beside the runs, and of the chosen one the counts, the chart and the table of its points.

import { byId, make } from "./dom.js";
import { duration, number } from "./format.js";
import { SweepChart } from "./sweepchart.js";

const STATES = ["done", "running", "planned", "failed", "interrupted"];

export class Sweeps {
  constructor({ onChoose }) {
    this.onChoose = onChoose;
    this.chart = new SweepChart();
    this.listed = "";
    this.shown = "";
    this.order = "number";
    this.axis = null;
  }

  clear() {
    this.chart.clear();
    this.shown = "";
  }

  /** The list above the runs. */
  drawList(store, view, words) {
    const sweeps = store.sweeps.filter((sweep) => words.every((word) => `${sweep.project} ${sweep.name} ${sweep.state} sweep`.toLowerCase().includes(word)));
    const state = JSON.stringify([sweeps, view.sweep, store.sweepsLeftOut]);
    if (state === this.listed) return;
    this.listed = state;
    const held = document.activeElement?.dataset?.key;
    const rows = sweeps.map((sweep) => this.row(sweep, view));
    if (rows.length) rows.unshift(make("header", {}, make("h3", {}, "sweeps")));
    if (store.sweepsLeftOut) rows.push(make("p", { class: "empty quiet" }, `${store.sweepsLeftOut} older sweeps are not listed.`));
    byId("sweeps").replaceChildren(...(rows.length ? [make("section", { class: "group" }, ...rows)] : []));
    if (held) [...byId("sweeps").querySelectorAll("[data-key]")].find((one) => one.dataset.key === held)?.focus();
  }

  row(sweep, view) {
    const name = make("button", { class: "name", title: `${sweep.project} / ${sweep.name}`, "data-key": `s:${sweep.id}` }, sweep.name);
    const { done = 0, failed = 0 } = sweep.counts;
    const said = sweep.problem ?? [sweep.project, `${done} of ${sweep.total ?? "?"} done`, failed ? `${failed} failed` : ""].filter(Boolean).join(" · ");
    return make(
      "div",
      { class: `run sweep${view.sweep === sweep.id ? " focused" : ""}`, "data-sweep": sweep.id, "data-state": sweep.state, onclick: () => this.onChoose(sweep.id) },
      make("span"), name, make("span", { class: `state ${sweep.state}` }, sweep.state), make("span", { class: "note" }, said),
    );
  }

  /** The chosen sweep in the main column. */
  draw(sweep, row, store, now) {
    const section = byId("sweep");
    section.hidden = !row;
    if (!row) {
      this.clear();
      return;
    }
    section.dataset.sweep = row.id;
    const points = sweep ? sweep.order.map((id) => sweep.points.get(id)).filter(Boolean) : [];
    const keys = sweep?.head.keys ?? [];
    const axis = keys.includes(this.axis) ? this.axis : keys.find((key) => /(^|[._])lr$/.test(key)) ?? keys[0];
    const best = sweep?.head.best ?? null;
    const state = JSON.stringify([row, sweep?.version, this.order, axis, Math.floor(now / 5), store.runs.length]);
    if (state !== this.shown) {
      this.shown = state;
      section.dataset.points = points.length;
      this.build(section, { row, sweep, points, keys, axis, best, store, now });
    }
    if (axis) this.chart.draw(byId("chart-sweep"), points, { name: axis, best });
  }

  build(section, { row, sweep, points, keys, axis, best, store, now }) {
    const held = document.activeElement?.dataset?.key;
    const figure = byId("chart-sweep") ?? make("figure", { class: "chart wide", id: "chart-sweep" }, make("figcaption"), make("div", { class: "plot" }));
    figure.querySelector("figcaption").textContent = sweep ? `Score (${sweep.head.direction === "max" ? "higher" : "lower"} is better)` : "";
    figure.hidden = !axis;
    const parts = [this.head(row, sweep), this.tools(keys, axis), figure];
    if (sweep) parts.push(table(this.sorted(points, sweep.head.direction), { keys, best, store, now, leftOut: sweep.leftOut }));
    if (sweep?.head.notes.length) parts.push(make("div", { class: "panel" }, make("h2", {}, "Notes"), make("ul", { class: "warnings" }, ...sweep.head.notes.map((text) => make("li", {}, text)))));
    section.replaceChildren(...parts.filter(Boolean));
    if (held) [...section.querySelectorAll("[data-key]")].find((one) => one.dataset.key === held)?.focus();
  }

  head(row, sweep) {
    const counts = make("dl", { class: "numbers" }, ...[...STATES.map((state) => [state, row.counts[state] ?? 0]), ["total", row.total ?? "?"]].map(
      ([name, value]) => make("div", { "data-count": name }, make("dt", {}, name), make("dd", {}, number(value) === "–" ? value : number(value)))));
    const bar = row.total ? make("div", { class: "bars" }, make("span", { class: "what" }, "points"), make("progress", { max: row.total, value: row.settled, "aria-label": "points settled" }), make("span", {}, `${row.settled} / ${row.total}`), make("span", { class: "left" }, "")) : null;
    const title = make("div", { class: "where" }, make("h2", {}, row.name), make("span", { class: "quiet" }, `${row.project} · ${row.sweeper}`), make("span", { class: `state ${row.state}` }, row.state));
    const point = sweep?.points.get(sweep.head.best);
    const told = point ? make("p", { class: "best" }, "best: ", make("b", {}, Object.entries(point.values).map(([key, value]) => `${key} = ${said(value)}`).join(", ")), ` with score ${number(point.score)} (point ${point.number})`) : null;
    return make("div", { class: "panel" }, title, row.problem ? make("p", { class: "cut" }, row.problem) : null, bar, counts, told);
  }

  tools(keys, axis) {
    const pick = (label, key, options, value, take) => {
      const box = make("select", { "data-key": key, onchange: (event) => { take(event.target.value); this.shown = ""; this.onChoose(null); } }, ...options.map((name) => make("option", { value: name }, name)));
      box.value = value;
      return make("label", {}, `${label} `, box);
    };
    const over = keys.length > 1 ? pick("over", "axis", keys, axis, (value) => { this.axis = value; }) : null;
    return make("div", { class: "tools" }, over, pick("table by", "order", ["number", "score"], this.order, (value) => { this.order = value; }));
  }

  sorted(points, direction) {
    if (this.order === "number") return points;
    const sign = direction === "max" ? -1 : 1;
    const rank = (point) => (!point.counts || point.score === null ? Infinity : sign * point.score);
    return [...points].sort((a, b) => (rank(a) === rank(b) ? a.number - b.number : rank(a) - rank(b)));
  }
}

function table(points, { keys, best, store, now, leftOut }) {
  const titles = ["point", "stage", ...keys, "state", "score", "tries", "where", "run", "said"];
  const head = make("thead", {}, make("tr", {}, ...titles.map((title) => make("th", { scope: "col" }, title))));
  const rows = points.map((point) => make(
    "tr", { "data-point": point.id, "data-state": point.state, class: point.id === best ? "best" : !point.counts ? "marked" : "" },
    make("td", {}, point.number), make("td", {}, point.stage), ...keys.map((key) => make("td", {}, said(point.values[key]))),
    make("td", {}, make("span", { class: `state ${point.state}` }, point.state)), make("td", {}, number(point.score)), make("td", {}, point.attempts),
    make("td", { class: "at" }, where(point.lease, now)), make("td", {}, runLink(point, store)), make("td", { class: "said" }, [...point.marks, point.error].filter(Boolean).join(" · ")),
  ));
  const cut = leftOut ? make("p", { class: "quiet" }, `${leftOut} more points are not shown; python -m shared.sweep status shows them all.`) : null;
  return make("div", { class: "panel scroll" }, make("table", { class: "points" }, head, make("tbody", {}, ...rows)), cut);
}

function where(lease, now) {
  if (!lease) return "";
  const parts = [`${lease.host} · ${lease.pid}`];
  if (lease.epoch !== null) parts.push(`epoch ${lease.epoch}`);
  parts.push(lease.void ? `void: ${lease.void}` : `heard ${duration(Math.max(0, Math.floor((now - lease.heard) / 5) * 5))} ago`);
  return parts.join(", ");
}

/** A link that any browser can follow, also back; none where the hub does not see the run. */
function runLink(point, store) {
  if (!point.run_id || !store.row(point.run_id)) return point.run_name ?? "";
  return make("a", { href: `#runs=${point.run_id}&focus=${point.run_id}`, "data-key": `r:${point.run_id}` }, point.run_name.slice(-6));
}

function said(value) {
  if (value === undefined) return "";
  if (typeof value === "number") return Math.abs(value) < 1e-3 && value !== 0 ? Number(value.toPrecision(4)).toExponential().replace("e-", "e−") : number(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}
