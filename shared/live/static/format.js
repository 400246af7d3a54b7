// Numbers and times as a reader wants them.

export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace("e+", "e").replace("e-", "e−");
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return value.toPrecision(4).replace("-", "−");
}

/** The same without digits that say nothing, for axes. */
export function tick(value, digits = 3) {
  if (!Number.isFinite(value)) return "";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return Number(value.toPrecision(digits)).toExponential().replace("e+", "e").replace("e-", "e−");
  return Number(value.toPrecision(Math.max(digits, Math.ceil(Math.log10(size + 1e-12))))).toLocaleString("en", { maximumFractionDigits: 6 }).replace("-", "−");
}

export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "";
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** `20261121-130424-9db4e2` reads as `21 Nov 13:04 · 9db4e2`; any other name stays. */
export function runName(name) {
  const parts = /^(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)-([0-9a-f]{6})$/.exec(name);
  if (!parts) return name;
  const when = new Date(Date.UTC(+parts[1], +parts[2] - 1, +parts[3], +parts[4], +parts[5], +parts[6]));
  const day = when.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  const hour = when.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  return `${day} ${hour} · ${parts[7]}`;
}
