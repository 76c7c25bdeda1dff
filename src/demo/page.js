// The demo page's flow: asks, reads the stream, breaks it on request, comes back, and checks what arrives.
// What is on the wire is read in wire.js, what is on the screen is written in view.js.

import { OrderCheck, SseParser, parseId } from "./wire.js";
import * as view from "./view.js";

const SESSIONS = "/_streamkeeper/sessions/";
const DEFAULT_RETRY_MS = 1000;
const MAX_RETRY_MS = 15000;
const MAX_TRIES = 6; // reconnections in a row without a single event
const ERROR_FIELDS = ["type", "severity", "code", "recoverable", "request_id", "retry_after_ms"];

const { ui } = view;
let current = null; // the answer being told, if any

/** One question and its answer, over as many connections as it takes. */
class Ask {
  run = `page-${crypto.getRandomValues(new Uint32Array(4)).join("-")}`;
  session = null;
  lastId = null;
  retryMs = DEFAULT_RETRY_MS;
  events = 0;
  replayed = 0;
  burst = 0; // replayed since the last reconnection
  replayUntil = null; // the last number the proxy had when this page came back
  tries = 0;
  over = false; // the terminator or an error has been seen, or the user stopped it
  leaving = null; // "cut" | "stop": why the connection is being ended from here
  killed = false;
  order = new OrderCheck();
  connection = null; // AbortController
  wake = null; // ends a wait early

  constructor(prompt, fault, pace) {
    this.prompt = prompt;
    this.script = [`pace=${pace}`, fault].filter(Boolean).join(",");
  }

  /** Runs until the answer is over. */
  async tell() {
    view.reset();
    view.status("streaming", "Asking");
    view.note("sent", "POST /v1/chat/completions", `x-demo-fault: ${this.script}`);
    this.buttons();
    await this.connect(() => this.first());
    while (!this.over) {
      await this.away();
      if (!this.over) await this.connect(() => (this.session ? this.comeBack() : this.first()));
    }
    this.buttons();
  }

  /** The request itself. Its Idempotency-Key lets it join its own session when no id is known yet. */
  first() {
    const headers = {
      "content-type": "application/json", accept: "text/event-stream",
      "idempotency-key": this.run, "x-demo-run": this.run, "x-demo-fault": this.script,
    };
    const body = { model: "streamkeeper-demo", stream: true, messages: [{ role: "user", content: this.prompt }] };
    return this.fetch("/v1/chat/completions", { method: "POST", headers, body: JSON.stringify(body) });
  }

  /** The same answer again, from where it was left. */
  async comeBack() {
    const state = await this.state();
    this.replayUntil = state?.last_seq ?? null;
    this.burst = 0;
    const headers = { accept: "text/event-stream" };
    if (this.lastId) headers["last-event-id"] = this.lastId;
    view.note("reconnect", `Back: GET ${SESSIONS}…`, this.lastId ? `Last-Event-ID: ${this.lastId}` : "from the start");
    return this.fetch(SESSIONS + this.session, { headers });
  }

  fetch(path, options) {
    this.connection = new AbortController();
    return fetch(path, { ...options, cache: "no-store", signal: this.connection.signal });
  }

  /** The proxy's own account of the session, or null. */
  async state() {
    try {
      const response = await fetch(SESSIONS + this.session, { headers: { accept: "application/json" }, cache: "no-store" });
      return response.ok ? await response.json() : null;
    } catch {
      return null;
    }
  }

  /** One connection from its request to its end. Ends quietly; `over` says whether another one is needed. */
  async connect(open) {
    this.leaving = null;
    try {
      const response = await open();
      if (this.over) return this.connection.abort(); // stopped while it was being opened
      if (response.status === 204) return this.finish("204: nothing is left to send");
      if (!response.ok) return await this.refused(response);
      this.heard(response);
      await this.read(response.body.getReader());
      this.endOfReplay();
      if (!this.over && !this.leaving) this.lost("The stream ended without a word of goodbye");
    } catch (error) {
      if (!this.over && !this.leaving) this.lost("The connection broke", String(error.message ?? error));
    }
  }

  heard(response) {
    const header = (name) => response.headers.get(name);
    const session = header("streamkeeper-session");
    view.direct(!session);
    if (session && !this.session) view.note("head", `Session ${session}`);
    this.session = session ?? this.session;
    view.counter("session", this.session ?? "none");
    view.counter("request-id", header("x-request-id") ?? "–");
    view.counter("source", header("streamkeeper-source") ?? "direct");
    view.status("streaming");
    view.client("flowing", "connected");
    if (!["stalled", "dead"].includes(view.sourceState())) view.source("flowing", "streaming");
    this.shell();
    this.buttons();
  }

  async read(reader) {
    const parser = new SseParser((event) => this.event(event), (comment) => this.comment(comment));
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      parser.feed(value);
    }
  }

  comment(comment) {
    view.note("heartbeat", `Heartbeat “: ${comment}”`);
  }

  event({ event, data, id, retry }) {
    if (this.leaving === "stop") return; // what was under way when the user stopped it
    this.tries = 0;
    if (retry !== null && retry !== this.retryMs) view.note("retry", `Retry hint: come back after ${retry} ms`);
    if (retry !== null) view.counter("retry", `${(this.retryMs = retry)} ms`);
    view.counter("events", ++this.events);
    if (id === null && !this.session) view.seen(this.events);
    const fresh = id !== null && this.number(id);
    if (this.over) return view.violation(`something arrived after the end: ${data.slice(0, 60)}`);
    if (data === "[DONE]") return this.finish("[DONE]: the answer is complete");
    const value = parseJson(data);
    if (event === "gap") return this.gap(value, data);
    const failed = value?.error && typeof value.error === "object" ? value.error : null;
    if (failed || event === "error") return this.failed(failed ?? value ?? { message: data });
    const words = value?.choices?.[0]?.delta?.content;
    if (words) view.append(words, fresh);
    if (view.sourceState() === "idle") view.source("flowing", "streaming");
  }

  /** Takes note of an id. Says whether the event was replayed. */
  number(id) {
    const wrong = this.order.judge(id);
    if (wrong) view.violation(wrong);
    const first = this.lastId === null;
    this.lastId = id;
    if (first) view.note("first-id", "First id", id);
    view.counter("last-id", id);
    this.shell();
    const seq = parseId(id)?.seq ?? this.events;
    view.seen(seq);
    view.kept(Math.max(seq, this.replayUntil ?? 0));
    if (this.replayUntil === null) return false;
    if (seq > this.replayUntil) {
      this.endOfReplay();
      return false;
    }
    this.burst += 1;
    view.counter("replayed", ++this.replayed);
    if (seq === this.replayUntil) this.endOfReplay();
    return true;
  }

  endOfReplay() {
    if (this.replayUntil === null) return;
    this.replayUntil = null;
    const events = this.burst === 1 ? "1 event" : `${this.burst} events`;
    view.note("replayed", this.burst ? `Replayed ${events}, nothing twice` : "Nothing was missed");
  }

  gap(value, data) {
    this.order.allowGap();
    view.note("gap", `Gap: events ${value?.from ?? "?"} to ${value?.to ?? "?"} are gone`, value?.reason ?? data);
  }

  /** Waits as long as the proxy asked for, and watches meanwhile how the kept answer grows. */
  async away() {
    if (!this.session && !this.proxied()) return this.giveUp("No proxy kept the rest of this answer: it is lost.");
    if (++this.tries > MAX_TRIES) return this.giveUp(`No answer after ${MAX_TRIES} tries.`);
    view.status("reconnecting");
    this.buttons();
    const until = performance.now() + Math.min(this.retryMs * 2 ** (this.tries - 1), MAX_RETRY_MS);
    const watching = setInterval(() => this.watch(), 350);
    for (let left; !this.over && (left = until - performance.now()) > 0;) {
      view.client("cut", `back in ${(left / 1000).toFixed(1)} s`);
      await new Promise((resolve) => { this.wake = resolve; setTimeout(resolve, Math.min(left, 100)); });
    }
    clearInterval(watching);
  }

  async watch() {
    if (!this.session) return;
    const state = await this.state();
    if (state && typeof state.last_seq === "number" && !this.over) view.kept(state.last_seq);
  }

  proxied() {
    return proxied !== false;
  }

  cut() {
    const at = parseId(this.lastId)?.seq ?? this.events;
    this.endOfReplay();
    this.leaving = "cut";
    view.markCut();
    view.client("cut", "cut by you");
    view.note("cut", `You cut the connection after event ${at}`);
    this.connection?.abort();
  }

  lost(text, detail) {
    this.endOfReplay();
    view.markCut();
    view.client("cut", "broken");
    view.note("cut", text, detail);
  }

  async steer(verb) {
    let told = null;
    try {
      told = await fetch(`/demo/runs/${this.run}/${verb}`, { method: "POST" });
    } catch (error) {
      return view.note("error", `The upstream could not be told to ${verb}`, String(error.message ?? error));
    }
    if (!told.ok) return view.note(verb, "The upstream has told everything already: there is nothing to act on");
    if (verb === "kill") {
      this.killed = true;
      if (!this.over) view.source("dead", "killed");
      view.note("kill", "You killed the upstream in the middle of an event");
    } else if (!this.over) {
      view.source(verb === "stall" ? "stalled" : "flowing", verb === "stall" ? "silent" : "streaming");
      view.note(verb, verb === "stall" ? "You stalled the upstream" : "The upstream goes on");
    }
    this.buttons();
  }

  async stop() {
    this.over = true;
    this.leaving = "stop";
    view.note("stop", this.session ? "You stopped the answer: DELETE the session" : "You stopped the answer");
    if (this.session) await fetch(SESSIONS + this.session, { method: "DELETE" }).catch(() => null);
    this.connection?.abort();
    this.wake?.();
    view.status("idle", "Stopped");
    view.client("idle", "stopped");
    view.source("idle", "stopped");
    this.buttons();
  }

  /** A newer question takes the page over. */
  abandon() {
    if (this.over) return;
    this.over = true;
    this.leaving = "stop";
    if (this.session) fetch(SESSIONS + this.session, { method: "DELETE" }).catch(() => null);
    this.connection?.abort();
    this.wake?.();
  }

  async finish(text) {
    this.endOfReplay();
    this.over = true;
    view.status("done");
    view.client("done", "complete");
    view.source("done", this.killed ? "killed, and made good" : "complete");
    view.note("done", text, this.killed ? "The proxy finished it although the upstream was killed." : "");
    this.buttons();
    await this.verify();
  }

  /** Compares what is shown with what the upstream wrote, letter by letter. */
  async verify() {
    const headers = { "content-type": "application/json" };
    const body = JSON.stringify({ prompt: this.prompt });
    const told = await fetch("/demo/answer", { method: "POST", headers, body }).then((r) => r.json()).catch(() => null);
    if (!told || current !== this) return;
    if (told.text !== view.shown()) return view.violation("the text differs from what the upstream wrote");
    view.note("verified", "Compared with what the upstream wrote: identical");
    view.verified(`All ${told.words} words are here, each exactly once.`);
  }

  /** A refusal before any event: a status code and usually a JSON with the same fields. */
  async refused(response) {
    const text = await response.text();
    const value = parseJson(text);
    const error = value?.error && typeof value.error === "object" ? value.error : value;
    if (response.headers.get("x-request-id")) view.counter("request-id", response.headers.get("x-request-id"));
    this.failed({ message: text.slice(0, 200) || "no explanation", ...error }, response.status);
  }

  failed(error, statusCode) {
    this.endOfReplay();
    this.over = true;
    const fields = Object.fromEntries(ERROR_FIELDS.filter((name) => error[name] != null).map((name) => [name, error[name]]));
    if (statusCode) fields.status = statusCode;
    view.status("error");
    view.client("idle", statusCode ? `status ${statusCode}` : "told why");
    view.source("dead", this.killed ? "killed" : "failed");
    view.note("error", `Error: ${error.message ?? "unknown"}`, Object.entries(fields).map(([k, v]) => `${k}: ${v}`).join(" · "));
    view.failure(error.message ?? "unknown", fields, error.recoverable !== false);
    this.buttons();
  }

  giveUp(message) {
    this.failed({ message, type: "system", code: "connection_lost", recoverable: true });
    view.client("cut", "lost");
    view.source("idle", "not heard of");
  }

  buttons() {
    if (current !== this) return;
    const on = !this.over;
    const connected = on && view.state() === "streaming";
    const stalled = view.sourceState() === "stalled";
    const steerable = on && !this.killed;
    view.controls({ cut: connected, kill: steerable, stall: steerable && !stalled, unstall: steerable, stop: on });
  }

  shell() {
    if (!this.session) return view.shell("There is no session: no proxy is in between.");
    const last = this.lastId ? ` \\\n  -H 'Last-Event-ID: ${this.lastId}'` : "";
    view.shell(`curl -N -H 'Accept: text/event-stream'${last} \\\n  ${location.origin}${SESSIONS}${this.session}`);
  }
}

function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function ask() {
  const prompt = ui.prompt.value.trim();
  if (prompt === "") return ui.prompt.focus();
  current?.abandon();
  current = new Ask(prompt, ui.fault.value, ui.pace.value);
  current.tell();
}

let proxied = null; // unknown until the upstream has said
fetch("/demo/hello", { cache: "no-store" }).then((r) => r.json()).then((hello) => {
  proxied = hello.proxied;
  view.direct(!proxied);
}).catch(() => {});

ui.form.addEventListener("submit", (event) => { event.preventDefault(); ask(); });
ui.prompt.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask();
});
ui.again.addEventListener("click", ask);
ui.cut.addEventListener("click", () => current?.cut());
ui.stop.addEventListener("click", () => current?.stop());
for (const [button, verb] of [["kill", "kill"], ["stall", "stall"], ["unstall", "resume"]]) {
  ui[button].addEventListener("click", () => current?.steer(verb));
}
