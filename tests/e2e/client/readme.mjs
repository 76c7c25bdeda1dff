// The examples of clients/js/README.md, taken from it as they stand and run in Chromium: plain JS, and React in
// StrictMode.
//
// Argument: { base, which: "plain" | "react", url, options (react), then: POSTed once something is shown, picture }.
// Only the address and the question of the plain example are exchanged for those of the test's app.
// Prints { text, status }.

import { readFile } from "node:fs/promises";

import { withPage } from "../node/chromium.mjs";

const { base, which, url, options, then, picture } = JSON.parse(process.argv[2]);
const read = (path) => readFile(new URL(path, import.meta.url), "utf8");
const readme = await read("../../../clients/js/README.md");
const example = (language, holds) =>
  [...readme.matchAll(/```(\w+)\n(.*?)```/gs)].find(([, name, code]) => name === language && code.includes(holds))[2];

// React comes as CommonJS; this is as much of a bundler as it needs.
const REACT = { react: "react/cjs/react", scheduler: "scheduler/cjs/scheduler", "react-dom": "react-dom/cjs/react-dom",
  "react-dom/client": "react-dom/cjs/react-dom-client" };
async function bundled() {
  const modules = await Promise.all(Object.entries(REACT).map(async ([name, path]) =>
    `${JSON.stringify(name)}: (module, exports) => {${await read(`../node_modules/${path}.development.js`)}\n}`));
  return `const process = { env: {} }, made = {}, all = {${modules.join(",\n")}};
    function require(name) {
      if (!made[name]) { made[name] = { exports: {} }; all[name](made[name], made[name].exports); }
      return made[name].exports;
    }
    export const { createElement, StrictMode, useEffect, useRef, useState } = require("react");
    export const { createRoot } = require("react-dom/client");`;
}

const PAGES = {
  plain: () => `<!doctype html><link rel="icon" href="data:,">${example("html", "openStream(")
    .replace('"/chat", { body: { message: "Hello" } }', `${JSON.stringify(url)}, ${JSON.stringify(options)}`)}`,
  react: () => `<!doctype html><link rel="icon" href="data:,"><div id="root"></div>
    <script type="importmap">{ "imports": { "react": "/client-test/react.js" } }</script>
    <script type="module">
      import { createElement, createRoot, StrictMode } from "react";
      import { useStream } from "/client-test/hook.js";
      function Answer() {
        const { text, state } = useStream(${JSON.stringify(url)}, ${JSON.stringify(options)});
        return [createElement("p", { id: "answer", key: 1 }, text), createElement("p", { id: "status", key: 2 }, state)];
      }
      createRoot(document.getElementById("root")).render(createElement(StrictMode, null, createElement(Answer)));
    </script>`,
};
const FILES = {
  "client-test/page": [PAGES[which], "text/html"],
  "client-test/react.js": [bundled, "text/javascript"],
  "client-test/hook.js": [() => example("jsx", "export function useStream"), "text/javascript"],
};

const shown = await withPage("about:blank", async (page) => {
  for (const [path, [body, type]] of Object.entries(FILES)) {
    const contentType = `${type}; charset=utf-8`;
    await page.route(`${base}/${path}`, async (route) => route.fulfill({ body: await body(), contentType }));
  }
  await page.goto(`${base}/client-test/page`);
  await page.waitForFunction(() => document.getElementById("answer")?.textContent.length > 0);
  await fetch(then, { method: "POST" });
  await page.waitForFunction(() => /^done$/i.test(document.getElementById("status").textContent));
  await page.screenshot({ path: picture });
  return { text: await page.locator("#answer").textContent(), status: await page.locator("#status").textContent() };
}, { viewport: { width: 700, height: 300 } });
console.log(JSON.stringify(shown));
