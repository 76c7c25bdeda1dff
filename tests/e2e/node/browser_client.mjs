// A client that runs inside Chromium, on the app's own page.
//
// Argument: { page, call: "watch" | "post", with: [url, …], until: state, release?: { after, url } }.
// With `release` the app holds its answer until the client has seen `after`
// events: what a browser has received but not yet shown is lost with its
// connection, and a client that has shown nothing cannot ask for the rest.
// The page's record (`seen`) goes to stdout as JSON.

import { withPage } from "./chromium.mjs";

const wishes = JSON.parse(process.argv[2]);
const seen = await withPage(wishes.page, async (page) => {
  await page.waitForFunction(() => window.ready);
  await page.evaluate(({ call, args }) => { window[call](...args); }, { call: wishes.call, args: wishes.with });
  if (wishes.release) {
    const { after, url } = wishes.release;
    await page.waitForFunction((count) => window.seen.events.length >= count, after);
    await fetch(url, { method: "POST" });
  }
  const over = (state) => window.seen.state === state || window.seen.state.startsWith("failed");
  await page.waitForFunction(over, wishes.until);
  return page.evaluate(() => window.seen);
});
console.log(JSON.stringify(seen));
