// The browser's half of Streamkeeper: an event stream over fetch that survives cuts.
//
// What it is: one request (GET or POST) whose answer is a stream of Server-Sent Events, asked for again where it
// broke off until it is whole. Better behind Streamkeeper (resume, stop, exactly once), useful at any SSE server.
// What it is not: a store of what was said. It hands over events; the page keeps its text.
// Source: WHATWG HTML 9.2 (the stream, Last-Event-ID, retry), Streamkeeper's README (ids, errors, reserved paths).

const LONGEST_TIMER = 2 ** 31 - 1;
// How long a server may take to end its body after the event that ends the stream.
const LINGER = 1000;
// How long stop() waits for a head that names the session to be stopped.
const STOP_WAIT = 5000;
// How many ids of another make are remembered, to know them again after a reconnect.
const REMEMBERED = 1000;
const OWN_ID = /^([\w-]{22})\.\d+\.(\d+)$/;
const STATUS_EVENTS = ["open", "reconnecting", "gap", "warning", "error", "done"];
const ERROR_TYPES = ["validation", "business", "system", "timeout", "rate_limit", "network"];

/** Why a stream failed, or broke off for a moment. */
export class StreamError extends Error {
  constructor(message, fields) {
    super(message, { cause: fields.cause });
    this.name = "StreamError";
    this.type = fields.type;
    this.code = fields.code;
    this.severity = fields.severity ?? "error";
    this.recoverable = fields.recoverable;
    this.status = fields.status;
    this.requestId = fields.requestId;
    this.retryAfter = fields.retryAfter;
  }
}

/** Takes text in any cut and returns the events that are whole, as WHATWG HTML 9.2.6 interprets them. */
export class EventParser {
  /** The last `id` of a block that is whole. */
  lastEventId = "";
  /** The last `retry`, in milliseconds. */
  retry = undefined;
  #rest = "";
  #afterCr = false;
  #data = [];
  #type = "";
  #id = undefined;

  push(text) {
    const events = [];
    if (this.#afterCr && text.startsWith("\n")) text = text.slice(1);
    else if (text === "") return events;
    this.#afterCr = text.endsWith("\r");
    const lines = text.split(/\r\n|\n|\r/);
    lines[0] = this.#rest + lines[0];
    this.#rest = lines.pop();
    for (const line of lines) {
      if (line !== "") this.#field(line);
      else this.#dispatch(events);
    }
    return events;
  }

  #field(line) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#type = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^[0-9]+$/.test(value)) this.retry = Number(value);
  }

  #dispatch(events) {
    const id = this.#id;
    if (id !== undefined) this.lastEventId = id;
    if (this.#data.length > 0) {
      const data = this.#data.join("\n");
      // `id` is the block's own; without one the last id still holds.
      events.push({ type: this.#type || "message", data, id, lastEventId: this.lastEventId });
    }
    this.#data = [];
    this.#type = "";
    this.#id = undefined;
  }
}

/** Opens a stream. It connects by itself; add listeners or iterate at once. */
export function openStream(url, options = {}) {
  return new EventStream(url, options);
}

/** What a stream with this `resumeKey` left behind when its page went away: `{session, lastEventId}`, or null. */
export function savedStream(resumeKey, storage = sessionStorageIfAny()) {
  const { session = "", lastEventId = "" } = read(storage, resumeKey);
  return session || lastEventId ? { session, lastEventId } : null;
}

export class EventStream extends EventTarget {
  #url;
  #options;
  #init;
  #retry;
  #timeouts;
  #storage;
  #state = "connecting";
  #session = "";
  #lastEventId = "";
  #idempotencyKey = "";
  #attached = false; // read through the session's own address instead of asking again
  #failures = 0; // reconnects in a row that brought nothing
  #delivered = false;
  #reported = undefined; // an error event that nothing has followed yet
  #gapTold = false; // the next id may be any
  #known = new Set(); // ids of another make that were delivered
  #hint = 0; // the server's `retry:`
  #connection = undefined; // the AbortController of the connection under way
  #running = undefined;
  #wake = () => {};
  #total = undefined;
  #queue = [];
  #iterated = false;
  #listened = false;
  #notify = () => {};
  #failure = undefined; // what an iterator throws at the end

  constructor(url, options) {
    super();
    const { retry, timeouts, headers, signal, storage, lastEventId, resumeKey, afterReload, isDone, endless,
      idempotencyKey, sessionsPath, ...init } = options;
    this.#url = new URL(url, globalThis.location?.href);
    this.#options = { headers, signal, resumeKey, isDone, endless, sessionsPath };
    this.#init = request(init);
    this.#retry = { attempts: 5, base: 1000, max: 30_000, ...retry };
    this.#timeouts = { connect: 30_000, idle: 60_000, total: 0, ...timeouts };
    this.#storage = storage ?? sessionStorageIfAny();
    this.#idempotencyKey = idempotencyKey ?? (this.#isRepeatedSafely() ? "" : token());
    this.#begin(lastEventId, afterReload);
    const { total } = this.#timeouts;
    if (total) this.#total = timer(() => this.#fail(late("total_timeout", "The stream took too long."), true), total);
    if (signal?.aborted) this.#leaveAborted();
    else signal?.addEventListener("abort", this.#leaveAborted);
    if (this.#state !== "closed") this.#running = this.#run();
  }

  /** "connecting", "open", "waiting" (for the next try) or "closed". */
  get state() { return this.#state; }
  /** The id of the session at the proxy; "" at other servers, and until the first head. */
  get session() { return this.#session; }
  /** The id of the last event handed over; "" if there was none with an id. */
  get lastEventId() { return this.#lastEventId; }

  /** Leaves. The answer goes on at the proxy for a while; the same `resumeKey` or `lastEventId` comes back to it. */
  disconnect() {
    if (this.#state === "closed") return;
    this.#close();
    this.#connection?.abort();
  }

  /** Ends the answer itself: the proxy cancels the upstream. True if the proxy has confirmed it. */
  async stop() {
    // A head that is still to come names the session; without it the proxy would work on for nobody.
    const unnamed = this.#state === "connecting" && !this.#session && this.#running;
    this.#close();
    const limit = unnamed ? timer(() => this.#connection?.abort(), STOP_WAIT) : undefined;
    if (!unnamed) this.#connection?.abort();
    await this.#running;
    clearTimeout(limit);
    this.#forget();
    if (!this.#session) return false;
    try {
      const { credentials } = this.#init;
      const headers = await this.#headers({ bare: true });
      return (await fetch(this.#sessionUrl(), { method: "DELETE", headers, credentials, keepalive: true })).ok;
    } catch {
      return false;
    }
  }

  addEventListener(type, ...rest) {
    // Whoever listens to events needs none kept for an iterator.
    if (!STATUS_EVENTS.includes(type)) this.#listened = true;
    super.addEventListener(type, ...rest);
  }

  /** Every event once, in order. Ends with the stream, throws its error; leaving the loop disconnects. One per stream. */
  async *[Symbol.asyncIterator]() {
    this.#iterated = true;
    try {
      for (;;) {
        while (this.#queue.length > 0) yield this.#queue.shift();
        if (this.#state === "closed") break;
        await new Promise((resolve) => { this.#notify = resolve; });
      }
      if (this.#failure) throw this.#failure;
    } finally {
      this.disconnect();
    }
  }

  // ---- the life of a stream: connect, read, wait, again ----

  #begin(lastEventId, afterReload = "repeat") {
    const saved = read(this.#storage, this.#options.resumeKey);
    this.#session = saved.session ?? "";
    this.#lastEventId = lastEventId ?? saved.lastEventId ?? "";
    this.#idempotencyKey = saved.idempotencyKey || this.#idempotencyKey;
    this.#attached = afterReload !== "repeat" && this.#session !== "";
    if (this.#attached && afterReload === "replay") this.#lastEventId = "";
    this.#delivered = this.#lastEventId !== "";
    this.#save();
  }

  async #run() {
    for (;;) {
      const asked = this.#lastEventId;
      const { error, received, over } = await this.#connect();
      if (this.#state === "closed") return;
      // Nothing after what was seen: the answer is whole, or failed as it said.
      const { endless } = this.#options;
      const nothingMore = over || (!error && asked && !received && !endless);
      if (nothingMore && this.#reported) return this.#fail(this.#reported);
      if (nothingMore || (!error && this.#endsCleanly())) return this.#finish();
      const reason = error ?? broken("The connection ended before the answer did.", "ended");
      if (!this.#mayGoOn(reason)) return this.#fail(reason, !reason.reported);
      await this.#pause(reason);
      if (this.#state === "closed") return;
      if (this.#delivered && !this.#lastEventId) this.#tellGap({ from: null, to: null, reason: "unnumbered" });
    }
  }

  /** Whether a clean end of the body, without the event that ends the stream, is an end all the same. */
  #endsCleanly() {
    const { endless, isDone } = this.#options;
    if (endless) return false;
    // Streamkeeper's sessions can be asked whether that was all; a terminator that is known must come.
    return !this.#delivered || !(isDone || (this.#session && this.#lastEventId));
  }

  #mayGoOn(error) {
    const again = this.#reported;
    this.#reported = error.reported ? error : again;
    if (!error.recoverable) {
      error.cause ??= again;
      return false;
    }
    if (error.reported && again?.code === error.code && this.#delivered) return false;
    // Without an id it would begin from the start: what is shown would be said twice.
    if (this.#delivered && !this.#lastEventId && !this.#options.endless) return false;
    if (error.reported && !this.#delivered && !this.#attached) {
      if (error.type === "business" || error.type === "validation") return false;
      // Nothing is lost by asking anew, and the failed session has nothing to give.
      this.#lastEventId = this.#session = "";
      this.#reported = undefined;
      if (this.#idempotencyKey) this.#idempotencyKey = token();
    }
    this.#failures += 1;
    return this.#failures <= this.#retry.attempts;
  }

  /** One connection. Why it ended: `error`, `over` (the server has nothing more), or neither for a clean end. */
  async #connect() {
    const connection = this.#connection = new AbortController();
    const progress = { error: undefined, over: false, received: 0 };
    let limit;
    const within = (ms, code, message) => {
      clearTimeout(limit);
      limit = ms ? timer(() => connection.abort(late(code, message)), ms) : undefined;
    };
    try {
      this.#state = "connecting";
      within(this.#timeouts.connect, "connect_timeout", "The server did not answer in time.");
      const response = await this.#fetch(connection.signal);
      this.#session = response.headers.get("streamkeeper-session") ?? this.#session;
      progress.over = response.status === 204;
      if (!progress.over) progress.error = await refusal(response);
      if (progress.over || progress.error || this.#state === "closed") return progress;
      this.#opened(response);
      const idle = () => within(this.#timeouts.idle, "idle_timeout", "The server went silent.");
      await this.#read(response.body.getReader(), progress, idle, () => within(LINGER));
    } catch (cause) {
      const { aborted, reason } = connection.signal;
      progress.error = aborted ? reason : broken("The connection broke.", "network_error", cause);
    } finally {
      clearTimeout(limit);
      connection.abort();
    }
    return progress;
  }

  async #read(reader, progress, idle, linger) {
    const decoder = new TextDecoder();
    const parser = new EventParser();
    parser.lastEventId = this.#lastEventId;
    const overlap = new Set(this.#known);
    while (this.#state !== "closed") {
      idle();
      const { done, value } = await reader.read();
      if (done) return;
      const events = parser.push(decoder.decode(value, { stream: true }));
      this.#hint = parser.retry ?? this.#hint;
      for (const event of events) {
        if (this.#isNew(event.id, overlap) && this.#state !== "closed") progress.error = this.#receive(event, progress);
        if (progress.error) return;
        if (this.#state === "closed") break;
      }
      if (this.#state === "closed") break;
      // An id may come alone, in a block without data.
      this.#lastEventId = parser.lastEventId;
      this.#save();
    }
    // Done: the server may end its body in peace. (Who left has aborted the connection: this ends at once.)
    linger();
    while (!(await reader.read()).done);
  }

  #receive(event, progress) {
    const { type, data, id, lastEventId } = event;
    if (id !== undefined) this.#lastEventId = id;
    const gap = type === "gap" ? object(parse(data)) : undefined;
    if (gap?.reason) return this.#tellGap(gap, data);
    const error = errorIn(type, data);
    // A gap is no more than a warning, but where it comes as an error nothing follows it.
    if (error && (error.severity !== "warning" || error.code === "session_gap")) return error;
    const message = new MessageEvent(error ? "warning" : type, { data, lastEventId, origin: this.#url.origin });
    if (error) return this.#tell(Object.assign(message, { error }));
    progress.received += 1;
    this.#delivered = true;
    this.#failures = 0;
    this.#reported = undefined;
    const { isDone = isUsualEnd } = this.#options;
    const ends = isDone(message);
    if (data !== "[DONE]") this.#tell(message, ends && type === "done");
    if (ends && this.#state !== "closed") this.#finish(message);
    return undefined;
  }

  /** Whether an event is new by its id. A hole in Streamkeeper's dense numbers is told, never skipped. */
  #isNew(id, overlap) {
    if (!id) return true;
    const now = OWN_ID.exec(id);
    if (!now) return this.#isNewElsewhere(id, overlap);
    const last = OWN_ID.exec(this.#lastEventId);
    this.#session = now[1];
    if (last && !this.#gapTold) {
      const [seen, seq] = [Number(last[2]), Number(now[2])];
      if (now[1] !== last[1]) this.#tellGap({ from: seen + 1, to: null, reason: "lost" });
      else if (seq <= seen) return false;
      else if (seq > seen + 1) this.#tellGap({ from: seen + 1, to: seq - 1, reason: "lost" });
    }
    this.#gapTold = false;
    return true;
  }

  /** Other servers' ids mean nothing but themselves: those seen before a reconnect may come again first. */
  #isNewElsewhere(id, overlap) {
    if (overlap.has(id)) return false;
    overlap.clear();
    this.#known.add(id);
    if (this.#known.size > REMEMBERED) this.#known.delete(this.#known.values().next().value);
    return true;
  }

  #pause(error) {
    const { base, max } = this.#retry;
    const ceiling = Math.min(max, (this.#hint || base) * 2 ** (this.#failures - 1));
    // Full jitter, but never sooner than the server asked.
    const least = Math.max(this.#hint, error.retryAfter ?? 0);
    const delay = Math.round(Math.max(least, Math.random() * ceiling));
    this.#state = "waiting";
    this.#tellStatus("reconnecting", { attempt: this.#failures, delay, error });
    if (this.#state === "closed") return undefined;
    return new Promise((resolve) => {
      const began = Date.now();
      const over = () => {
        clearTimeout(pending);
        globalThis.removeEventListener?.("online", online);
        resolve();
      };
      // Without a network there is nothing to try; `online` ends the wait.
      const due = () => { if (globalThis.navigator?.onLine !== false) over(); };
      const online = () => {
        clearTimeout(pending);
        pending = timer(over, Math.max(0, least - (Date.now() - began)));
      };
      let pending = timer(due, delay);
      globalThis.addEventListener?.("online", online);
      this.#wake = over;
    });
  }

  // ---- requests ----

  async #fetch(signal) {
    const headers = await this.#headers();
    if (this.#attached) {
      const { credentials, mode } = this.#init;
      return fetch(this.#sessionUrl(), { headers, credentials, mode, signal, cache: "no-store" });
    }
    return fetch(this.#url, { cache: "no-store", ...this.#init, headers, signal });
  }

  async #headers({ bare = false } = {}) {
    const { headers } = this.#options;
    const all = new Headers(typeof headers === "function" ? await headers() : headers);
    if (bare) return all;
    if (!all.has("accept")) all.set("accept", "text/event-stream");
    // A header is bytes: an id goes as its UTF-8, as EventSource sends it.
    if (this.#lastEventId) all.set("last-event-id", String.fromCharCode(...new TextEncoder().encode(this.#lastEventId)));
    if (this.#attached) return all;
    if (this.#init.json && !all.has("content-type")) all.set("content-type", "application/json");
    if (this.#idempotencyKey && !all.has("idempotency-key")) all.set("idempotency-key", this.#idempotencyKey);
    return all;
  }

  #sessionUrl() {
    return new URL((this.#options.sessionsPath ?? "/_streamkeeper/sessions/") + this.#session, this.#url);
  }

  /** Whether asking twice costs nothing, or a header of ours could be refused by another origin. */
  #isRepeatedSafely() {
    const here = globalThis.location?.origin;
    return this.#init.method === "GET" || (here !== undefined && here !== this.#url.origin);
  }

  // ---- telling ----

  #opened(response) {
    this.#state = "open";
    this.#save();
    this.#tellStatus("open", { session: this.#session, source: response.headers.get("streamkeeper-source") });
  }

  #tell(message, quiet = false) {
    if (this.#iterated || !this.#listened) this.#queue.push(message);
    this.#notify();
    if (!quiet) this.dispatchEvent(message);
  }

  #tellGap({ from = null, to = null, reason }, data = JSON.stringify({ from, to, reason })) {
    this.#gapTold = true;
    this.#tell(Object.assign(new MessageEvent("gap", { data }), { from, to, reason }));
  }

  #tellStatus(type, fields) {
    this.dispatchEvent(Object.assign(new Event(type), fields));
  }

  // ---- ends ----

  #finish(message) {
    this.#close();
    this.#forget();
    const { data = "", lastEventId = this.#lastEventId } = message ?? {};
    this.dispatchEvent(new MessageEvent("done", { data, lastEventId, origin: this.#url.origin }));
  }

  /** `resumable`: whether a reload may still find the rest. */
  #fail(error, resumable = false) {
    this.#failure = error;
    this.#close();
    this.#connection?.abort();
    if (!resumable || !error.recoverable) this.#forget();
    this.#tellStatus("error", { error });
  }

  #leaveAborted = () => {
    this.#failure = this.#options.signal.reason;
    this.disconnect();
  };

  #close() {
    this.#state = "closed";
    clearTimeout(this.#total);
    this.#options.signal?.removeEventListener("abort", this.#leaveAborted);
    this.#wake();
    this.#notify();
  }

  #save() {
    const kept = { session: this.#session, lastEventId: this.#lastEventId, idempotencyKey: this.#idempotencyKey };
    const { resumeKey } = this.#options;
    if (resumeKey) quietly(() => this.#storage?.setItem(storageKey(resumeKey), JSON.stringify(kept)));
  }

  #forget() {
    const { resumeKey } = this.#options;
    if (resumeKey) quietly(() => this.#storage?.removeItem(storageKey(resumeKey)));
  }
}

// ---- errors ----

/** The error that an event reports, wherever its dialect puts it; undefined for an event that reports none. */
function errorIn(type, data) {
  const named = type === "error";
  if (!named && !/^\{.*"(error|proxy_error|data-proxy-error)"/s.test(data)) return undefined;
  const said = object(parse(data));
  if (!said && !named) return undefined;
  const inner = object(said?.error);
  const found =
    object(said?.proxy_error) ?? // Cohere
    (said?.type === "data-proxy-error" ? object(said.data) : undefined) ?? // AI SDK
    (typeof inner?.data?.recoverable === "boolean" ? inner.data : undefined) ?? // JSON-RPC
    (named ? inner ?? said ?? { message: data } : undefined) ??
    (type === "message" && !said.jsonrpc && typeof inner?.message === "string" ? inner : undefined) ?? // OpenAI, Gemini
    (type === "message" && said.type === "error" ? said : undefined);
  if (!found) return undefined;
  const fallback = "The server reported an error.";
  return Object.assign(standard(found, fallback, { requestId: said?.request_id }), { reported: true });
}

/** An error as the wire says it, in one shape. */
function standard(said, fallback, { status, type, code = "upstream_error", requestId, retryAfter }) {
  const told = said.error_type ?? said.type;
  const label = typeof told === "string" && told !== "error" ? told : "";
  const kind = ERROR_TYPES.includes(label) ? label : type ?? vendorType(`${label} ${said.code ?? ""}`);
  const severity = ["warning", "fatal"].includes(said.severity) ? said.severity : "error";
  const may = ["system", "timeout", "rate_limit"].includes(kind) && severity !== "fatal";
  const texts = [said.message, said.errorText, said.detail, said.error];
  return new StreamError(texts.find((text) => typeof text === "string") ?? fallback, {
    type: kind,
    code: String(said.error_code ?? said.code ?? (label || code)),
    severity,
    recoverable: typeof said.recoverable === "boolean" ? said.recoverable : may,
    status,
    requestId: said.request_id ?? requestId,
    retryAfter: Number.isFinite(said.retry_after_ms) ? said.retry_after_ms : retryAfter,
  });
}

function vendorType(label) {
  if (/rate_?limit|overload|too_many|429/.test(label)) return "rate_limit";
  if (/timeout|504/.test(label)) return "timeout";
  if (/invalid|not_found|validation/.test(label)) return "validation";
  return /auth|permission|billing|quota/.test(label) ? "business" : "system";
}

/** What a response that is no event stream means; undefined for one that is. */
async function refusal(response) {
  const { status, headers } = response;
  const isStream = /^text\/event-stream\s*(;|$)/i.test(headers.get("content-type") ?? "");
  if (status === 200 && isStream) return undefined;
  const body = object(parse(await response.text()));
  const said = object(body?.error) ?? body ?? {};
  const requestId = headers.get("x-request-id") ?? undefined;
  if (response.ok) {
    const message = "The server answered with something that is no event stream.";
    return new StreamError(message, { type: "system", code: "bad_content_type", recoverable: false, status, requestId });
  }
  const passing = status >= 500 || [408, 425, 429].includes(status);
  const retryAfter = waitIn(headers.get("retry-after"));
  const fields = { status, type: typeOf(status), code: `http_${status}`, requestId, retryAfter };
  const error = standard(said, `The server answered ${status}.`, fields);
  // A 4xx stays what it is however often it is asked for.
  error.recoverable = passing && said.recoverable !== false;
  return error;
}

function typeOf(status) {
  if (status === 429) return "rate_limit";
  if (status === 408 || status === 504) return "timeout";
  if (status >= 500 || status === 425) return "system";
  return [400, 404, 413, 415, 422].includes(status) ? "validation" : "business";
}

/** Retry-After, in seconds or as a date, in milliseconds. */
function waitIn(value) {
  if (!value) return undefined;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}

const late = (code, message) => new StreamError(message, { type: "timeout", code, recoverable: true });
const broken = (message, code, cause) => new StreamError(message, { type: "network", code, recoverable: true, cause });

// ---- small things ----

const isUsualEnd = (event) => event.data === "[DONE]" || event.type === "done";
const timer = (call, ms) => setTimeout(call, Math.min(ms, LONGEST_TIMER));
const object = (value) => (value !== null && typeof value === "object" ? value : undefined);
const storageKey = (resumeKey) => `streamkeeper:${resumeKey}`;

function parse(text) {
  try { return JSON.parse(text); } catch { return undefined; }
}

/** Storage may be full, switched off or forbidden: then a reload resumes nothing, and that is all. */
function quietly(act) {
  try { return act(); } catch { return undefined; }
}

function sessionStorageIfAny() {
  return quietly(() => globalThis.sessionStorage);
}

function read(storage, resumeKey) {
  const text = resumeKey && quietly(() => storage?.getItem(storageKey(resumeKey)));
  return object(parse(text || "null")) ?? {};
}

/** 128 random bits as text. (randomUUID exists on secure origins only.) */
function token() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The part of fetch's init that every connection repeats. A plain object or array as body is sent as JSON. */
function request(init) {
  const { body } = init;
  if (typeof ReadableStream !== "undefined" && body instanceof ReadableStream) {
    throw new TypeError("A body that can be read only once cannot be asked for again.");
  }
  const json = Array.isArray(body) || (object(body) && Object.getPrototypeOf(body) === Object.prototype);
  const method = (init.method ?? (body == null ? "GET" : "POST")).toUpperCase();
  return { ...init, method, body: json ? JSON.stringify(body) : body, json };
}
