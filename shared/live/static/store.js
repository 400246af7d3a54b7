// What the hub has told about each run. A frame says where the rows it brings begin: what stands from there on is replaced.

export class Store {
  constructor() {
    this.runs = []; // rows of the list, newest first
    this.histories = new Map();
    this.clockOffset = 0; // hub's clock minus ours, seconds
    this.leftOut = 0;
    this.sweeps = []; // rows of the list, newest first
    this.sweepsLeftOut = 0;
    this.sweep = null; // the chosen one with its points
  }

  setSweeps(message) {
    this.sweeps = message.sweeps;
    this.sweepsLeftOut = message.left_out;
    this.clockOffset = message.now - Date.now() / 1000;
  }

  sweepRow(id) {
    return this.sweeps.find((sweep) => sweep.id === id);
  }

  /** What has changed in the chosen sweep; `order` names all the points that are shown. */
  applySweep(part) {
    if (this.sweep?.id !== part.id || part.since === 0) this.sweep = { id: part.id, points: new Map() };
    for (const point of part.points) this.sweep.points.set(point.id, point);
    Object.assign(this.sweep, { version: part.version, head: part.head, order: part.order, leftOut: part.left_out });
  }

  setRuns(message) {
    this.runs = message.runs;
    this.leftOut = message.left_out;
    this.clockOffset = message.now - Date.now() / 1000;
  }

  row(id) {
    return this.runs.find((run) => run.id === id);
  }

  apply(part) {
    let history = this.histories.get(part.id);
    if (!history || part.since === 0) {
      history = { steps: [], epochs: [], samples: new Map(), warnings: [], stages: [], facts: {}, end: null, count: 0 };
      this.histories.set(part.id, history);
    }
    splice(history.steps, part.steps);
    splice(history.epochs, part.epochs);
    history.count = part.steps.count;
    for (const name of ["facts", "end", "warnings", "stages", "place", "seq", "notes"]) {
      if (name in part) history[name] = part[name];
    }
    if (part.samples_kept) {
      for (const index of history.samples.keys()) if (!part.samples_kept.includes(index)) history.samples.delete(index);
    }
    for (const sample of part.samples ?? []) history.samples.set(sample.index, sample);
    history.revision = (history.revision ?? 0) + 1;
  }

  /** Names of all metrics of these runs, the losses first. */
  metrics(ids) {
    const names = new Set();
    for (const id of ids) {
      const rows = this.histories.get(id)?.epochs ?? [];
      for (const row of rows.slice(-3)) for (const name of Object.keys(row[2])) names.add(name);
      for (const name of Object.keys(rows[0]?.[2] ?? {})) names.add(name);
    }
    names.delete("lr");
    const rank = (name) => (name === "val/loss" ? 0 : name === "train/loss" ? 1 : name.startsWith("val/") ? 2 : 3);
    return [...names].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
  }
}

function splice(rows, change) {
  rows.length = Math.min(rows.length, change.from);
  for (const row of change.rows) rows.push(row);
}
