// How the tests start a browser: Debian's Chromium, headless, driven over its
// own protocol, nothing downloaded.

import { chromium } from "playwright-core";

/** Opens a page, hands it to `use`, and closes the browser whatever happens. */
export async function withPage(url, use, options = {}) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    // Root has no user namespace to sandbox in; only this machine's pages are opened.
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
  });
  try {
    const page = await browser.newPage(options);
    page.setDefaultTimeout(30000);
    const complaints = [];
    page.on("pageerror", (error) => complaints.push(String(error)));
    await page.goto(url);
    return { ...(await use(page)), complaints };
  } finally {
    await browser.close();
  }
}
