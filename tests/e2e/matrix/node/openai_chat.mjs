// Chat completions by OpenAI's SDK, the current one or an old one.

import OpenAI from "openai";
import OldOpenAI from "openai-4-20";

import { MESSAGES, caught, nothing } from "./seen.mjs";

export async function ask({ base, fault, old }) {
  const seen = nothing();
  const Client = old ? OldOpenAI : OpenAI;
  const client = new Client({
    baseURL: `${base}/v1`, apiKey: "sk-test", maxRetries: 0, defaultHeaders: { "x-test-fault": fault },
  });
  const wishes = { model: "fake", messages: MESSAGES, stream: true, stream_options: { include_usage: true } };
  try {
    await (old ? chunks(client, wishes, seen) : accumulated(client, wishes, seen));
  } catch (error) {
    caught(seen, error);
  }
  return seen;
}

async function accumulated(client, wishes, seen) {
  const stream = client.chat.completions.stream(wishes);
  stream.on("content", (piece) => { seen.text += piece; });
  const final = await stream.finalChatCompletion();
  if (final.choices[0].message.content !== seen.text) throw new Error("the accumulated text differs");
  seen.finish = final.choices[0].finish_reason;
  seen.usage = final.usage.completion_tokens;
  // Its objects have no class; they say what they are.
  seen.kind = final.object === "chat.completion" ? "ChatCompletion" : final.object;
}

async function chunks(client, wishes, seen) {
  for await (const chunk of await client.chat.completions.create(wishes)) {
    seen.text += chunk.choices[0]?.delta?.content ?? "";
    seen.finish = chunk.choices[0]?.finish_reason ?? seen.finish;
    seen.usage = chunk.usage?.completion_tokens ?? seen.usage;
    if (seen.finish) seen.kind = chunk.object === "chat.completion.chunk" ? "ChatCompletionChunk" : chunk.object;
  }
}
