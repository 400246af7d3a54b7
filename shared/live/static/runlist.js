// The list of runs: grouped by experiment or sweep, each with its state.

import { byId, make } from "./dom.js";
import { duration, runName } from "./format.js";

export class RunList {
  constructor({ onToggle, onFocus, onGroup, onFilter }) {
    Object.assign(this, { onToggle, onFocus, onGroup, onFilter });
    this.shown = "";
    byId("filter").addEventListener("input", () => this.redraw());
    document.addEventListener("keydown", (event) => {
      if (event.key === "/" && !/INPUT|SELECT/.test(document.activeElement.tagName)) {
        event.preventDefault();
        byId("filter").focus();
      }
    });
  }

  draw(store, view, colourOf) {
    this.last = [store, view, colourOf];
    const words = this.words();
    const text = (run) => `${run.project} ${run.experiment} ${run.name} ${run.state}`.toLowerCase();
    const runs = store.runs.filter((run) => words.every((word) => text(run).includes(word)));
    const now = Date.now() / 1000 + store.clockOffset;
    const state = JSON.stringify([runs.map((run) => [run.id, run.state, note(run, now)]), view.selected, view.focus, words, store.leftOut]);
    if (state === this.shown) return; // nothing that can be seen has changed: keep the elements, and the keyboard's focus
    this.shown = state;
    const held = document.activeElement?.dataset?.key;
    const groups = new Map();
    for (const run of runs) {
      const title = [run.project, run.experiment].filter(Boolean).join(" / ") || "runs";
      groups.set(title, [...(groups.get(title) ?? []), run]);
    }
    const list = [...groups].map(([title, members]) => this.group(title, members, view, colourOf, now));
    if (!runs.length) list.push(make("p", { class: "empty quiet" }, store.runs.length ? "No run fits the filter." : "No runs yet."));
    if (store.leftOut) list.push(make("p", { class: "empty quiet" }, `${store.leftOut} older runs are not listed.`));
    byId("list").replaceChildren(...list);
    if (held) [...byId("list").querySelectorAll("[data-key]")].find((one) => one.dataset.key === held)?.focus();
  }

  /** What the filter asks for. */
  words() {
    return byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  }

  redraw() {
    this.onFilter();
    if (this.last) this.draw(...this.last);
  }

  group(title, members, view, colourOf, now) {
    const ids = members.map((run) => run.id);
    const all = ids.every((id) => view.selected.includes(id));
    const button = make("button", { class: "plain", "data-key": `g:${title}`, onclick: () => this.onGroup(ids, !all) }, all ? "none" : "all");
    const head = make("header", {}, make("h3", {}, title), members.length > 1 ? button : null);
    return make("section", { class: "group" }, head, ...members.map((run) => this.run(run, view, colourOf, now)));
  }

  run(run, view, colourOf, now) {
    const isSelected = view.selected.includes(run.id);
    const box = make("input", {
      type: "checkbox", checked: isSelected, "data-key": `c:${run.id}`, "aria-label": `Show ${run.name} in the charts`,
      onclick: (event) => event.stopPropagation(), onchange: (event) => this.onToggle(run.id, event.target.checked),
    });
    if (isSelected) box.style.setProperty("--run", colourOf(run.id));
    const name = make("button", { class: "name", title: run.name, "data-key": `f:${run.id}` }, runName(run.name));
    return make(
      "div",
      { class: `run${view.focus === run.id ? " focused" : ""}`, "data-run": run.id, "data-state": run.state, onclick: () => this.onFocus(run.id) },
      box, name, make("span", { class: `state ${run.state}` }, run.state), make("span", { class: "note" }, note(run, now)),
    );
  }
}

function note(run, now) {
  const parts = [];
  if (run.kind !== "run") parts.push(run.kind);
  if (run.host) parts.push(`on ${run.host}`);
  if (run.stage && run.state !== "done") parts.push(run.stage);
  if (run.epoch !== null) parts.push(`epoch ${run.epoch}`);
  if (run.state === "stale") parts.push(`silent for ${duration(Math.round((now - run.seen) / 10) * 10)}`);
  return parts.join(" · ");
}
