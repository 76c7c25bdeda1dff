// The standard error in the form of every wire, as Streamkeeper and the vendors speak it; and what is no error.

import assert from "node:assert/strict";
import { test } from "node:test";

import { openStream } from "../../../clients/js/streamkeeper.js";
import { Answer, FakeServer, listen, settle } from "./fake.mjs";

const STD = {
  type: "timeout", severity: "error", message: "The upstream stopped sending events.", code: "idle_timeout",
  recoverable: true, request_id: "r1", retry_after_ms: 5000,
};
const named = (data) => `event: error\ndata: ${JSON.stringify(data)}\n\n`;
const unnamed = (data) => `data: ${JSON.stringify(data)}\n\n`;

const OURS = {
  generic: named({ ...STD, error: STD }),
  "chat completions": unnamed({ error: { ...STD, param: null }, ...STD, param: null }),
  responses: named({ ...STD, type: "error", sequence_number: 7, param: null, error: STD }),
  anthropic: named({ ...STD, type: "error", error: { ...STD, type: "timeout_error", error_type: "timeout", details: { error_code: "idle_timeout" } } }),
  gemini: unnamed({ error: { ...STD, code: 504, status: "DEADLINE_EXCEEDED", error_code: "idle_timeout" }, ...STD }),
  cohere: `event: message-end\n${unnamed({ type: "message-end", delta: { finish_reason: "ERROR", error: STD.message }, proxy_error: STD })}`,
  "ai sdk": unnamed({ type: "data-proxy-error", data: STD, transient: true }) + unnamed({ type: "error", errorText: STD.message }) + "data: [DONE]\n\n",
  mcp: unnamed({ jsonrpc: "2.0", id: 1, error: { code: -32001, message: STD.message, data: STD } }),
  langgraph: named({ error: "timeout", status_code: 504, ...STD }),
};

async function told(t, text) {
  const answer = new Answer();
  new FakeServer(t, [answer]);
  const seen = listen(openStream("http://app.test/"));
  await settle();
  await answer.send("data: shown\nid: 1\n\n" + text);
  t.mock.timers.reset();
  t.mock.restoreAll();
  return seen;
}

test("Streamkeeper's error reads the same in every dialect", async (t) => {
  for (const [dialect, text] of Object.entries(OURS)) {
    const { last, data } = await told(t, text);
    assert.deepEqual(data, ["shown"], dialect);
    assert.equal(last.type, "reconnecting", dialect);
    const { type, severity, message, code, recoverable, requestId, retryAfter } = last.error;
    assert.deepEqual({ type, severity, message, code, recoverable, request_id: requestId, retry_after_ms: retryAfter }, STD, dialect);
  }
});

const VENDORS = [
  [named({ type: "error", error: { type: "overloaded_error", message: "Overloaded" } }), ["rate_limit", "overloaded_error", "Overloaded", true]],
  [unnamed({ error: { message: "bad", type: "invalid_request_error", param: null, code: null } }), ["validation", "invalid_request_error", "bad", false]],
  [unnamed({ error: { code: 503, message: "later", status: "UNAVAILABLE" } }), ["system", "503", "later", true]],
  [unnamed({ type: "error", errorText: "broke" }), ["system", "upstream_error", "broke", true]],
  ["event: error\ndata: just text\n\n", ["system", "upstream_error", "just text", true]],
  [named({ type: "system", severity: "fatal", message: "x", traceback: "…", recoverable: false }), ["system", "system", "x", false]],
  [named({ type: "business", severity: "error", message: "x", code: "INVALID_INPUT", recoverable: true }), ["business", "INVALID_INPUT", "x", true]],
  [named({ request_id: "q", error: "boom" }), ["system", "upstream_error", "boom", true]],
];

test("errors of vendors and apps are put in the same shape", async (t) => {
  for (const [text, expected] of VENDORS) {
    const { type, code, message, recoverable } = (await told(t, text)).last.error;
    assert.deepEqual([type, code, message, recoverable], expected, text);
  }
});

test("data that only looks like an error is data", async (t) => {
  for (const text of [
    unnamed({ choices: [{ delta: { content: '{"error": {"message": "x"}}' } }] }),
    unnamed({ error: null, text: "x" }),
    unnamed({ jsonrpc: "2.0", id: 1, error: { code: -32601, message: "Method not found" } }),
    `event: tool_result\n${unnamed({ error: { message: "no such file" } })}`,
    'data: {"error": not JSON\n\n',
  ]) {
    assert.ok(!["error", "reconnecting"].includes((await told(t, text)).last.type), text);
  }
});
