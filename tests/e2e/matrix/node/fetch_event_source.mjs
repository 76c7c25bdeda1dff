// Microsoft's fetch-event-source on chat completions. Written for pages: all it
// wants of one is `window`, and a document to stop listening to. In a browser it
// is tested beside the matrix.

import { fetchEventSource } from "@microsoft/fetch-event-source";

import { MESSAGES, nothing } from "./seen.mjs";

globalThis.window ??= globalThis;
globalThis.document ??= { hidden: false, addEventListener() {}, removeEventListener() {} };

// Its messages have no class; these are their fields.
const kindOf = (event) => (["id", "event", "data"].every((name) => name in event) ? "EventSourceMessage" : "?");
const BODY = { model: "fake", messages: MESSAGES, stream: true, stream_options: { include_usage: true } };

export async function ask({ base, fault, cut }) {
  const seen = nothing();
  let breaks = 0;
  await fetchEventSource(`${base}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-test-fault": fault },
    body: JSON.stringify(BODY),
    openWhenHidden: true,
    onmessage(event) {
      if (event.data === "[DONE]") {
        seen.kind = kindOf(event);
        return;
      }
      const data = JSON.parse(event.data);
      if (data.error) {
        Object.assign(seen, { error: kindOf(event), code: data.error.code });
        return;
      }
      seen.text += data.choices[0]?.delta?.content ?? "";
      seen.finish = data.choices[0]?.finish_reason ?? seen.finish;
      seen.usage = data.usage?.completion_tokens ?? seen.usage;
    },
    // Returning nothing has it come back, with the last id, after the time the server hinted.
    onerror(error) {
      breaks += 1;
      if (breaks > 1) throw error;
    },
  });
  if (cut && breaks !== 1) throw new Error(`${breaks} breaks instead of 1`);
  return seen;
}
