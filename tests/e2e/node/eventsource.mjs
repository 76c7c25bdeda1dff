// npm's `eventsource` on one URL until the server tells it to stop.
//
// Argument: { url, names, release?: { after, url } }: with `release` the app
// holds its answer until `after` events were seen. The source is never closed from here: it ends when the
// client itself gives up coming back, which is what a 204 makes it do.

import { EventSource } from "eventsource";

const { url, names, release } = JSON.parse(process.argv[2]);
const seen = { events: [], errors: [], opened: 0 };
const source = new EventSource(url);
// The client does not keep the process alive while it waits to come back.
const alive = setInterval(() => {}, 1000);
const note = (name) => (event) => {
  seen.events.push({ name, id: event.lastEventId, data: event.data });
  if (seen.events.length === release?.after) fetch(release.url, { method: "POST" });
};

source.onopen = () => { seen.opened += 1; };
source.onmessage = note("message");
for (const name of names) source.addEventListener(name, note(name));
source.addEventListener("error", (event) => {
  seen.errors.push({ data: event.data ?? null, code: event.code ?? null });
  if (source.readyState !== EventSource.CLOSED) return;
  clearInterval(alive);
  console.log(JSON.stringify(seen));
});
