// The model, the loss typeset, warnings.

import { byId, make } from "./dom.js";

let katex = null;
let shown = "";

export function drawFacts(history, key) {
  const section = byId("facts");
  const { facts = {}, warnings = [], notes = {} } = history ?? {};
  const said = [...warnings];
  if (notes.skipped) said.push(`${notes.skipped} lines of this run's events could not be read and were passed over`);
  if (notes.missing) said.push(`${notes.missing} events are missing in this run's file`);
  section.hidden = !facts.model && !facts.formula && !said.length;
  const state = JSON.stringify([key, facts, said]);
  if (state === shown) return;
  shown = state;
  const parts = [];
  if (facts.model || facts.formula) parts.push(model(facts));
  if (said.length) parts.push(make("div", { class: "panel" }, make("h2", {}, `Warnings (${said.length})`), make("ul", { class: "warnings" }, ...said.map((text) => make("li", {}, text)))));
  section.replaceChildren(make("div", { class: "pair" }, ...parts));
}

function model(facts) {
  const rows = Object.entries(facts.model ?? {}).map(([name, value]) => make("tr", {}, make("td", {}, name), make("td", {}, value)));
  const panel = make("div", { class: "panel" }, make("h2", {}, "Model and loss"), make("table", {}, make("tbody", {}, ...rows)));
  if (facts.formula) {
    const place = make("div", { class: "formula" }, facts.formula);
    typeset(place, facts.formula);
    panel.append(place);
  }
  return panel;
}

/** KaTeX, with nothing that a formula could load, link to or blow up; what it does not understand stays as it was written. */
async function typeset(place, formula) {
  try {
    katex ??= (await import("./vendor/katex/katex.mjs")).default;
    const sheet = make("div");
    katex.render(formula, sheet, { displayMode: true, trust: false, strict: "error", maxSize: 20, maxExpand: 200, throwOnError: true });
    place.replaceChildren(...sheet.childNodes);
    place.dataset.typeset = "yes";
  } catch {
    place.textContent = formula;
    place.classList.add("mono");
  }
}
