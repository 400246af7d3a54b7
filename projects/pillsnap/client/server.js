// Talking to the server; every failure becomes an Error whose message is a sentence for a person.

const SENTENCES = {
  408: "The connection was too slow. Please try again where it is better.",
  413: "The photo is too large for the server.",
  415: "The server does not take this kind of file. Please use a JPEG or PNG photo.",
};
const ANSWER_WITHIN_MS = 45000;
const LONGEST_WAIT_S = 10; // whoever is to wait longer is told so, and decides

export async function loadContract() {
  return ask("preprocess", {});
}

export async function predict(blob, onWait) {
  const form = () => {
    const data = new FormData();
    data.append("file", blob, "photo.jpg");
    return { method: "POST", body: data };
  };
  try {
    return await ask("predict", form());
  } catch (error) {
    if (!(error.retryAfter <= LONGEST_WAIT_S)) throw error;
    onWait(error.retryAfter); // the server says when it makes sense; once, then the person decides
    await new Promise((resolve) => setTimeout(resolve, 1000 * error.retryAfter));
    return ask("predict", form());
  }
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { ...options, signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
  } catch (error) {
    const late = error.name === "TimeoutError";
    throw new Error(late ? "The server took too long. Please try again." : "The server cannot be reached. Are you online?");
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body) return body;
  throw failure(response, body);
}

function failure(response, body) {
  const detail = typeof body?.detail === "string" ? body.detail : `status ${response.status}`;
  const seconds = Number(response.headers.get("Retry-After")); // a date becomes NaN, and is not understood here
  const busy = `The server is busy. Please try again ${seconds > 0 ? `in ${inWords(seconds)}` : "in a moment"}.`;
  const own = response.status === 503 ? busy : SENTENCES[response.status];
  const error = new Error(own ?? `The server could not use this photo: ${detail}.`);
  if (response.status === 503 && seconds > 0) error.retryAfter = seconds;
  return error;
}

function inWords(seconds) {
  return seconds <= 120 ? `${seconds} s` : `${Math.ceil(seconds / 60)} minutes`;
}
