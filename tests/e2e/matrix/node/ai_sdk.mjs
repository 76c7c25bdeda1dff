// streamText of the AI SDK with one of its providers.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { streamText } from "ai";

import { caught, nothing } from "./seen.mjs";

function model({ base, fault, provider }) {
  const common = { baseURL: `${base}/v1`, apiKey: "sk-test", headers: { "x-test-fault": fault } };
  if (provider === "anthropic") return createAnthropic(common)("fake");
  return createOpenAICompatible({ ...common, name: "compatible", includeUsage: true })("fake");
}

export async function ask(wishes) {
  const seen = nothing();
  const result = streamText({ model: model(wishes), prompt: "Count.", maxRetries: 0, onError() {} });
  for await (const part of result.fullStream) {
    if (part.type === "text-delta") seen.text += part.text;
    else if (part.type === "error") caught(seen, part.error);
  }
  if (seen.error) return seen;
  if ((await result.text) !== seen.text) throw new Error("the accumulated text differs");
  seen.finish = await result.finishReason;
  seen.usage = (await result.usage).outputTokens;
  seen.kind = result.constructor.name;
  return seen;
}
