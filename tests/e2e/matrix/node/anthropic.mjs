// Messages by Anthropic's SDK.

import Anthropic from "@anthropic-ai/sdk";

import { MESSAGES, caught, nothing } from "./seen.mjs";

export async function ask({ base, fault }) {
  const seen = nothing();
  const defaultHeaders = { "x-test-fault": fault };
  const client = new Anthropic({ baseURL: base, apiKey: "sk-test", maxRetries: 0, defaultHeaders });
  try {
    const stream = client.messages.stream({ model: "fake", max_tokens: 100, messages: MESSAGES });
    stream.on("text", (piece) => { seen.text += piece; });
    const final = await stream.finalMessage();
    const text = final.content.map((block) => block.text).join("");
    if (text !== seen.text) throw new Error("the accumulated text differs");
    seen.finish = final.stop_reason;
    seen.usage = final.usage.output_tokens;
    seen.kind = final.type === "message" ? "Message" : final.type;
  } catch (error) {
    caught(seen, error);
  }
  return seen;
}
