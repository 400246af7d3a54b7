// Puts the parts together: what the hub says goes into the store, and the page is drawn from it a few times a second.

import { readAddress, writeAddress } from "./address.js";
import { Charts } from "./charts.js";
import { Connection, takeTokenFromAddress } from "./connection.js";
import { byId, colour, make } from "./dom.js";
import { drawFacts } from "./facts.js";
import { drawFocus } from "./focus.js";
import { runName } from "./format.js";
import { RunList } from "./runlist.js";
import { drawSamples } from "./samples.js";
import { Store } from "./store.js";
import { Sweeps } from "./sweeps.js";
import { setUpTheme } from "./theme.js";

const NUM_COLOURS = 8;
const MAX_SELECTED = 64;
const REDRAW_MS = 100;
const MANY_POINTS = 20000; // above this the charts are drawn less often

const store = new Store();
const charts = new Charts();
const view = readAddress();
let theme = 0;
let chosen = view.selected.length > 0 || view.sweep !== null; // by somebody: until then the page follows the newest run that is going on
let timer = null;

const colourOf = (id) => colour(`c${Math.max(0, view.selected.indexOf(id)) % NUM_COLOURS}`);

const list = new RunList({
  onToggle: (id, on) => choose(on ? [...view.selected, id] : view.selected.filter((one) => one !== id), on ? id : view.focus),
  onFocus: (id) => {
    document.body.classList.remove("menu");
    choose(view.selected.includes(id) && view.selected.length > 1 ? view.selected : [id], id);
  },
  onFilter: () => drawSoon(),
  onGroup: (ids, on) => choose(on ? [...view.selected, ...ids] : view.selected.filter((id) => !ids.includes(id)), on ? ids[0] : view.focus),
});

const sweeps = new Sweeps({
  onChoose: (id) => { // null: the same one, looked at in another way
    if (id === null) return drawSoon();
    document.body.classList.remove("menu");
    chosen = true;
    return select([], null, id);
  },
});

const connection = new Connection({
  onMessage(message) {
    if (message.type === "welcome") byId("where").textContent = message.outputs;
    if (message.type === "runs") {
      store.setRuns(message);
      if (!chosen && message.runs.length && !view.selected.some((id) => store.row(id))) {
        const first = message.runs.find((run) => run.state === "running") ?? message.runs[0];
        select([first.id], first.id);
      }
    }
    if (message.type === "sweeps") store.setSweeps(message);
    if (message.type === "sweep" && message.id === view.sweep) store.applySweep(message);
    if (message.type === "frame") for (const part of message.runs) if (view.selected.includes(part.id)) store.apply(part);
    drawSoon();
  },
  onState(state) {
    byId("link").textContent = state;
    document.body.dataset.connected = state === "connected" ? "yes" : "no";
  },
  onToken(note) {
    byId("login-note").textContent = note;
    if (!byId("login").open) byId("login").showModal();
  },
});

function choose(ids, focus) {
  chosen = true;
  select(ids, focus);
}

function select(ids, focus, sweep = null) {
  const wanted = [...new Set(ids)];
  view.selected = wanted.slice(0, MAX_SELECTED);
  view.sweep = sweep;
  if (store.sweep?.id !== sweep) store.sweep = null;
  byId("cut").hidden = wanted.length <= MAX_SELECTED;
  byId("cut").textContent = `${view.selected.length} of ${wanted.length} shown`;
  view.focus = view.selected.includes(focus) ? focus : view.selected.at(-1) ?? null;
  for (const id of [...store.histories.keys()]) if (!view.selected.includes(id)) store.histories.delete(id);
  connection.select(view.selected, view.sweep);
  writeAddress(view);
  drawSoon();
}

function drawSoon() {
  if (timer !== null) return;
  const points = view.selected.reduce((sum, id) => sum + (store.histories.get(id)?.steps.length ?? 0), 0);
  timer = setTimeout(() => {
    timer = null;
    draw();
  }, points > MANY_POINTS ? 5 * REDRAW_MS : REDRAW_MS);
}

function draw() {
  const now = Date.now() / 1000 + store.clockOffset;
  const focused = store.row(view.focus);
  const history = store.histories.get(view.focus);
  list.draw(store, view, colourOf);
  sweeps.drawList(store, view, list.words());
  sweeps.draw(store.sweep, store.sweepRow(view.sweep), store, now);
  drawFocus(focused, history, now);
  const runs = view.selected.filter((id) => store.histories.has(id)).map((id) => {
    const row = store.row(id);
    return { id, name: runName(row?.name ?? id), colour: colourOf(id), history: store.histories.get(id) };
  });
  byId("charts").hidden = !runs.length;
  if (runs.length) {
    drawMetricChoice(runs.map((run) => run.id));
    charts.draw(runs, { metric: byId("metric").value || null, log: view.log });
  }
  drawSamples(history, `${view.focus} ${theme}`);
  drawFacts(history, view.focus);
  drawEmpty(runs.length + (store.sweepRow(view.sweep) ? 1 : 0));
}

function drawMetricChoice(ids) {
  const names = store.metrics(ids);
  const box = byId("metric");
  if (names.join() !== [...box.options].map((option) => option.value).join()) {
    box.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
  }
  const monitor = store.histories.get(view.focus)?.facts?.monitor;
  const fallback = monitor && monitor !== "val/loss" && names.includes(monitor) ? monitor : names.find((name) => !name.endsWith("/loss")) ?? names[0];
  const wanted = names.includes(view.metric) ? view.metric : fallback;
  if (wanted && box.value !== wanted) box.value = wanted;
}

function drawEmpty(numShown) {
  const note = byId("empty");
  note.hidden = numShown > 0;
  note.textContent = view.focus && store.row(view.focus)
    ? "Reading this run's history ..."
    : store.runs.length
      ? "Choose a run on the left; tick several to compare them, or all of a sweep."
      : "No runs yet.\nStart one, for example python -m projects.<name>.train, and it appears here by itself.";
}

byId("log").checked = view.log;
byId("log").addEventListener("change", (event) => {
  view.log = event.target.checked;
  writeAddress(view);
  draw();
});
byId("metric").addEventListener("change", (event) => {
  view.metric = event.target.value;
  writeAddress(view);
  draw();
});
byId("none").addEventListener("click", () => choose([], null));
byId("menu").addEventListener("click", () => {
  const open = document.body.classList.toggle("menu");
  byId("menu").setAttribute("aria-expanded", String(open));
});
byId("login").addEventListener("close", () => {
  connection.setToken(byId("token").value);
  byId("token").value = "";
});
addEventListener("hashchange", () => {
  if (takeTokenFromAddress()) location.reload();
  Object.assign(view, readAddress());
  byId("log").checked = view.log;
  chosen = true;
  select(view.selected, view.focus, view.sweep);
});
setUpTheme(() => {
  theme += 1;
  charts.clear();
  sweeps.clear();
  drawSoon();
});
setInterval(drawSoon, 5000); // ages in the list
if (chosen) select(view.selected, view.focus, view.sweep);
connection.open();
