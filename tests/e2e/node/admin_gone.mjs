// The admin page while its process goes away. Argument: { url, gone: a file
// that is made once the page is up; whoever waits for it ends the process }.

import { writeFileSync } from "node:fs";

import { withPage } from "./chromium.mjs";

const wishes = JSON.parse(process.argv[2]);
const shown = await withPage(wishes.url, async (page) => {
  const link = () => page.locator("#link").innerText();
  await page.waitForFunction(() => document.querySelector("#link").textContent === "updating");
  const before = await link();
  // In a tab that nobody sees it asks for nothing.
  const hide = (hidden) => page.evaluate((hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  await hide(true);
  const paused = await link();
  let asked = 0;
  const count = () => (asked += 1);
  page.on("request", count);
  await new Promise((resolve) => setTimeout(resolve, 3000));
  page.off("request", count);
  await hide(false);
  await page.waitForFunction(() => document.querySelector("#link").textContent === "updating");
  const failed = [];
  page.on("requestfailed", (request) => request.url().includes("/api/sessions") && failed.push(Date.now()));
  writeFileSync(wishes.gone, "");
  await page.waitForFunction(() => document.querySelector("#link").textContent === "unreachable");
  while (failed.length < 3) await new Promise((resolve) => setTimeout(resolve, 50));
  return { before, paused, asked, after: await link(), waits: [failed[1] - failed[0], failed[2] - failed[1]] };
});
console.log(JSON.stringify(shown));
