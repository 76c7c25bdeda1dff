// The deterministic server of @copilotkit/aimock, which knows one question.
//
// Arguments: its port, and the answer.

import { LLMock } from "@copilotkit/aimock";

const [port, content] = process.argv.slice(2);
const mock = new LLMock({ port: Number(port), host: "127.0.0.1", chunkSize: 7 });
mock.onMessage("Count.", { content });
await mock.start();
