// A client that runs inside Chromium, on the app's own page.
//
// Argument: { page, call: "watch" | "post", with: [url, …], until: state }.
// The page's record (`seen`) goes to stdout as JSON.

import { withPage } from "./chromium.mjs";

const wishes = JSON.parse(process.argv[2]);
const seen = await withPage(wishes.page, async (page) => {
  await page.waitForFunction(() => window.ready);
  await page.evaluate(({ call, args }) => { window[call](...args); }, { call: wishes.call, args: wishes.with });
  const over = (state) => window.seen.state === state || window.seen.state.startsWith("failed");
  await page.waitForFunction(over, wishes.until);
  return page.evaluate(() => window.seen);
});
console.log(JSON.stringify(seen));
