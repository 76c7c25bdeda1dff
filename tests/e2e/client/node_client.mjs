// The client in Node: plays one stream to its end and prints what was seen as JSON.
// Argument: wishes as in record.mjs.

import { openStream } from "../../../clients/js/streamkeeper.js";
import { play } from "./record.mjs";

const seen = await new Promise((resolve) => {
  play(openStream, JSON.parse(process.argv[2]), (now) => {
    if (["done", "error", "left"].includes(now.state)) resolve(now);
  });
});
// What the stream left behind keeps the process alive: the test that runs this has a deadline.
console.log(JSON.stringify(seen));
