// The page: photo in, five candidates out. All text from the server is set as text, never as markup.

import { drawSquare, readPhoto, toJpeg } from "./photo.js";
import { loadContract, predict } from "./server.js";

const $ = (id) => document.getElementById(id);
const canvas = $("preview");
let contract = null;
let stream = null;
let turn = 0; // answers to an older photo are dropped

function show(element, visible = true) {
  element.hidden = !visible;
}

function say(state, problem = "") {
  $("answer").setAttribute("aria-busy", String(Boolean(state)));
  for (const [id, text] of [["state", state], ["problem", problem]]) {
    $(id).textContent = text;
    show($(id), Boolean(text));
  }
}

function answered(yes) {
  show($("result"), yes);
  document.body.dataset.answered = String(yes);
}

function fail(error) {
  answered(false);
  say("", error.message);
  show($("again"), !canvas.hidden);
}

async function contractNow() {
  if (!contract) {
    contract = await loadContract();
    const { version, variant } = contract.model;
    $("scope").textContent =
      `Put one pill on a plain surface, fill the frame, and keep it sharp. ${contract.num_classes} pills are known.`;
    if (version.startsWith("untrained")) {
      $("scope").textContent = "This model is untrained: its answers mean nothing. Use it to try the page only.";
    }
    $("model").textContent = `Model ${version} (${variant}), preprocessing ${contract.digest.slice(0, 12)}`;
  }
  return contract;
}

async function use(source, width, height) {
  const mine = ++turn;
  answered(false);
  show($("again"), false);
  say("Preparing the photo");
  try {
    const { client } = await contractNow();
    drawSquare(canvas, source, width, height, client.size_px);
    canvas.setAttribute("aria-label", "The centre of your photo, as it is sent");
    show(canvas);
    show($("empty"), false);
    const side = Math.min(width, height);
    $("note").textContent = `The photo is only ${side} pixels across; ${client.size_px} or more make a better answer.`;
    show($("note"), side < client.size_px);
    await send(mine);
  } catch (error) {
    if (mine === turn) fail(error);
  }
}

async function send(mine) {
  say("Looking at the pill");
  const blob = await toJpeg(canvas, contract.client);
  const answer = await predict(blob, (seconds) => mine === turn && say(`The server is busy, trying again in ${seconds} s`));
  if (mine !== turn) return;
  say("");
  present(answer);
}

function present(answer) {
  const { decided, probability } = answer.none_of_these;
  $("result").dataset.decided = String(decided);
  $("none-title").textContent = `Not one of the ${contract.num_classes}`;
  show($("none"), decided);
  $("list-title").textContent = decided ? "Nearest known pills" : "Most likely";
  $("candidates").replaceChildren(...answer.candidates.map(candidate));
  $("warnings").replaceChildren(...answer.photo.warnings.map((text) => made("li", "", text)));
  const time = answer.timings_ms;
  const facts = {
    "Not one of these": `${percent(probability)} (said above ${percent(answer.none_of_these.threshold)})`,
    Photo: `${answer.photo.format}, ${answer.photo.size?.join(" x ")}, ${answer.photo.file_size_kb} kB`,
    Time: `${Math.round(time.total)} ms (decode ${time.decode}, queue ${time.queue}, model ${time.model})`,
    Model: `${answer.model.version}, ${answer.model.variant}`,
    Preprocessing: `version ${answer.preprocessing.version}, ${answer.preprocessing.digest.slice(0, 12)}`,
  };
  $("facts").replaceChildren(...Object.entries(facts).flatMap(([key, value]) => [made("dt", "", key), made("dd", "", value)]));
  answered(true);
  $("answer").focus({ preventScroll: true });
  $("answer").scrollIntoView({ block: "nearest" });
}

function candidate({ kcode, name, probability }) {
  const item = made("li", "candidate");
  const line = made("div", "line");
  const title = made("span", "name", name);
  title.append(made("span", "kcode", kcode));
  line.append(title, made("span", "percent", percent(probability)));
  const bar = made("progress", "");
  bar.max = 1;
  bar.value = probability;
  bar.setAttribute("aria-label", `Probability of ${name}`);
  item.append(line, bar);
  return item;
}

function made(tag, className, text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.textContent = text;
  return element;
}

function percent(value) {
  if (value > 0 && value < 0.001) return "< 0.1 %";
  return `${(100 * value).toFixed(value < 0.1 || value > 0.99 ? 1 : 0)} %`;
}

async function useFile(event) {
  const [file] = event.target.files;
  event.target.value = ""; // the same file may be chosen again
  if (!file) return;
  stopCamera();
  try {
    const photo = await readPhoto(file);
    await use(photo, photo.width, photo.height);
    photo.close();
  } catch (error) {
    turn += 1; // what the last photo is still waiting for is of no interest now
    show(canvas, false);
    show($("empty"));
    show($("note"), false);
    fail(error);
  }
}

async function startCamera() {
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "environment", width: { ideal: 1920 }, height: { ideal: 1080 } },
    });
  } catch {
    fail(new Error("The camera cannot be used. Please allow it, or choose a file."));
    return;
  }
  $("video").srcObject = stream;
  await $("video").play();
  cameraShown(true);
  $("shutter").focus();
}

async function takePicture() {
  const video = $("video");
  const frame = await createImageBitmap(video);
  stopCamera();
  await use(frame, frame.width, frame.height);
  frame.close();
}

function stopCamera() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
  $("video").srcObject = null;
  cameraShown(false);
}

function cameraShown(on) {
  for (const id of ["video", "shutter", "stop"]) show($(id), on);
  for (const id of ["live", "snap-label"]) show($(id), !on && (id !== "live" || Boolean(navigator.mediaDevices?.getUserMedia)));
}

$("snap").addEventListener("change", useFile);
$("file").addEventListener("change", useFile);
$("live").addEventListener("click", startCamera);
$("shutter").addEventListener("click", takePicture);
$("stop").addEventListener("click", stopCamera);
$("again").addEventListener("click", () => {
  show($("again"), false);
  send(++turn).catch(fail);
});
cameraShown(false);
contractNow().catch((error) => say("", error.message));
