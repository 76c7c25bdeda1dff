// The parser of event streams against the letter of WHATWG HTML 9.2.6.

import assert from "node:assert/strict";
import { test } from "node:test";

import { EventParser } from "../../../clients/js/streamkeeper.js";

function parse(...pieces) {
  const parser = new EventParser();
  const events = pieces.flatMap((piece) => parser.push(piece));
  return { events: events.map(({ type, data, lastEventId }) => [type, data, lastEventId]), parser };
}

const datas = (text) => parse(text).events.map(([, data]) => data);

const EVERYTHING = [
  ": a comment", "event: greeting", "data: one", "data:two", "data", "id: 7", "retry: 250", "",
  "data:  kept blank", "", "data", "", "unknown: x", "data: a:b", "",
];
const UNDERSTOOD = [["greeting", "one\ntwo\n", "7"], ["message", " kept blank", "7"], ["message", "", "7"], ["message", "a:b", "7"]];

test("all fields are read, and the last id holds until another comes", () => {
  const { events, parser } = parse(EVERYTHING.join("\n") + "\n");
  assert.deepEqual(events, UNDERSTOOD);
  assert.equal(parser.retry, 250);
});

test("lines end in LF, CR or CRLF, also mixed", () => {
  for (const end of ["\n", "\r", "\r\n"]) assert.deepEqual(parse(EVERYTHING.join(end) + end).events, UNDERSTOOD, JSON.stringify(end));
  assert.deepEqual(datas("data: a\r\n\rdata: b\n\r\ndata: c\r\r"), ["a", "b", "c"]);
});

test("it makes no difference where the text is cut", () => {
  for (const end of ["\n", "\r", "\r\n"]) {
    const text = EVERYTHING.join(end) + end;
    assert.deepEqual(parse(...text).events, UNDERSTOOD, "letter by letter");
    for (let at = 0; at <= text.length; at += 1) {
      assert.deepEqual(parse(text.slice(0, at), "", text.slice(at)).events, UNDERSTOOD, `${JSON.stringify(end)} at ${at}`);
    }
  }
});

test("an event without its blank line is dropped, and so is its id", () => {
  const { events, parser } = parse("data: whole\nid: 1\n\ndata: half\nid: 2\n");
  assert.deepEqual(events, [["message", "whole", "1"]]);
  assert.equal(parser.lastEventId, "1");
});

test("a block without data is no event, but its id counts", () => {
  const { events, parser } = parse("event: nothing\nid: 9\n\ndata: x\n\n");
  assert.deepEqual(events, [["message", "x", "9"]]);
  assert.equal(parser.lastEventId, "9");
});

test("an id with NUL is ignored, an empty one resets", () => {
  assert.deepEqual(parse("id: 1\ndata: a\n\nid: 2\0\ndata: b\n\nid\ndata: c\n\n").events,
    [["message", "a", "1"], ["message", "b", "1"], ["message", "c", ""]]);
});

test("retry is digits only", () => {
  for (const value of ["+10", "-1", "1.5", "1e3", "", "ten", "１０"]) assert.equal(parse(`retry: ${value}\n`).parser.retry, undefined, value);
  assert.equal(parse("retry:10\n").parser.retry, 10);
});

test("field names are exact: no blanks around them, no other case", () => {
  assert.deepEqual(datas(" data: a\n\nData: b\n\ndata : c\n\n"), []);
});
