// A server that exists in this process only: it stands in for `fetch`, and time stands still until a test moves it.
//
// What it is: a list of answers, given in order, and a record of what was asked. What it is not: a network; the real
// ones are in test_browser_client.py.

const encoder = new TextEncoder();
// Streams settle over several turns of the event loop.
const TURNS = 20;

/** Lets everything happen that needs no time. */
export async function settle() {
  for (let turn = 0; turn < TURNS; turn += 1) await new Promise(setImmediate);
}

/** One answer: an event stream that the test writes, or a status. */
export class Answer {
  #controller;
  constructor({ status = 200, headers = {}, body = null } = {}) {
    this.status = status;
    this.headers = { ...(status === 200 ? { "content-type": "text/event-stream" } : {}), ...headers };
    const stream = () => new ReadableStream({ start: (controller) => { this.#controller = controller; } });
    this.body = body ?? (status === 200 ? stream() : null);
    this.left = false;
  }
  /** Text or bytes. */
  async send(piece) {
    this.#controller.enqueue(typeof piece === "string" ? encoder.encode(piece) : piece);
    await settle();
    return this;
  }
  async end() {
    this.#controller.close();
    await settle();
  }
  async cut() {
    this.#controller.error(new TypeError("terminated"));
    await settle();
  }
  abort(reason) {
    this.left = true;
    try { this.#controller?.error(reason); } catch { /* it had ended */ }
  }
}

/** `fetch` answers from a list; `null` in it is a host that cannot be reached, "never" one that says nothing. */
export class FakeServer {
  constructor(t, answers = []) {
    this.asked = [];
    this.answers = answers;
    t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
    t.mock.method(globalThis, "fetch", (url, init) => this.#fetch(String(url), init));
    this.timers = t.mock.timers;
    this.random = t.mock.method(Math, "random", () => 1);
  }

  #fetch(url, init) {
    this.asked.push({ url, method: init.method ?? "GET", headers: Object.fromEntries(init.headers), body: init.body });
    const answer = this.answers.shift() ?? null;
    return new Promise((resolve, reject) => {
      init.signal?.addEventListener("abort", () => {
        reject(init.signal.reason);
        if (answer instanceof Answer) answer.abort(init.signal.reason);
      });
      if (answer === null) reject(new TypeError("fetch failed"));
      else if (answer !== "never") resolve(new Response(answer.body, { status: answer.status, headers: answer.headers }));
    });
  }

  /** Moves the clock. */
  async pass(ms) {
    await settle();
    this.timers.tick(ms);
    await settle();
  }
}

/** Everything that a stream tells, in order. */
export function listen(stream, ...names) {
  const told = [];
  for (const name of ["open", "message", "reconnecting", "gap", "warning", "error", "done", ...names]) {
    stream.addEventListener(name, (event) => told.push(event));
  }
  return {
    told,
    get data() { return told.filter((event) => event.type === "message").map((event) => event.data); },
    get waits() { return told.filter((event) => event.type === "reconnecting").map((event) => event.delay); },
    get types() { return told.map((event) => event.type); },
    get last() { return told.at(-1); },
  };
}

/** A Storage in memory. */
export class Memory extends Map {
  getItem(key) { return this.get(key) ?? null; }
  setItem(key, value) { this.set(key, value); }
  removeItem(key) { this.delete(key); }
}
