// The client in Chromium, on a page of this folder that is put under the origin of the stream.
//
// Argument: { base, picture, wishes (as in record.mjs),
//   reload?: { before: wishes of a first page, reloaded once it has shown so many `events`; POSTing to `then` makes the
//     server go on once the second page is connected },
//   offline?: { after, cut: after so many events the network goes, and POSTing to `cut` makes the server go on; the
//     network comes back when a reconnect was announced } }.
// Prints { seen, shown: the text on the page, saved: what is left for another reload, first?: the first page's record }.

import { readFile } from "node:fs/promises";

import { withPage } from "../node/chromium.mjs";

const FILES = { "page.html": "text/html", "record.mjs": "text/javascript", "streamkeeper.js": "text/javascript" };

async function serve(route) {
  const name = new URL(route.request().url()).pathname.split("/").at(-1);
  const folder = name === "streamkeeper.js" ? "../../../clients/js/" : "./";
  const body = await readFile(new URL(folder + name, import.meta.url), "utf8");
  return route.fulfill({ body, contentType: FILES[name] });
}

const { base, picture, wishes, reload, offline } = JSON.parse(process.argv[2]);
const state = (page, ...states) => page.waitForFunction((wanted) => wanted.includes(window.playing?.seen.state), states);

async function open(page) {
  await page.goto(`${base}/client-test/page.html`);
  await page.waitForFunction(() => window.ready);
}

async function reloaded(page) {
  await page.evaluate((all) => window.start(all), reload.before);
  await page.waitForFunction((count) => window.playing.seen.events.length >= count, reload.events);
  const seen = await page.evaluate(() => window.playing.seen);
  await page.screenshot({ path: picture.replace(".png", "-before.png") });
  await page.reload();
  await page.waitForFunction(() => window.ready);
  return seen;
}

const result = await withPage("about:blank", async (page) => {
  await page.route("**/client-test/*", serve);
  await open(page);
  const first = reload && await reloaded(page);
  await page.evaluate((all) => window.start(all), wishes);
  if (reload) {
    await page.waitForFunction(() => window.playing.seen.opened.length > 0);
    await fetch(reload.then, { method: "POST" });
  }
  if (offline) {
    await page.waitForFunction((count) => window.playing.seen.events.length >= count, offline.after);
    await page.context().setOffline(true);
    await fetch(offline.cut, { method: "POST" });
    await state(page, "reconnecting");
    await page.screenshot({ path: picture.replace(".png", "-offline.png") });
    await page.context().setOffline(false);
  }
  await state(page, "done", "error", "left");
  await page.screenshot({ path: picture });
  return {
    seen: await page.evaluate(() => window.playing.seen),
    shown: await page.locator("#text").textContent(),
    saved: await page.evaluate((key) => window.saved(key), wishes.options?.resumeKey ?? "none"),
    first,
  };
}, { viewport: { width: 900, height: 620 } });
console.log(JSON.stringify(result));
