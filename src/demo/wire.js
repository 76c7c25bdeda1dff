// The wire as a client sees it: an incremental parser of event streams, and a judge of their numbering.
// It knows no DOM and does no I/O. Source: WHATWG HTML, "Server-sent events", §9.2.6 (interpreting an event stream);
// unlike there, an id or a retry in a block without data has no effect: the proxy never sends one.

/** Takes chunks of bytes, in any cut, and calls back with each whole event and each comment. */
export class SseParser {
  #decoder = new TextDecoder(); // strips one leading BOM itself
  #rest = "";
  #endedInCr = false;
  #data = [];
  #event = "";
  #id = null;
  #retry = null;
  #onEvent;
  #onComment;

  /** `onEvent({event, data, id, retry})`: id and retry are null where the block has none. `onComment(text)`. */
  constructor(onEvent, onComment) {
    this.#onEvent = onEvent;
    this.#onComment = onComment;
  }

  /** What is not yet a whole event is kept for the next chunk, and dropped when none comes. */
  feed(bytes) {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === "") return;
    if (this.#endedInCr && text.startsWith("\n")) text = text.slice(1);
    this.#endedInCr = text === "" ? false : text.endsWith("\r");
    const lines = (this.#rest + text).split(/\r\n|\r|\n/);
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line);
  }

  #line(line) {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return this.#onComment(line.slice(1).trim());
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#event = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^[0-9]+$/.test(value)) this.#retry = Number(value);
  }

  #dispatch() {
    const block = { event: this.#event || "message", data: this.#data.join("\n"), id: this.#id, retry: this.#retry };
    const hasData = this.#data.length > 0;
    this.#data = [];
    this.#event = "";
    this.#id = null;
    this.#retry = null;
    if (hasData) this.#onEvent(block);
  }
}

/** `<session>.<epoch>.<seq>` as its parts, or null for an id of another make. */
export function parseId(id) {
  const match = /^([A-Za-z0-9_-]+)\.([0-9]+)\.([0-9]+)$/.exec(id ?? "");
  return match && { session: match[1], epoch: Number(match[2]), seq: Number(match[3]) };
}

/** Judges ids in the order of their arrival: dense, once each, one session. */
export class OrderCheck {
  #last = null;
  #allowed = null;

  /** A signalled gap allows the next number to be a later one. */
  allowGap() {
    this.#allowed = true;
  }

  /** Null if `id` may follow what came before, else a sentence saying why not. */
  judge(id) {
    const now = parseId(id);
    if (!now) return null;
    const last = this.#last;
    const gap = this.#allowed;
    this.#last = now;
    this.#allowed = false;
    if (!last) return now.seq <= 1 || gap ? null : `the first event has the number ${now.seq}`;
    if (now.session !== last.session) return "an event of another session arrived";
    if (gap) return null;
    if (now.epoch !== last.epoch) return `the epoch changed from ${last.epoch} to ${now.epoch} without a gap signal`;
    if (now.seq === last.seq + 1) return null;
    if (now.seq <= last.seq) return `event ${now.seq} arrived again after ${last.seq}`;
    return `event ${now.seq} arrived after ${last.seq}: ${now.seq - last.seq - 1} missing`;
  }
}
