// An operator at the admin page: enters the token, looks at a session, stops
// another, reads the configuration, all by keyboard. What the page shows goes
// to stdout as JSON, pictures to a folder.
//
// Argument: { url, token, key, victim, kept, pictures }; victim and kept are
// session ids.

import { withPage } from "./chromium.mjs";

const wishes = JSON.parse(process.argv[2]);
const short = (id) => id.slice(0, 10);

const shown = await withPage(wishes.url, async (page) => {
  const told = { console: [], foreign: [], focus: {} };
  const text = (selector) => page.locator(selector).innerText();
  const texts = (selector) => page.locator(selector).allInnerTexts();
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.title);
  const picture = (name) => page.screenshot({ path: `${wishes.pictures}/admin-${name}.png`, fullPage: true });
  // Presses Tab until what `wanted` names has the focus.
  const tabTo = async (wanted) => {
    for (let presses = 0; presses < 200; presses += 1) {
      const label = await page.evaluate(() => document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent);
      if (label === wanted) return;
      await page.keyboard.press("Tab");
    }
    throw new Error(`no way to ${wanted} by keyboard`);
  };
  const row = (id) => page.locator("#rows tr", { has: page.locator(`[title="${id}"]`) });

  // The gate: a wrong token, then the right one.
  await page.locator("#gate").waitFor();
  await page.keyboard.type("not-the-token");
  await picture("gate");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("#gate-why").textContent.includes("refused"));
  told.refused = await text("#gate-why");
  await page.locator("#token").fill(wishes.token);
  await page.keyboard.press("Enter");
  await page.locator("#rows tr").first().waitFor();

  // From here on nothing may go wrong. The token outlives a reload.
  page.on("console", (message) => message.type() === "error" && told.console.push(message.text()));
  page.on("request", (request) => request.url().startsWith(wishes.url) || told.foreign.push(request.url()));
  await page.reload();
  await row(wishes.victim).waitFor();
  await page.waitForFunction(() => document.querySelectorAll("#rows tr").length >= 4);
  told.running = await texts("#rows .open");
  told.states = [...new Set(await texts("#rows .state"))].sort();

  // One session, opened and closed.
  await tabTo(`Details of session ${wishes.kept}`);
  await page.keyboard.press("Enter");
  await page.locator("#detail").waitFor();
  await page.waitForFunction(() => document.activeElement.id === "detail-title");
  told.focus.open = await focused();
  await page.waitForFunction(() => document.querySelectorAll("#timeline li").length > 5);
  const fact = (name) => page.locator(`#facts dt:text-is("${name}") + dd`).innerText();
  told.kept = { clients: await fact("Clients"), timeline: await text("#timeline") };
  await page.locator('.switch [data-state=""]').click();
  await page.waitForFunction(() => document.querySelectorAll("#rows tr").length >= 6);
  told.errors = await texts("#rows .error");
  await picture("wide");
  await page.emulateMedia({ colorScheme: "dark" });
  await picture("dark");
  await page.emulateMedia({ colorScheme: "light" });

  // A phone: nothing sticks out to the side.
  await page.setViewportSize({ width: 390, height: 844 });
  await picture("phone");
  told.overflow = await page.evaluate(() =>
    [...document.querySelectorAll("body *")]
      .filter((node) => node.getBoundingClientRect().right > innerWidth + 1 && !node.closest("thead, .timeline"))
      .map((node) => node.outerHTML.slice(0, 80)));
  await page.setViewportSize({ width: 1360, height: 900 });

  await page.locator("#detail-title").focus();
  await page.keyboard.press("Escape");
  await page.locator("#detail").waitFor({ state: "hidden" });
  told.focus.closed = await focused();
  await page.locator('.switch [data-state="running"]').click();

  // Another one is stopped, after a second thought.
  await page.locator("#sessions-title").focus();
  await tabTo(`Stop session ${wishes.victim}`);
  await page.keyboard.press("Enter");
  await page.locator("#confirm[open]").waitFor();
  told.focus.dialog = await focused();
  await page.screenshot({ path: `${wishes.pictures}/admin-confirm.png` });
  await page.keyboard.press("Escape");
  await page.locator("#confirm").waitFor({ state: "hidden" });
  await tabTo(`Stop session ${wishes.victim}`);
  await page.keyboard.press("Enter");
  await tabTo("Stop it");
  await page.keyboard.press("Enter");
  await row(wishes.victim).waitFor({ state: "detached" });
  told.said = await text("#said");
  told.left = await texts("#rows .open");

  await page.locator("#config-toggle").focus();
  await page.keyboard.press("Enter");
  await page.locator("#config dl").first().waitFor();
  told.config = await text("#config");
  await picture("config");
  told.text = await page.content();
  return told;
}, { viewport: { width: 1360, height: 900 } });
console.log(JSON.stringify(shown));
