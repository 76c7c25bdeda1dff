// The admin page: asks /api every two seconds and shows what it says. What comes from there is shown as text, never
// as markup. Elements stay where they are between two answers, so that focus and selection do, too.

const POLL = 2000;
const SLOWEST = 30000;
const TOKEN = "streamkeeper-admin-token";

const $ = (id) => document.getElementById(id);
let token = sessionStorage.getItem(TOKEN);
let wanted = "running";
let chosen = decodeURIComponent(location.hash.slice(1));
let failures = 0;
let timer;
let question = 0;

/** A request was turned away; `message` says why. */
class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.authorization = `Bearer ${token}`;
  const answer = await fetch(path, { ...options, headers, cache: "no-store", signal: AbortSignal.timeout(8000) });
  if (!answer.ok) throw new Refused(answer.status, (await answer.text()).trim());
  return answer.status === 204 ? null : answer.json();
}

// Small helpers of the view.

function set(node, text, tone) {
  if (node.textContent !== text) node.textContent = text;
  if (tone) node.dataset.tone = tone;
  else if (tone === "") delete node.dataset.tone;
}

function make(name, className, text) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function time(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1000) return `${ms} ms`;
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${(ms / 1000).toFixed(1)} s`;
  const two = (n) => String(n).padStart(2, "0");
  if (s < 3600) return `${Math.floor(s / 60)} m ${two(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${two(Math.floor(s / 60) % 60)} m`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

const TONES = { pending: "wait", live: "live", finished: "good", failed: "bad" };
const isRunning = (session) => session.state === "pending" || session.state === "live";
const clients = (session) => session.attached_elsewhere ? `${session.attached} + ${session.attached_elsewhere}` : `${session.attached}`;
/** What went wrong: for good, or with a try that was made up for. */
const trouble = (session) => session.error?.code ?? session.last_failure ?? "";

// Sessions.

const rows = new Map();

function row(id) {
  const tr = make("tr");
  const cell = (name, label) => {
    const td = make("td", name);
    if (label) td.dataset.label = label;
    return tr.appendChild(td);
  };
  const made = { tr, state: cell("state").appendChild(make("span", "badge")) };
  const session = cell("session");
  made.open = session.appendChild(make("button", "open", id.slice(0, 10)));
  made.open.title = id;
  made.open.setAttribute("aria-label", `Details of session ${id}`);
  made.open.addEventListener("click", () => choose(id));
  made.request = session.appendChild(make("small"));
  const route = cell("route");
  made.route = route.appendChild(make("span"));
  made.dialect = route.appendChild(make("small"));
  for (const [key, label] of [["age", "Age"], ["events", "Events"], ["clients", "Clients"]]) made[key] = cell("n", label);
  for (const [key, label] of [["head", "Head"], ["first", "First event"]]) made[key] = cell("n spare", label);
  made.trouble = cell("error", "Last error");
  made.error = made.trouble.appendChild(make("span"));
  made.tries = made.trouble.appendChild(make("small"));
  made.stop = cell("act").appendChild(make("button", "danger", "Stop"));
  made.stop.setAttribute("aria-label", `Stop session ${id}`);
  made.stop.addEventListener("click", () => confirmStop(id, made.stop));
  return made;
}

function showRow(made, session) {
  set(made.state, session.state, TONES[session.state]);
  set(made.request, session.request_id);
  set(made.route, session.route);
  set(made.dialect, session.dialect + (session.source === "live" ? "" : ` · ${session.source}`));
  set(made.age, time(session.age_ms));
  set(made.events, String(session.last_seq));
  set(made.clients, clients(session));
  set(made.head, time(session.stages.head_ms));
  set(made.first, time(session.stages.first_event_ms));
  set(made.error, trouble(session), session.error ? "bad" : "warn");
  set(made.tries, trouble(session) && !session.error ? `${session.tries} tries` : "");
  made.trouble.classList.toggle("well", !trouble(session));
  made.stop.hidden = !isRunning(session);
  made.tr.setAttribute("aria-current", String(session.session === chosen));
}

function showSessions({ sessions, totals, matching, draining, store }) {
  const body = $("rows");
  const ids = new Set(sessions.map((session) => session.session));
  for (const [id, made] of rows) {
    if (ids.has(id)) continue;
    if (made.tr.contains(document.activeElement)) $("sessions-title").focus();
    made.tr.remove();
    rows.delete(id);
  }
  sessions.forEach((session, index) => {
    const made = rows.get(session.session) ?? row(session.session);
    rows.set(session.session, made);
    showRow(made, session);
    if (body.children[index] !== made.tr) body.insertBefore(made.tr, body.children[index] ?? null);
  });
  $("none").hidden = sessions.length > 0;
  set($("none"), $("find").value ? "No such session here." : wanted ? `No ${wanted} session.` : "No session yet.");
  $("more").hidden = matching <= sessions.length;
  set($("more"), `The newest ${sessions.length} of ${matching}.`);

  set($("total-running"), String(totals.pending + totals.live));
  set($("total-attached"), String(totals.attached));
  set($("total-orphans"), String(totals.orphans));
  set($("total-failed"), String(totals.failed), totals.failed ? "bad" : "");
  set($("total-finished"), String(totals.finished));
  $("drain").hidden = false;
  set($("drain"), draining ? "draining" : "ready", draining ? "warn" : "good");
  $("store").hidden = false;
  const up = store.kind === "memory" || store.up;
  set($("store"), store.kind === "memory" ? "memory store" : up ? "redis up" : "redis down", up ? "good" : "bad");
}

// One session.

const KINDS = { stream: "", native_resume: " to resume", continuation: " to continue", fallback: " for the whole answer" };
const RESUMED = {
  replayed: "Client came back, missed events sent again", joined: "Client joined from the beginning",
  seen_whole: "Client came back, had seen all", gap: "Client came back, some events are gone",
};
const TOLD = {
  begun: () => ["Request accepted"],
  adopted: () => ["Answer turned out to be a stream"],
  try: (entry) => [`Asked ${entry.upstream} #${entry.endpoint}${KINDS[entry.kind] ?? ""}`, "info"],
  head: (entry) => [`Response head, status ${entry.status}`],
  first_event: () => ["First event", "live"],
  committed: () => ["Head released to clients", "live"],
  try_failed: (entry) => [`Try failed: ${entry.code}`, "warn"],
  client_came: (entry) => [`Client attached, ${entry.attached} here`],
  client_left: (entry) => [`Client left, ${entry.attached} here`],
  resumed: (entry) => [RESUMED[entry.result] ?? entry.result, "info"],
  gap: (entry) => [`Client told of a gap: ${entry.reason}`, "warn"],
  stopped: () => ["Stopped by an operator", "warn"],
  handed_over: () => ["Another replica took over", "info"],
  taken_over: () => ["Taken over from a replica that is gone", "info"],
  ended: (entry) => entry.code ? [`Ended: ${entry.code}`, "bad"] : ["Complete", "good"],
};

function facts(session) {
  const { upstream } = session;
  const last = upstream ? `${upstream.name} #${upstream.endpoint}, ${session.tries === 1 ? "1 try" : `${session.tries} tries`}` : "–";
  return [
    ["Route", session.route], ["Dialect", session.dialect], ["Request", session.request_id], ["Upstream", last],
    ["Read by", session.owner === "here" ? "this process" : session.owner === "elsewhere" ? "another replica" : "nobody"],
    ["Source", session.source],
    ["Clients", `${session.attached} here, ${session.attached_elsewhere} elsewhere`],
    ["Events", `${session.last_seq}${session.evicted ? `, ${session.evicted} evicted` : ""}`],
    ["Ring", `${(session.ring_bytes / 1024).toFixed(1)} KiB`],
    ["Age", time(session.age_ms)], ["Last event", `${time(session.idle_ms)} ago`],
    ["Error", session.error ? `${session.error.code} (${session.error.type}${session.error.recoverable ? ", recoverable" : ""})` : "–", session.error ? "bad" : ""],
    ["Last failed try", session.last_failure ?? "–", session.last_failure ? "warn" : ""],
  ];
}

function showDetail(session) {
  set($("detail-id"), session.session);
  set($("detail-state"), session.state, TONES[session.state]);
  set($("stage-head"), time(session.stages.head_ms));
  set($("stage-first"), time(session.stages.first_event_ms));
  set($("stage-committed"), time(session.stages.committed_ms));
  set($("stage-ended"), time(session.stages.ended_ms));
  const list = $("facts");
  for (const [index, [name, value, tone]] of facts(session).entries()) {
    if (list.children.length <= 2 * index) list.append(make("dt", "", name), make("dd"));
    set(list.children[2 * index + 1], value, tone ?? "");
  }
  const lines = session.timeline.map((entry) => [time(entry.at_ms), ...(TOLD[entry.what]?.(entry) ?? [entry.what])]);
  if (session.timeline_dropped) lines.splice(session.timeline_first, 0, ["", `${session.timeline_dropped} entries left out`, "gone"]);
  const line = $("timeline");
  lines.forEach(([at, text, tone], index) => {
    const li = line.children[index] ?? line.appendChild(make("li"));
    if (!li.firstChild) li.append(make("time"), make("span"));
    set(li.firstChild, at);
    set(li.lastChild, text);
    li.className = tone === "gone" ? "gone" : "";
    set(li, li.textContent, tone ?? "");
  });
  while (line.children.length > lines.length) line.lastChild.remove();
  $("stop").disabled = !isRunning(session);
  $("detail").hidden = false;
  $("work").dataset.open = "true";
}

function choose(id) {
  const before = chosen;
  chosen = id;
  history.replaceState(null, "", id ? `#${encodeURIComponent(id)}` : location.pathname);
  if (!id) {
    $("detail").hidden = true;
    $("work").dataset.open = "false";
    (rows.get(before)?.open ?? $("sessions-title")).focus();
  }
  for (const [row, made] of rows) made.tr.setAttribute("aria-current", String(row === id));
  if (id) tick().then(() => !$("detail").hidden && $("detail-title").focus());
}

// Stopping.

let stopping;
let saying;

function say(text) {
  set($("said"), text);
  clearTimeout(saying);
  saying = setTimeout(() => set($("said"), ""), 8000);
}

function confirmStop(id, opener) {
  stopping = { id, opener };
  set($("confirm-id"), id);
  $("confirm").showModal();
}

async function stop({ id }) {
  try {
    await ask(`/api/sessions/${encodeURIComponent(id)}`, { method: "DELETE", headers: { "x-streamkeeper": "1" } });
    say(`Session ${id.slice(0, 10)} was stopped.`);
  } catch (error) {
    say(`Session ${id.slice(0, 10)} was not stopped: ${error.message}`);
  }
  await tick();
}

// Upstreams, configuration, version.

const BREAKERS = { closed: "good", half_open: "warn", open: "bad" };

function showUpstreams({ upstreams }) {
  const parts = upstreams.map((upstream) => {
    const part = make("div");
    const title = part.appendChild(make("h3", "", upstream.name));
    title.append(make("small", "", `${upstream.retries_left} retries left`));
    const list = part.appendChild(make("ul"));
    for (const endpoint of upstream.endpoints) {
      const item = list.appendChild(make("li"));
      item.append(make("span", "", `#${endpoint.index}`));
      const badge = item.appendChild(make("span", "badge", endpoint.alive ? `breaker ${endpoint.state}` : "not alive"));
      badge.dataset.tone = endpoint.alive ? BREAKERS[endpoint.state] ?? "warn" : "bad";
      const order = endpoint.priority ? `, priority ${endpoint.priority}` : "";
      item.append(make("span", "", `${endpoint.in_flight} in flight, weight ${endpoint.weight}${order}`));
    }
    return part;
  });
  $("upstreams").replaceChildren(...parts);
}

/** `routes[0].timeouts.idle` → its table `routes[0]` and the rest. */
function parted(key) {
  const at = key.indexOf(".");
  return at < 0 ? ["", key] : [key.slice(0, at), key.slice(at + 1)];
}

async function showConfig() {
  const { config } = await ask("/api/config");
  const tables = new Map();
  for (const { key, value } of config) {
    const [table, rest] = parted(key);
    if (!tables.has(table)) tables.set(table, make("dl"));
    tables.get(table).append(make("dt", "", rest), make("dd", "", value));
  }
  const sections = [...tables].map(([table, list]) => {
    const section = make("section");
    section.append(make("h3", "", table), list);
    return section;
  });
  $("config").replaceChildren(...sections);
}

function showVersion({ version: number, commit, uptime_ms }) {
  set($("build"), commit ? `${number} · ${commit.slice(0, 12)}` : number);
  set($("uptime"), time(uptime_ms));
}

// Asking again and again.

async function refresh() {
  const query = new URLSearchParams({ state: wanted, find: $("find").value.trim() });
  const one = chosen ? ask(`/api/sessions/${encodeURIComponent(chosen)}`).catch((error) => error) : null;
  const mine = ++question;
  const [sessions, upstreams, build, detail] =
    await Promise.all([ask(`/api/sessions?${query}`), ask("/api/upstreams"), ask("/api/version"), one]);
  if (mine !== question) return; // Something else was asked meanwhile.
  $("gate").hidden = true;
  $("board").hidden = false;
  $("forget").hidden = !token;
  showVersion(build);
  showSessions(sessions);
  showUpstreams(upstreams);
  if (detail?.status === 404) {
    say(`Session ${chosen.slice(0, 10)} is no longer kept.`);
    choose("");
  } else if (detail?.session) showDetail(detail);
}

function closeGate(error) {
  $("board").hidden = true;
  const first = $("gate").hidden;
  $("gate").hidden = false;
  if (token) set($("gate-why"), "This token was refused.");
  token = null;
  sessionStorage.removeItem(TOKEN);
  set($("link"), "token needed", "warn");
  if (first) $("token").focus();
  if (error.status !== 401) set($("gate-why"), error.message);
}

async function tick() {
  clearTimeout(timer);
  if (document.hidden) return set($("link"), "paused", "idle");
  try {
    await refresh();
    failures = 0;
    set($("link"), "updating", "live");
  } catch (error) {
    if (error.status === 401) return closeGate(error);
    failures += 1;
    set($("link"), error.status ? error.message : "unreachable", "bad");
    $("link").title = String(error.message);
  }
  timer = setTimeout(tick, Math.min(POLL * 2 ** Math.min(failures, 5), SLOWEST));
}

for (const button of document.querySelectorAll(".switch button")) {
  button.addEventListener("click", () => {
    wanted = button.dataset.state;
    for (const other of document.querySelectorAll(".switch button")) other.setAttribute("aria-pressed", String(other === button));
    tick();
  });
}
let typing;
$("find").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(tick, 250);
});
$("close").addEventListener("click", () => choose(""));
$("detail").addEventListener("keydown", (event) => event.key === "Escape" && choose(""));
$("stop").addEventListener("click", () => confirmStop(chosen, $("stop")));
$("confirm-no").addEventListener("click", () => $("confirm").close());
$("confirm-yes").addEventListener("click", () => {
  $("confirm").close();
  stop(stopping);
});
$("config-toggle").addEventListener("click", async () => {
  const open = $("config").hidden;
  if (open) await showConfig();
  $("config").hidden = !open;
  $("config-toggle").setAttribute("aria-expanded", String(open));
  set($("config-toggle"), open ? "Hide" : "Show");
});
$("gate").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  $("token").value = "";
  sessionStorage.setItem(TOKEN, token);
  tick();
});
$("forget").addEventListener("click", () => {
  token = null;
  tick();
});
document.addEventListener("visibilitychange", tick);
tick();
