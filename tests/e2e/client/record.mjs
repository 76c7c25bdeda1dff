// Plays one stream as a test wants it and writes down what a user would have seen. Runs in Node and in the page.
//
// `wishes`: { url, options, names: further event names, leave?: { after, how: "stop" | "disconnect" },
// release?: { after, path } }: after so many events the user leaves, or the server is told to go on.

/** The text that an event adds to the answer: an OpenAI delta, or the data itself. */
export function textOf({ type, data }) {
  if (type !== "message") return "";
  if (!data.startsWith('{"')) return data;
  return JSON.parse(data).choices?.[0]?.delta?.content ?? "";
}

/** Starts with the client's `openStream`; `seen` grows, `changed(seen)` is called whenever it has. */
export function play(openStream, wishes, changed) {
  const stream = openStream(wishes.url, wishes.options);
  const seen = {
    state: "connecting", text: "", events: [], opened: [], reconnecting: [], gaps: [], log: [],
    error: null, done: null, session: "", lastEventId: "", stopped: null,
  };
  const told = ({ name, type, code, severity, message, recoverable, status = null, requestId = null }) =>
    ({ name, type, code, severity, message, recoverable, status, requestId });
  const note = (state, act) => (event) => {
    act(event);
    Object.assign(seen, { state: state ?? seen.state, session: stream.session, lastEventId: stream.lastEventId });
    changed(seen);
  };
  const take = note("open", (event) => {
    seen.events.push({ name: event.type, id: event.lastEventId, data: event.data });
    seen.text += textOf(event);
    const { leave, release } = wishes;
    if (release?.after === seen.events.length) fetch(new URL(release.path, wishes.url), { method: "POST" });
    if (leave?.after === seen.events.length) leaveBy(leave.how);
  });
  async function leaveBy(how) {
    seen.stopped = (await stream[how]()) ?? null;
    note("left", () => {})();
  }
  stream.addEventListener("open", note("open", ({ session, source }) => {
    seen.opened.push({ session, source });
    seen.log.push(`opened: ${source ?? "no proxy"}`);
  }));
  stream.addEventListener("reconnecting", note("reconnecting", ({ attempt, delay, error }) => {
    seen.reconnecting.push({ attempt, delay, error: told(error) });
    seen.log.push(`reconnecting (${attempt}) in ${delay} ms: ${error.message}`);
  }));
  stream.addEventListener("gap", note(null, ({ from, to, reason }) => {
    seen.gaps.push({ from, to, reason, after: seen.events.length });
    seen.log.push(`gap ${from}–${to}: ${reason}`);
  }));
  stream.addEventListener("error", note("error", ({ error }) => { seen.error = told(error); }));
  stream.addEventListener("done", note("done", ({ data }) => { seen.done = data; }));
  for (const name of ["message", ...(wishes.names ?? [])]) stream.addEventListener(name, take);
  if (wishes.leave?.after === 0) leaveBy(wishes.leave.how);
  return { stream, seen };
}
