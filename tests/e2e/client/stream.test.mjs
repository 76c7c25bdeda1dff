// One stream from open to end, in frozen time: what is retried, when, how often, and what is left behind.

import assert from "node:assert/strict";
import { test } from "node:test";

import { openStream } from "../../../clients/js/streamkeeper.js";
import { Answer, FakeServer, listen, settle } from "./fake.mjs";

const URL = "http://app.test/chat";
const SESSION = "AAAAAAAAAAAAAAAAAAAAAA";
const own = (seq, epoch = 0) => `${SESSION}.${epoch}.${seq}`;
const event = (data, id) => `data: ${data}\n${id === undefined ? "" : `id: ${id}\n`}\n`;
const standard = (fields) => JSON.stringify({ type: "system", severity: "error", message: "m", code: "c", recoverable: true, ...fields });

test("a GET takes what comes and is done at its terminator", async (t) => {
  const answer = new Answer();
  const server = new FakeServer(t, [answer]);
  const seen = listen(openStream(URL), "init");
  await settle();
  await answer.send("event: init\ndata: {}\n\n");
  await answer.send(event("a") + event("b") + event("[DONE]") + event("never"));
  assert.deepEqual(seen.types, ["open", "init", "message", "message", "done"]);
  assert.deepEqual(seen.data, ["a", "b"]);
  const [{ method, headers }] = server.asked;
  assert.deepEqual([method, headers], ["GET", { accept: "text/event-stream" }]);
});

test("an event named done ends the stream and is the done event", async (t) => {
  const answer = new Answer();
  new FakeServer(t, [answer]);
  const seen = listen(openStream(URL));
  await settle();
  await answer.send(event("a") + 'event: done\ndata: {"token_count":1}\n\n');
  assert.deepEqual(seen.types, ["open", "message", "done"]);
  assert.deepEqual(JSON.parse(seen.last.data), { token_count: 1 });
});

test("a plain object is posted as JSON, with a key that makes a repetition join", async (t) => {
  const server = new FakeServer(t, [null, new Answer()]);
  openStream(URL, { body: { message: "hi" }, headers: { "x-mine": "1" } });
  await server.pass(1000);
  assert.equal(server.asked.length, 2);
  const [first, second] = server.asked;
  assert.deepEqual([first.method, first.body], ["POST", '{"message":"hi"}']);
  assert.deepEqual([first.headers["content-type"], first.headers["x-mine"]], ["application/json", "1"]);
  assert.match(first.headers["idempotency-key"], /^[0-9a-f]{32}$/);
  assert.deepEqual(second, first);
});

test("bytes may be cut anywhere, inside a letter and behind a BOM too", async (t) => {
  const answer = new Answer();
  new FakeServer(t, [answer]);
  const seen = listen(openStream(URL));
  await settle();
  for (const byte of new TextEncoder().encode("\uFEFF" + event("größe 日本 😀"))) await answer.send(new Uint8Array([byte]));
  assert.deepEqual(seen.data, ["größe 日本 😀"]);
});

test("waits double from one second to thirty, five times, and then it is an error", async (t) => {
  const server = new FakeServer(t, []);
  const seen = listen(openStream(URL, { retry: { attempts: 7 } }));
  for (let n = 0; n < 8; n += 1) await server.pass(30_000);
  assert.deepEqual(seen.waits, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
  assert.equal(seen.last.type, "error");
  assert.deepEqual([seen.last.error.type, seen.last.error.code], ["network", "network_error"]);
  assert.equal(server.asked.length, 8);
});

test("five attempts are the default", async (t) => {
  const server = new FakeServer(t, []);
  const seen = listen(openStream(URL));
  for (let n = 0; n < 8; n += 1) await server.pass(30_000);
  assert.equal(server.asked.length, 6);
  assert.deepEqual(seen.types, [...Array(5).fill("reconnecting"), "error"]);
});

test("the wait is drawn from the whole range below its bound", async (t) => {
  const server = new FakeServer(t, []);
  const seen = listen(openStream(URL));
  server.random.mock.mockImplementation(() => 0.25);
  await server.pass(0);
  server.random.mock.mockImplementation(() => 0);
  await server.pass(250);
  assert.deepEqual(seen.waits, [250, 0]);
});

test("an event counts as success: the waits begin anew", async (t) => {
  const answer = new Answer();
  const server = new FakeServer(t, [null, null, answer]);
  const seen = listen(openStream(URL));
  await server.pass(1000);
  await server.pass(2000);
  await answer.send(event("a", 1));
  await answer.cut();
  assert.deepEqual(seen.waits, [1000, 2000, 1000]);
});

test("the server's retry is the base, and nobody comes back sooner", async (t) => {
  const answer = new Answer();
  const server = new FakeServer(t, [answer]);
  const seen = listen(openStream(URL));
  await settle();
  await answer.send("retry: 3000\n" + event("a", 1));
  server.random.mock.mockImplementation(() => 0.1);
  await answer.cut();
  await server.pass(3000);
  server.random.mock.mockImplementation(() => 0.9);
  await server.pass(3000);
  assert.deepEqual(seen.waits, [3000, 3000, 10_800]);
});

test("Retry-After is obeyed, in seconds and as a date", async (t) => {
  const date = new Date(45_000).toUTCString();
  const server = new FakeServer(t, [
    new Answer({ status: 503, headers: { "retry-after": "40" } }),
    new Answer({ status: 429, headers: { "retry-after": date } }),
    new Answer({ status: 204 }),
  ]);
  const seen = listen(openStream(URL));
  await server.pass(40_000);
  assert.deepEqual(seen.waits, [40_000, 5000]);
  await server.pass(5000);
  assert.deepEqual(seen.types, ["reconnecting", "reconnecting", "done"]);
  assert.deepEqual(seen.told.slice(0, 2).map(({ error }) => [error.type, error.status]), [["system", 503], ["rate_limit", 429]]);
});

test("a 4xx is fatal at once and says what the server said", async (t) => {
  const body = JSON.stringify({ detail: "message must not be empty" });
  const server = new FakeServer(t, [new Answer({ status: 400, body, headers: { "x-request-id": "r1" } })]);
  const seen = listen(openStream(URL));
  await server.pass(30_000);
  const { error } = seen.last;
  assert.deepEqual(seen.types, ["error"]);
  assert.deepEqual([error.message, error.type, error.code, error.status, error.recoverable, error.requestId],
    ["message must not be empty", "validation", "http_400", 400, false, "r1"]);
});

test("a 5xx that says it is not recoverable is not repeated", async (t) => {
  const body = standard({ code: "bad_content_type", recoverable: false, request_id: "r2" });
  const server = new FakeServer(t, [new Answer({ status: 502, body })]);
  const seen = listen(openStream(URL));
  await server.pass(30_000);
  assert.deepEqual(seen.types, ["error"]);
  assert.deepEqual([seen.last.error.code, seen.last.error.requestId], ["bad_content_type", "r2"]);
});

test("an answer that is no event stream is an error", async (t) => {
  new FakeServer(t, [new Answer({ headers: { "content-type": "text/html" }, body: "<p>" })]);
  const seen = listen(openStream(URL));
  await settle();
  assert.deepEqual([seen.last.type, seen.last.error.code], ["error", "bad_content_type"]);
});

test("a cut is resumed by the last id, and half an event counts for nothing", async (t) => {
  const [first, second] = [new Answer(), new Answer()];
  const server = new FakeServer(t, [first, second]);
  const seen = listen(openStream(URL));
  await settle();
  await first.send(event("a", 1) + event("b", "zwei-ö") + "data: half\nid: 3\n");
  await first.cut();
  await server.pass(1000);
  // A header is bytes: UTF-8, as EventSource sends it.
  assert.equal(server.asked[1].headers["last-event-id"], "zwei-Ã¶");
  await second.send(event("c", 3) + event("[DONE]"));
  assert.deepEqual(seen.data, ["a", "b", "c"]);
  assert.equal(seen.last.type, "done");
});

test("events that come again after a reconnect are not told again", async (t) => {
  const [first, second] = [new Answer(), new Answer()];
  const server = new FakeServer(t, [first, second]);
  const seen = listen(openStream(URL));
  await settle();
  await first.send(event("a", 1) + event("b", 2));
  await first.cut();
  await server.pass(1000);
  await second.send(event("a", 1) + event("b", 2) + event("c", 3) + event("again", 1));
  assert.deepEqual(seen.data, ["a", "b", "c", "again"], "behind the overlap an id may mean something else");
});

test("Streamkeeper's numbers: what was seen is dropped, a hole is told", async (t) => {
  const [first, second] = [new Answer(), new Answer()];
  const server = new FakeServer(t, [first, second]);
  const stream = openStream(URL);
  const seen = listen(stream);
  await settle();
  await first.send(event("a", own(1)) + event("b", own(2)));
  assert.equal(stream.session, SESSION);
  await first.cut();
  await server.pass(1000);
  await second.send(event("b", own(2)) + event("c", own(3, 1)) + event("f", own(6, 1)));
  assert.deepEqual(seen.data, ["a", "b", "c", "f"]);
  const gap = seen.told.find(({ type }) => type === "gap");
  assert.deepEqual([gap.from, gap.to, gap.reason, JSON.parse(gap.data)], [4, 5, "lost", { from: 4, to: 5, reason: "lost" }]);
  assert.ok(seen.types.indexOf("gap") < seen.told.findIndex(({ data }) => data === "f"));
});

test("a gap that the proxy tells is told once, and its numbers are believed", async (t) => {
  const [first, second] = [new Answer(), new Answer()];
  const server = new FakeServer(t, [first, second]);
  const seen = listen(openStream(URL));
  await settle();
  await first.send(event("a", own(5)));
  await first.cut();
  await server.pass(1000);
  await second.send('event: gap\ndata: {"from":1,"to":5,"reason":"epoch"}\n\n' + event("again", own(1, 1)));
  assert.deepEqual(seen.types.slice(-2), ["gap", "message"]);
  assert.equal(seen.types.filter((type) => type === "gap").length, 1);
});

test("without ids a broken answer is not begun again: what is shown stays, once", async (t) => {
  const answer = new Answer();
  const server = new FakeServer(t, [answer]);
  const seen = listen(openStream(URL));
  await settle();
  await answer.send(event("a"));
  await answer.cut();
  await server.pass(30_000);
  assert.deepEqual(seen.types, ["open", "message", "error"]);
  assert.equal(seen.last.error.recoverable, true);
  assert.equal(server.asked.length, 1);
});

test("without ids a clean end is the end", async (t) => {
  const answer = new Answer();
  const server = new FakeServer(t, [answer]);
  const seen = listen(openStream(URL));
  await settle();
  await answer.send(event("a"));
  await answer.end();
  await server.pass(30_000);
  assert.deepEqual(seen.types, ["open", "message", "done"]);
});

test("a clean end without the terminator that was named is a cut", async (t) => {
  const [first, second] = [new Answer(), new Answer()];
  const server = new FakeServer(t, [first, second]);
  const seen = listen(openStream(URL, { isDone: ({ type }) => type === "message_stop" }), "message_stop");
  await settle();
  await first.send(event("a", 1));
  await first.end();
  await server.pass(1000);
  await second.send("event: message_stop\ndata: {}\nid: 2\n\n");
  assert.deepEqual(seen.types, ["open", "message", "reconnecting", "open", "message_stop", "done"]);
  assert.equal(seen.told[2].error.code, "ended");
});

test("a session of Streamkeeper's that ends cleanly is asked whether that was all", async (t) => {
  for (const last of [new Answer({ status: 204 }), new Answer()]) {
    const first = new Answer({ headers: { "streamkeeper-session": SESSION } });
    const server = new FakeServer(t, [first, last]);
    const seen = listen(openStream(URL));
    await settle();
    await first.send(event("a", own(1)));
    await first.end();
    await server.pass(1000);
    assert.equal(server.asked[1].headers["last-event-id"], own(1));
    if (last.status === 200) await last.end();
    assert.equal(seen.last.type, "done");
    t.mock.timers.reset();
    t.mock.restoreAll();
  }
});

test("an endless stream comes back after every end, and says what it cannot know", async (t) => {
  const answers = [new Answer(), new Answer(), new Answer()];
  const server = new FakeServer(t, [...answers]);
  const stream = openStream(URL, { endless: true });
  const seen = listen(stream);
  await settle();
  await answers[0].send(event("a"));
  await answers[0].end();
  await server.pass(1000);
  await answers[1].send(event("b", 1));
  await answers[1].end();
  await server.pass(1000);
  await answers[2].end();
  await server.pass(0);
  assert.deepEqual(seen.types, ["open", "message", "reconnecting", "gap", "open", "message", "reconnecting", "open", "reconnecting"]);
  assert.equal(seen.told[3].reason, "unnumbered");
  stream.disconnect();
});

test("a recoverable error event is resumed behind, and told if nothing comes", async (t) => {
  const [first, second] = [new Answer(), new Answer()];
  const server = new FakeServer(t, [first, second, new Answer({ status: 204 })]);
  const seen = listen(openStream(URL));
  await settle();
  await first.send(event("a", 1) + `event: error\ndata: ${standard({ code: "owner_lost", retry_after_ms: 5000 })}\nid: 2\n\n`);
  assert.deepEqual(seen.waits, [5000]);
  assert.equal(seen.last.error.code, "owner_lost");
  await server.pass(5000);
  assert.equal(server.asked[1].headers["last-event-id"], "2");
  await second.send(event("b", 3) + `event: error\ndata: ${standard({ code: "draining" })}\nid: 4\n\n`);
  await server.pass(1000);
  assert.deepEqual(seen.data, ["a", "b"]);
  assert.deepEqual([seen.last.type, seen.last.error.code, seen.last.error.recoverable], ["error", "draining", true]);
});

test("the same error again is told, not tried for ever", async (t) => {
  const error = `event: error\ndata: ${standard({ code: "session_gap" })}\n\n`;
  const [first, second] = [new Answer(), new Answer()];
  const server = new FakeServer(t, [first, second]);
  const seen = listen(openStream(URL));
  await settle();
  await first.send(event("a", 1) + error);
  await server.pass(1000);
  await second.send(error);
  assert.deepEqual([seen.last.type, seen.last.error.code], ["error", "session_gap"]);
});

test("an error before anything was shown is asked for anew, unless it is about the question", async (t) => {
  const [first, second] = [new Answer({ headers: { "streamkeeper-session": SESSION } }), new Answer()];
  const server = new FakeServer(t, [first, second]);
  const seen = listen(openStream(URL, { body: {} }));
  await settle();
  await first.send(`event: error\ndata: ${standard({ code: "idle_timeout" })}\nid: ${own(1)}\n\n`);
  await server.pass(1000);
  assert.equal(server.asked[1].headers["last-event-id"], undefined);
  assert.notEqual(server.asked[1].headers["idempotency-key"], server.asked[0].headers["idempotency-key"]);
  await second.send(`event: error\ndata: ${standard({ type: "business" })}\n\n`);
  assert.deepEqual(seen.types, ["open", "reconnecting", "open", "error"]);
});

test("an error that is not recoverable ends the stream, and half a second later nothing has changed", async (t) => {
  const answer = new Answer();
  const server = new FakeServer(t, [answer]);
  const seen = listen(openStream(URL));
  await settle();
  await answer.send(event("a", 1) + `event: error\ndata: ${standard({ recoverable: false, severity: "fatal" })}\n\n`);
  await server.pass(500);
  assert.deepEqual(seen.types, ["open", "message", "error"]);
  assert.deepEqual([seen.last.error.severity, answer.left], ["fatal", true]);
});

test("a warning is told and the stream goes on", async (t) => {
  const answer = new Answer();
  new FakeServer(t, [answer]);
  const seen = listen(openStream(URL));
  await settle();
  await answer.send(event("a") + `event: error\ndata: ${standard({ severity: "warning" })}\n\n` + event("b"));
  assert.deepEqual(seen.types, ["open", "message", "warning", "message"]);
  assert.equal(seen.told[2].error.message, "m");
});

test("behind a gap the next hole is told again", async (t) => {
  const answer = new Answer();
  new FakeServer(t, [answer]);
  const seen = listen(openStream(URL));
  await settle();
  await answer.send(event("a", own(1)) + 'event: gap\ndata: {"from":2,"to":4,"reason":"evicted"}\n\n' + event("e", own(5)) + event("g", own(7)));
  assert.deepEqual(seen.told.filter(({ type }) => type === "gap").map(({ from, to, reason }) => [from, to, reason]), [[2, 4, "evicted"], [6, 6, "lost"]]);
});

test("an id that comes alone is where the next connection begins", async (t) => {
  const answer = new Answer();
  const server = new FakeServer(t, [answer, new Answer({ status: 204 })]);
  openStream(URL);
  await settle();
  await answer.send(event("a", 1) + "id: 7\n\n");
  await answer.cut();
  await server.pass(1000);
  assert.equal(server.asked[1].headers["last-event-id"], "7");
});

test("what was reported is settled by the events that follow it", async (t) => {
  const [first, second] = [new Answer(), new Answer()];
  const server = new FakeServer(t, [first, second, new Answer({ status: 204 })]);
  const seen = listen(openStream(URL));
  await settle();
  await first.send(event("a", 1) + `event: error\ndata: ${standard()}\n\n`);
  await server.pass(1000);
  await second.send(event("b", 2));
  await second.cut();
  await server.pass(1000);
  assert.deepEqual([seen.data, seen.last.type], [["a", "b"], "done"]);
});

test("a gap in a wire that knows no gap event is an error, though a warning, and is not asked about for ever", async (t) => {
  const error = `data: {"error":${standard({ code: "session_gap", severity: "warning" })}}\n\n`;
  const [first, second] = [new Answer(), new Answer()];
  const server = new FakeServer(t, [first, second]);
  const seen = listen(openStream(URL));
  await settle();
  await first.send(event("a", own(1)) + error);
  await server.pass(1000);
  await second.send(error);
  assert.deepEqual([seen.types.at(-1), seen.last.error.code, server.asked.length], ["error", "session_gap", 2]);
});

test("an event without an id carries the last one, over a reconnect too", async (t) => {
  const [first, second] = [new Answer(), new Answer()];
  const server = new FakeServer(t, [first, second]);
  const seen = listen(openStream(URL));
  await settle();
  await first.send(event("a", 1) + event("b"));
  await first.cut();
  await server.pass(1000);
  await second.send(event("c"));
  assert.deepEqual(seen.told.filter(({ type }) => type === "message").map(({ lastEventId }) => lastEventId), ["1", "1", "1"]);
});

test("an error on the way back names the one before as its cause", async (t) => {
  const answer = new Answer();
  const server = new FakeServer(t, [answer, new Answer({ status: 404, body: standard({ code: "session_not_found", recoverable: false }) })]);
  const seen = listen(openStream(URL));
  await settle();
  await answer.send(event("a", 1) + `event: error\ndata: ${standard({ code: "draining" })}\n\n`);
  await server.pass(1000);
  const { error } = seen.last;
  assert.deepEqual([seen.last.type, error.code, error.status, error.cause.code], ["error", "session_not_found", 404, "draining"]);
});

test("who came with a last id is not answered from the start", async (t) => {
  const answer = new Answer();
  const server = new FakeServer(t, [answer, new Answer({ status: 204 })]);
  const seen = listen(openStream(URL, { lastEventId: "41" }));
  await settle();
  await answer.send(`event: error\ndata: ${standard()}\nid: 42\n\n`);
  await server.pass(1000);
  assert.deepEqual(server.asked.map(({ headers }) => headers["last-event-id"]), ["41", "42"]);
  assert.equal(seen.last.type, "error");
});
