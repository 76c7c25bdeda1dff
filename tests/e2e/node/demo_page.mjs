// A person at the demo page: asks, watches, cuts the connection, and reads the
// whole answer. What the page shows goes to stdout as JSON, pictures to files.
//
// Argument: { url, prompt, words: how many to wait for before the cut, pictures: { wide, dark, phone } }.

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
  const fits = async () => page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth);
  const picture = async (path) => { await page.screenshot({ path, fullPage: true }); return fits(); };
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await background();
  const fit = [await picture(wishes.pictures.wide)];
  await page.emulateMedia({ colorScheme: "dark" });
  const dark = await background();
  fit.push(await picture(wishes.pictures.dark));
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 390, height: 844 });
  fit.push(await picture(wishes.pictures.phone));
  return {
    before, light, dark, fit,
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
