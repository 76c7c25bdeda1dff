// npm's `eventsource` on an app's own stream. Never closed from here: it ends
// when the proxy's 204 makes the client itself give up coming back.

import { EventSource } from "eventsource";

import { nothing } from "./seen.mjs";

export function ask({ base, fault, cut }) {
  const seen = nothing();
  const source = new EventSource(`${base}/events?fault=${encodeURIComponent(fault)}`);
  let opened = 0;
  return new Promise((resolve, reject) => {
    source.onopen = () => { opened += 1; };
    source.onmessage = (event) => { seen.text += event.data; };
    source.addEventListener("done", (event) => { seen.kind = event.constructor.name; });
    source.addEventListener("error", (event) => {
      if (event.data) {
        const said = JSON.parse(event.data);
        Object.assign(seen, { error: event.constructor.name, code: said.code });
      }
      if (source.readyState !== EventSource.CLOSED) return;
      if (cut && opened < 2) reject(new Error("the connection was to break"));
      else resolve(seen);
    });
  });
}
