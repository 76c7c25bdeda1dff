// Runs the clients' scripts: one wish per line of stdin, one answer per line of stdout.
//
// A wish names a script beside this one and a function of it; what that returns
// is the answer, what it throws is { failed }. Wishes are served one at a time.

import { createInterface } from "node:readline";

for await (const line of createInterface({ input: process.stdin })) {
  const { script, call, ...wishes } = JSON.parse(line);
  let answer;
  try {
    const module = await import(`./${script}.mjs`);
    answer = await module[call](wishes);
  } catch (error) {
    answer = { failed: String(error?.stack ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
