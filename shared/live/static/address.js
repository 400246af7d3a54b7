// What is looked at stands behind the # of the address, so that a reload or a bookmark shows the same.

/** All runs that the address names; the page may show fewer of them. */
export function readAddress() {
  const found = new URLSearchParams(location.hash.slice(1));
  const ids = (found.get("runs") ?? "").split(",").filter((id) => /^[0-9a-f]{12}$/.test(id));
  return { selected: [...new Set(ids)], focus: found.get("focus"), sweep: /^[0-9a-f]{12}$/.test(found.get("sweep") ?? "") ? found.get("sweep") : null, metric: found.get("metric"), log: found.get("log") === "1" };
}

export function writeAddress({ selected, focus, sweep, metric, log }) {
  const parts = new URLSearchParams();
  if (selected.length) parts.set("runs", selected.join(","));
  if (focus) parts.set("focus", focus);
  if (sweep) parts.set("sweep", sweep);
  if (metric) parts.set("metric", metric);
  if (log) parts.set("log", "1");
  const hash = `#${parts.toString().replaceAll("%2C", ",").replaceAll("%2F", "/")}`;
  if (hash !== location.hash) history.replaceState(null, "", hash);
}
