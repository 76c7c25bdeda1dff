// How a stream ends or is left: timeouts, stop, disconnect, abort, the iterator, a reload. And that nothing stays.

import assert from "node:assert/strict";
import { test } from "node:test";

import { openStream, savedStream } from "../../../clients/js/streamkeeper.js";
import { Answer, FakeServer, listen, Memory, settle } from "./fake.mjs";

const URL = "http://app.test/chat?x=1";
const SESSION = "AAAAAAAAAAAAAAAAAAAAAA";
const own = (seq) => `${SESSION}.0.${seq}`;
const event = (data, id) => `data: ${data}\n${id === undefined ? "" : `id: ${id}\n`}\n`;
const kept = () => new Answer({ headers: { "streamkeeper-session": SESSION, "streamkeeper-source": "live" } });

/** Counts timers that were set and neither rang nor were cleared, and listeners that were not taken away. */
function leftovers(t, signal) {
  const open = new Set();
  const { setTimeout: set, clearTimeout: clear } = globalThis;
  t.mock.method(globalThis, "setTimeout", (call, ms) => {
    const timer = set(() => { open.delete(timer); call(); }, ms);
    open.add(timer);
    return timer;
  });
  t.mock.method(globalThis, "clearTimeout", (timer) => { open.delete(timer); clear(timer); });
  const page = new EventTarget();
  const listeners = new Set();
  for (const target of [page, signal].filter(Boolean)) {
    const { addEventListener: add, removeEventListener: remove } = target;
    target.addEventListener = (type, ...rest) => { listeners.add(type); add.call(target, type, ...rest); };
    target.removeEventListener = (type, ...rest) => { listeners.delete(type); remove.call(target, type, ...rest); };
  }
  globalThis.addEventListener = page.addEventListener.bind(page);
  globalThis.removeEventListener = page.removeEventListener.bind(page);
  t.after(() => { delete globalThis.addEventListener; delete globalThis.removeEventListener; });
  return { page, get all() { return [...listeners, ...[...open].map(() => "timer")]; } };
}

test("nothing is left behind, whichever way a stream ends", async (t) => {
  const ways = {
    done: async (stream, answer) => { await answer.send(event("[DONE]")); await answer.end(); },
    "done, and a server that never closes": async (stream, answer, server) => { await answer.send(event("[DONE]")); await server.pass(1000); },
    error: async (stream, answer) => { await answer.send('event: error\ndata: {"recoverable":false}\n\n'); },
    disconnect: async (stream) => stream.disconnect(),
    stop: async (stream) => stream.stop(),
    abort: async (stream, answer, server, controller) => controller.abort(),
    "disconnect while it waits": async (stream, answer) => { await answer.cut(); stream.disconnect(); },
    "abort while it waits": async (stream, answer, server, controller) => { await answer.cut(); controller.abort(); },
    "total timeout": async (stream, answer, server) => server.pass(60_000),
  };
  for (const [name, end] of Object.entries(ways)) {
    const controller = new AbortController();
    const answer = kept();
    const server = new FakeServer(t, [answer, new Answer({ status: 204 })]);
    const left = leftovers(t, controller.signal);
    const stream = openStream(URL, { signal: controller.signal, timeouts: { idle: 0, total: 60_000 } });
    await settle();
    await answer.send(event("a", own(1)));
    assert.notDeepEqual(left.all, [], `${name}: it was at work`);
    await end(stream, answer, server, controller);
    await settle();
    assert.deepEqual([stream.state, left.all], ["closed", []], name);
    t.mock.timers.reset();
    t.mock.restoreAll();
  }
});

test("silence is an idle timeout, and any byte puts it off", async (t) => {
  const [first, second] = [new Answer(), new Answer()];
  const server = new FakeServer(t, [first, second]);
  const seen = listen(openStream(URL, { timeouts: { idle: 5000 } }));
  await settle();
  await first.send(event("a", 1));
  for (let n = 0; n < 5; n += 1) {
    await server.pass(4000);
    await first.send(": ka\n");
  }
  assert.deepEqual(seen.types, ["open", "message"]);
  await server.pass(5000);
  assert.deepEqual([seen.last.type, seen.last.error.type, seen.last.error.code], ["reconnecting", "timeout", "idle_timeout"]);
  assert.equal(first.left, true);
  await server.pass(1000);
  await second.send(event("b", 2) + event("[DONE]"));
  assert.deepEqual(seen.data, ["a", "b"]);
});

test("a server that never answers is a connect timeout", async (t) => {
  const server = new FakeServer(t, ["never", new Answer({ status: 204 })]);
  const seen = listen(openStream(URL, { timeouts: { connect: 2000 } }));
  await server.pass(2000);
  assert.deepEqual([seen.last.type, seen.last.error.code], ["reconnecting", "connect_timeout"]);
  await server.pass(1000);
  assert.equal(seen.last.type, "done");
});

test("the total timeout is fatal, over all connections", async (t) => {
  const answer = new Answer();
  const server = new FakeServer(t, [null, answer]);
  const seen = listen(openStream(URL, { timeouts: { total: 4000 } }));
  await server.pass(1000);
  await answer.send(event("a", 1));
  await server.pass(3000);
  assert.deepEqual([seen.last.type, seen.last.error.code, answer.left], ["error", "total_timeout", true]);
  await server.pass(60_000);
  assert.equal(server.asked.length, 2);
});

test("coming online ends a wait, but not sooner than the server asked", async (t) => {
  const server = new FakeServer(t, [null, new Answer({ status: 503, headers: { "retry-after": "2" } }), new Answer({ status: 204 })]);
  const { page } = leftovers(t);
  const seen = listen(openStream(URL, { retry: { base: 30_000 } }));
  await server.pass(10);
  page.dispatchEvent(new Event("online"));
  await server.pass(0);
  assert.equal(server.asked.length, 2);
  assert.equal(seen.last.delay, 30_000);
  page.dispatchEvent(new Event("online"));
  await server.pass(1999);
  assert.equal(server.asked.length, 2);
  await server.pass(1);
  assert.equal(seen.last.type, "done");
});

test("without a network no attempt is spent", async (t) => {
  const server = new FakeServer(t, [null, new Answer({ status: 204 })]);
  const { page } = leftovers(t);
  Object.defineProperty(globalThis, "navigator", { value: { onLine: false }, configurable: true });
  t.after(() => delete globalThis.navigator);
  const seen = listen(openStream(URL));
  await server.pass(600_000);
  assert.deepEqual(seen.types, ["reconnecting"]);
  page.dispatchEvent(new Event("online"));
  await server.pass(0);
  assert.equal(seen.last.type, "done");
});

test("stop ends the session with the caller's credentials and is no error", async (t) => {
  const answer = kept();
  const server = new FakeServer(t, [answer, new Answer({ status: 204 })]);
  const stream = openStream(URL, { body: {}, headers: { authorization: "Bearer x" } });
  const seen = listen(stream);
  await settle();
  await answer.send(event("a", own(1)));
  assert.equal(await stream.stop(), true);
  assert.deepEqual(seen.types, ["open", "message"]);
  const { url, method, headers } = server.asked[1];
  assert.deepEqual([url, method, headers], [`http://app.test/_streamkeeper/sessions/${SESSION}`, "DELETE", { authorization: "Bearer x" }]);
  assert.equal(answer.left, true);
});

test("a stop before the head waits for the name of the session, within five seconds", async (t) => {
  const server = new FakeServer(t, ["never"]);
  const stream = openStream(URL);
  const stopped = stream.stop();
  assert.equal(stream.state, "closed");
  await server.pass(5000);
  assert.equal(await stopped, false);
  assert.equal(server.asked.length, 1);
});

test("disconnect is quiet: no event, no request", async (t) => {
  const answer = kept();
  const server = new FakeServer(t, [answer]);
  const stream = openStream(URL);
  const seen = listen(stream);
  await settle();
  await answer.send(event("a", own(1)));
  stream.disconnect();
  await server.pass(60_000);
  assert.deepEqual([seen.types, server.asked.length, stream.lastEventId], [["open", "message"], 1, own(1)]);
});

test("who leaves in the middle of a batch gets nothing more of it, and knows where it stood", async (t) => {
  const answer = new Answer();
  new FakeServer(t, [answer]);
  const stream = openStream(URL);
  const seen = listen(stream);
  stream.addEventListener("message", () => stream.disconnect());
  await settle();
  await answer.send(event("a", own(1)) + event("c", own(3))).catch(() => {});
  assert.deepEqual([seen.types, stream.lastEventId], [["open", "message"], own(1)]);
});

test("behind its last event a server may end in peace, within a second", async (t) => {
  const [polite, endless] = [new Answer(), new Answer()];
  const server = new FakeServer(t, [polite, endless]);
  openStream(URL, { timeouts: { idle: 0 } });
  openStream(URL, { timeouts: { idle: 0 } });
  await settle();
  await polite.send(event("[DONE]"));
  await endless.send(event("[DONE]"));
  await server.pass(999);
  assert.deepEqual([polite.left, endless.left], [false, false]);
  await polite.end();
  await endless.send(": still here\n");
  await server.pass(1);
  assert.equal(endless.left, true);
});

test("events are kept for a loop that begins later, unless a listener takes them", async (t) => {
  const answers = [new Answer(), new Answer()];
  new FakeServer(t, [...answers]);
  const streams = [openStream(URL), openStream(URL)];
  streams[0].addEventListener("reconnecting", () => {});
  streams[1].addEventListener("message", () => {});
  await settle();
  for (const answer of answers) await answer.send(event("a") + event("[DONE]"));
  const rest = await Promise.all(streams.map(async (stream) => {
    const seen = [];
    for await (const { data } of stream) seen.push(data);
    return seen;
  }));
  assert.deepEqual(rest, [["a"], []]);
});

test("giving up on a network keeps what a reload needs; an answer that failed is forgotten", async (t) => {
  const answers = [kept(), kept()];
  const server = new FakeServer(t, [...answers]);
  const storage = new Memory();
  const options = (resumeKey) => ({ resumeKey, storage, retry: { attempts: 0 } });
  openStream(URL, options("network"));
  openStream(URL, options("failed"));
  await settle();
  await answers[0].send(event("a", own(1)));
  await answers[0].cut();
  await answers[1].send(event("a", own(1)) + 'event: error\ndata: {"recoverable":true}\n\n');
  await server.pass(0);
  assert.deepEqual(savedStream("network", storage), { session: SESSION, lastEventId: own(1) });
  assert.equal(savedStream("failed", storage), null);
});

test("the iterator yields every event once, and ends with the stream", async (t) => {
  const answer = new Answer();
  new FakeServer(t, [answer]);
  const stream = openStream(URL);
  await settle();
  await answer.send(event("early"));
  const seen = [];
  const all = (async () => { for await (const { type, data } of stream) seen.push([type, data]); })();
  await answer.send(event("a") + "event: done\ndata: {}\n\n");
  await all;
  assert.deepEqual(seen, [["message", "early"], ["message", "a"], ["done", "{}"]]);
});

test("the iterator throws what ended the stream, and the abort's own reason", async (t) => {
  const answer = new Answer({ status: 401 });
  new FakeServer(t, [answer, new Answer()]);
  await assert.rejects(openStream(URL)[Symbol.asyncIterator]().next(), { name: "StreamError", status: 401, type: "business" });
  const controller = new AbortController();
  const next = openStream(URL, { signal: controller.signal })[Symbol.asyncIterator]().next();
  await settle();
  controller.abort();
  await assert.rejects(next, { name: "AbortError" });
  await assert.rejects(openStream(URL, { signal: AbortSignal.abort("no") })[Symbol.asyncIterator]().next(), (reason) => reason === "no");
});

test("leaving the loop leaves the stream", async (t) => {
  const answer = new Answer();
  new FakeServer(t, [answer]);
  const stream = openStream(URL);
  await settle();
  await answer.send(event("a"));
  for await (const { data } of stream) if (data === "a") break;
  await settle();
  assert.deepEqual([stream.state, answer.left], ["closed", true]);
});

test("a reload repeats the request where it stood, and nothing is kept after the end", async (t) => {
  const [first, second] = [kept(), kept()];
  const server = new FakeServer(t, [first, second]);
  const options = { body: { message: "hi" }, resumeKey: "chat-42", storage: new Memory() };
  assert.equal(savedStream("chat-42", options.storage), null);
  openStream(URL, options);
  await settle();
  await first.send(event("a", own(1)));
  assert.deepEqual(savedStream("chat-42", options.storage), { session: SESSION, lastEventId: own(1) });
  const seen = listen(openStream(URL, options)); // as the next page does
  await settle();
  const [before, after] = server.asked;
  assert.deepEqual([after.body, after.headers["last-event-id"]], [before.body, own(1)]);
  assert.equal(after.headers["idempotency-key"], before.headers["idempotency-key"]);
  await second.send(event("a", own(1)) + event("b", own(2)) + event("[DONE]"));
  assert.deepEqual(seen.data, ["b"]);
  assert.deepEqual([...options.storage], []);
});

test("a reload can attach to the session instead, or have it all again", async (t) => {
  for (const [afterReload, id] of [["attach", own(1)], ["replay", undefined]]) {
    const first = kept();
    const server = new FakeServer(t, [first, kept()]);
    const options = { body: {}, headers: { authorization: "k" }, resumeKey: "c", storage: new Memory(), afterReload };
    const stream = openStream(URL, options);
    await settle();
    assert.equal(server.asked[0].method, "POST", "there is nothing to come back to yet");
    await first.send(event("a", own(1)));
    stream.disconnect();
    openStream(URL, options);
    await settle();
    const { url, method, headers, body } = server.asked[1];
    assert.deepEqual([url, method, body], [`http://app.test/_streamkeeper/sessions/${SESSION}`, "GET", undefined]);
    assert.deepEqual([headers.authorization, headers["last-event-id"], headers["idempotency-key"]], ["k", id, undefined]);
    t.mock.timers.reset();
    t.mock.restoreAll();
  }
});

test("storage that fails is no storage", async (t) => {
  const answer = new Answer();
  new FakeServer(t, [answer]);
  const broken = { getItem() { throw new Error("denied"); }, setItem() { throw new Error("full"); }, removeItem() { throw new Error("denied"); } };
  const seen = listen(openStream(URL, { resumeKey: "c", storage: broken }));
  await settle();
  await answer.send(event("a", 1) + event("[DONE]"));
  assert.deepEqual(seen.types, ["open", "message", "done"]);
});

test("headers may be made anew for each connection", async (t) => {
  let count = 0;
  const server = new FakeServer(t, [null, new Answer({ status: 204 })]);
  openStream(URL, { headers: async () => ({ authorization: `t${count += 1}` }) });
  await server.pass(1000);
  assert.deepEqual(server.asked.map(({ headers }) => headers.authorization), ["t1", "t2"]);
});

test("what cannot work is said at once", () => {
  assert.throws(() => openStream("no url"), TypeError);
  assert.throws(() => openStream(URL, { body: new ReadableStream() }), /asked for again/);
});
