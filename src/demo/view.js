// Everything the page shows, and nothing about why: the document's elements behind a few verbs.

const $ = (id) => document.getElementById(id);

/** The elements that the flow listens to. */
export const ui = {
  form: $("ask"), prompt: $("prompt"), pace: $("pace"), fault: $("fault"), send: $("send"),
  cut: $("cut"), kill: $("kill"), stall: $("stall"), unstall: $("unstall"), stop: $("stop"), again: $("again"),
};

const answer = $("answer");
const log = $("log");
const wire = $("wire");
const LOG_LINES = 300;
const LABELS = { idle: "Ready", streaming: "Streaming", reconnecting: "Reconnecting", done: "Done", error: "Failed" };
let started = 0;
let cuts = 0;
let afterCut = false;

/** Empties the page for a new answer. */
export function reset() {
  started = performance.now();
  cuts = 0;
  afterCut = false;
  for (const element of [answer, log, $("error-fields")]) element.replaceChildren();
  for (const id of ["error", "verified", "violation", "again"]) $(id).hidden = true;
  for (const name of ["events", "replayed", "cuts"]) counter(name, 0);
  for (const name of ["retry", "source", "last-id", "session", "request-id"]) counter(name, "–");
  seen(0);
  kept(0);
  client("idle", "connecting");
  source("idle", "asked");
}

/** The badge; `label` replaces the usual word for the state. */
export function status(state, label = LABELS[state]) {
  const badge = $("status");
  badge.dataset.state = state;
  badge.textContent = label;
  answer.dataset.growing = String(state === "streaming");
}

/** The state as last shown. */
export const state = () => $("status").dataset.state;

/** Which buttons make sense now. */
export function controls(enabled) {
  for (const name of ["cut", "kill", "stall", "unstall", "stop"]) ui[name].disabled = !enabled[name];
}

/** Adds words to the answer. The element's text is the answer and nothing else; marks are styling. */
export function append(text, replayed) {
  let segment = answer.lastElementChild;
  const kind = replayed ? "replayed" : "live";
  if (!segment || segment.className !== kind || afterCut) {
    segment = document.createElement("span");
    segment.className = kind;
    if (afterCut && answer.lastElementChild) segment.dataset.afterCut = "";
    afterCut = false;
    segment.append("");
    answer.append(segment);
  }
  segment.lastChild.appendData(text);
}

/** The next words come after a cut. */
export function markCut() {
  afterCut = true;
  counter("cuts", ++cuts);
}

/** The whole answer as shown. */
export const shown = () => answer.textContent;

/** Writes a number or a word into the counter `name`. */
export function counter(name, value) {
  const field = $(`count-${name}`);
  field.textContent = String(value);
  field.title = String(value);
}

/** How many events have arrived here. */
export const seen = (n) => { $("seen").textContent = String(n); };

/** How many events the proxy is known to have. */
export const kept = (n) => { $("kept").textContent = String(n); };

/** The link between this page and the proxy: idle, flowing, cut, done. */
export function client(state, label) {
  wire.dataset.client = state;
  $("client-label").textContent = label;
}

/** The link between the proxy and the upstream: idle, flowing, stalled, dead, done. */
export function source(state, label) {
  wire.dataset.source = state;
  $("source-label").textContent = label;
}

/** The state of the upstream's link as last shown. */
export const sourceState = () => wire.dataset.source;

/** Adds a line to the timeline. The same `kind` with the same `text` in a row is counted, not repeated. */
export function note(kind, text, detail = "") {
  const last = log.lastElementChild;
  if (last && last.dataset.kind === kind && last.dataset.text === text && kind === "heartbeat") {
    last.dataset.count = String(Number(last.dataset.count) + 1);
    last.querySelector("p").textContent = `${text} ×${last.dataset.count}`;
    return;
  }
  const line = document.createElement("li");
  Object.assign(line.dataset, { kind, text, count: "1" });
  const time = document.createElement("time");
  time.textContent = `${((performance.now() - started) / 1000).toFixed(2)}s`;
  const words = document.createElement("p");
  words.textContent = text;
  if (detail) {
    const small = document.createElement("small");
    small.textContent = detail;
    words.append(small);
  }
  line.append(time, words);
  log.append(line);
  if (log.childElementCount > LOG_LINES) log.firstElementChild.remove();
  log.scrollTop = log.scrollHeight;
}

/** Shows an error with its fields; `again` offers to ask again. */
export function failure(message, fields, again) {
  $("error-message").textContent = message;
  $("error-fields").replaceChildren(...Object.entries(fields).flatMap(([name, value]) => {
    const term = document.createElement("dt");
    const meaning = document.createElement("dd");
    term.textContent = name;
    meaning.textContent = typeof value === "string" ? value : JSON.stringify(value);
    meaning.dataset.field = name;
    return [term, meaning];
  }));
  ui.again.hidden = !again;
  $("error").hidden = false;
}

/** Says that the answer was compared and found whole. */
export function verified(text) {
  $("verified").textContent = `✓ ${text}`;
  $("verified").hidden = false;
}

/** Says, in red, that a promise was broken. */
export function violation(text) {
  const box = $("violation");
  box.textContent = box.hidden ? `Promise broken: ${text}` : `${box.textContent}; ${text}`;
  box.hidden = false;
  note("violation", `Promise broken: ${text}`);
}

/** Says that no proxy is in between. */
export function direct(isDirect) {
  $("direct").hidden = !isDirect;
  $("middle").textContent = isDirect ? "(no proxy)" : "Streamkeeper";
}

/** The command that attaches to the session. */
export const shell = (command) => { $("shell").textContent = command; };
