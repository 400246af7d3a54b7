// Fixed validation samples: the structure on a canvas, target and prediction over the axis for each channel.

import { byId, colour, make, makeSvg } from "./dom.js";
import { tick } from "./format.js";

const [WIDTH, HEIGHT] = [300, 100];
let shown = "";

export function drawSamples(history, key) {
  const section = byId("samples");
  const samples = history ? [...history.samples.values()].sort((a, b) => a.index - b.index) : [];
  section.hidden = !samples.length;
  const state = JSON.stringify([key, samples.map((sample) => [sample.index, sample.step])]);
  if (state === shown) return;
  shown = state;
  section.dataset.samples = samples.length;
  if (!samples.length) return;
  const legend = make("span", { class: "key" }, make("span", {}, make("i", { class: "dash" }), "target"), make("span", {}, make("i", {}), "predicted"));
  const head = make("h2", {}, `Validation samples, epoch ${samples[0].epoch}`, legend);
  section.replaceChildren(make("div", { class: "panel" }, head, make("div", { class: "cards" }, ...samples.map(card))));
}

function card(sample) {
  const picture = sample.image ? make("div", {}, structure(sample.image), make("div", { class: "label" }, `sample ${sample.index}`)) : null;
  const values = [...sample.target, ...sample.prediction].flat().filter((value) => value !== null);
  const range = [Math.min(0, ...values), Math.max(...values, 1e-9)]; // one scale for all channels of a sample
  const curves = make("div", { class: "channels" }, ...sample.channels.map((name, k) => channel(name, sample.axis, sample.target[k], sample.prediction[k], range)));
  return make("article", { class: `sample${picture ? "" : " bare"}` }, picture, curves);
}

/** Bits, most significant first, one a pixel, row by row. */
function structure({ side, bits }) {
  const canvas = make("canvas", { width: side, height: side, role: "img", "aria-label": "structure of the cell" });
  const packed = atob(bits);
  const context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  const [filled, open] = [rgb(colour("target")), rgb(colour("sunk"))];
  for (let pixel = 0; pixel < side * side; pixel += 1) {
    const isFilled = (packed.charCodeAt(pixel >> 3) >> (7 - (pixel & 7))) & 1;
    image.data.set(isFilled ? filled : open, 4 * pixel);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

function rgb(hex) {
  const value = parseInt(hex.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255, 255];
}

function channel(name, axis, target, prediction, [low, high]) {
  const hue = { B: "blue", G: "green", R: "red" }[/^[BGR](?![a-z])/.exec(name)?.[0]] ?? "other";
  const [first, last] = [axis.values[0], axis.values.at(-1)];
  const x = (k) => ((axis.values[k] - first) / (last - first || 1)) * WIDTH;
  const y = (value) => HEIGHT - ((value - low) / (high - low || 1)) * HEIGHT;
  const line = (curve) => curve.map((value, k) => (value === null ? "" : `${k === 0 || curve[k - 1] === null ? "M" : "L"}${x(k).toFixed(1)} ${y(value).toFixed(1)}`)).join("");
  const error = Math.sqrt(target.reduce((sum, value, k) => sum + ((value ?? 0) - (prediction[k] ?? 0)) ** 2, 0) / target.length);
  const svg = makeSvg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${name}: target and prediction` });
  svg.append(makeSvg("path", { class: "aim", d: line(target) }), makeSvg("path", { class: `hue-${hue}`, d: line(prediction) }));
  const ticks = (texts, extra = "") => make("div", { class: `ticks ${extra}` }, ...texts.map((text) => make("span", {}, text)));
  const middle = axis.values[Math.floor(axis.values.length / 2)];
  return make(
    "div", { class: "channel" },
    make("div", { class: "title" }, make("b", { class: `hue-${hue}`, title: name }, name), make("span", {}, `RMSE ${tick(error, 2)}`)),
    make("div", { class: "frame" }, ticks([tick(high, 2), tick(low, 2)]), svg, ticks([tick(first), tick(middle), `${tick(last)} ${axis.unit}`], "below")),
  );
}
