// One streamed completion by the official SDK; what it saw goes to stdout as JSON.
//
// Argument: { base, fault, legacy, usage, retries, words }.

import OpenAI from "openai";

const wishes = JSON.parse(process.argv[2]);
const client = new OpenAI({
  baseURL: `${wishes.base}/v1`,
  apiKey: "sk-test",
  maxRetries: wishes.retries ?? 0,
  defaultHeaders: { "x-test-fault": wishes.fault ?? "ok" },
});
const seen = { text: "", chunks: 0, finish: null, usage: null, error: null };

// An error as the person who calls the SDK can tell it from others.
function described(error) {
  const known = ["APIError", "APIConnectionError", "APIUserAbortError", "BadRequestError", "AuthenticationError",
    "RateLimitError", "InternalServerError"];
  return {
    classes: known.filter((name) => OpenAI[name] && error instanceof OpenAI[name]),
    status: error.status ?? null,
    code: error.code ?? null,
    type: error.type ?? null,
    message: String(error.message),
    retry_after: error.headers?.get?.("retry-after") ?? null,
  };
}

try {
  const common = { model: "fake", stream: true, max_tokens: wishes.words ?? 12 };
  if (wishes.usage) common.stream_options = { include_usage: true };
  const stream = wishes.legacy
    ? await client.completions.create({ ...common, prompt: "Count." })
    : await client.chat.completions.create({ ...common, messages: [{ role: "user", content: "Count." }] });
  for await (const chunk of stream) {
    seen.chunks += 1;
    const choice = chunk.choices[0];
    seen.text += choice?.delta?.content ?? choice?.text ?? "";
    seen.finish = choice?.finish_reason ?? seen.finish;
    seen.usage = chunk.usage ?? seen.usage;
  }
} catch (error) {
  seen.error = described(error);
}
console.log(JSON.stringify(seen));
