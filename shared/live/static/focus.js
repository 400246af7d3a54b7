// Where the focused run is: name, stages, bars with the time left, the newest numbers.

import { byId, make } from "./dom.js";
import { duration, number, runName } from "./format.js";

export function drawFocus(run, history, now) {
  const section = byId("focus");
  section.hidden = !run;
  if (!run) return;
  section.dataset.run = run.id;
  section.dataset.seq = history?.seq ?? 0;
  section.dataset.count = history?.count ?? 0;
  section.dataset.missing = history?.notes?.missing ?? 0;
  const title = make(
    "div", { class: "where" },
    make("h2", { title: run.name }, runName(run.name)),
    make("span", { class: "quiet" }, [run.project, run.experiment].filter(Boolean).join(" / ")),
    make("span", { class: `state ${run.state}` }, run.state),
    make("span", { class: "quiet" }, said(run, now)),
  );
  const parts = [title];
  if (history?.stages.length) parts.push(stages(history.stages, run.state));
  if (history?.place && history.facts) parts.push(...bars(history, run.state));
  if (history) parts.push(numbers(history));
  section.replaceChildren(make("div", { class: "panel" }, ...parts));
}

function said(run, now) {
  if (run.state === "running" || !run.seen) return "";
  const age = now - run.seen;
  return age < 90 ? "just now" : `last heard of ${duration(Math.round(age / 60) * 60)} ago`;
}

function stages(list, state) {
  const items = list.map(([name, how]) => make("li", { class: how === "done" ? "done" : state === "running" ? "start" : "" }, name));
  if (state === "done") items.push(make("li", { class: "done" }, "finished"));
  return make("ol", { class: "stages" }, ...items);
}

function bars({ place, facts, end }, state) {
  const { max_epochs: epochs, batches_per_epoch: batches } = facts;
  const moving = state === "running" && !end;
  const bar = (what, done, total, left) => [
    make("span", { class: "what" }, what),
    make("progress", { max: total, value: Math.min(done, total), "aria-label": what }),
    make("span", {}, `${number(done)} / ${number(total)}`),
    make("span", { class: "left" }, moving && left !== undefined ? `${duration(left)} left` : ""),
  ];
  const rows = [];
  const inEpoch = batches > 0 && place.batch >= 0 ? (place.batch + 1) / batches : 0;
  if (epochs > 0) rows.push(...bar("epochs", Math.min(epochs, place.epoch), epochs, place.left_s));
  if (batches > 0 && place.epoch < (epochs > 0 ? epochs : Infinity)) rows.push(...bar("batches", Math.round(inEpoch * batches), batches, place.epoch_left_s));
  if (!rows.length) return [];
  if (epochs > 0) rows[1].value = Math.min(epochs, place.epoch + inEpoch); // the bar moves within an epoch, its number does not
  return [make("div", { class: "bars" }, ...rows)];
}

function numbers(history) {
  const last = history.steps.at(-1);
  const row = history.epochs.at(-1)?.[2] ?? {};
  const monitor = history.facts?.monitor;
  const found = [["step", number(history.place?.step)], ["step loss", number(last?.[2])], ["learning rate", number(last?.[5] ?? row.lr)]];
  for (const name of new Set(["train/loss", "val/loss", monitor].filter(Boolean))) if (name in row) found.push([name, number(row[name])]);
  return make("dl", { class: "numbers" }, ...found.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}
