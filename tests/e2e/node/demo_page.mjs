// A person at the demo page: asks, watches, cuts the connection, and reads the
// whole answer. What the page shows goes to stdout as JSON, a picture to a file.
//
// Argument: { url, prompt, words: how many to wait for before the cut, picture }.

import { withPage } from "./chromium.mjs";

const wishes = JSON.parse(process.argv[2]);
const shown = await withPage(wishes.url, async (page) => {
  const text = (id) => page.locator(id).textContent();
  await page.locator("#prompt").fill(wishes.prompt);
  await page.locator("#pace").selectOption("40");
  await page.locator("#send").click();
  await page.waitForFunction(
    (words) => document.querySelector("#answer").textContent.split(/\s+/).length > words, wishes.words);
  await page.locator("#cut").click();
  const before = await text("#answer");
  await page.locator('#status[data-state="done"], #status[data-state="error"]').waitFor();
  await page.screenshot({ path: wishes.picture, fullPage: true });
  return {
    before,
    answer: await text("#answer"),
    state: await page.locator("#status").getAttribute("data-state"),
    cuts: Number(await text("#count-cuts")),
    replayed: Number(await text("#count-replayed")),
    session: await text("#count-session"),
    verified: await page.locator("#verified").isVisible(),
    violation: await page.locator("#violation").isVisible(),
  };
}, { viewport: { width: 1180, height: 900 } });
console.log(JSON.stringify(shown));
