// Responses by OpenAI's SDK.

import OpenAI from "openai";

import { caught, nothing } from "./seen.mjs";

function clientFor({ base, fault }) {
  const defaultHeaders = { "x-test-fault": fault };
  return new OpenAI({ baseURL: `${base}/v1`, apiKey: "sk-test", maxRetries: 0, defaultHeaders });
}

function ended(seen, final) {
  seen.finish = final.status;
  seen.usage = final.usage.output_tokens;
  seen.kind = final.object === "response" ? "Response" : final.object;
}

export async function ask(wishes) {
  const seen = nothing();
  try {
    const stream = clientFor(wishes).responses.stream({ model: "fake", input: "Count." });
    stream.on("response.output_text.delta", (event) => { seen.text += event.delta; });
    const final = await stream.finalResponse();
    if (final.output_text !== seen.text) throw new Error("the accumulated text differs");
    ended(seen, final);
  } catch (error) {
    caught(seen, error);
  }
  return seen;
}

// A background response, asked for again from where its stream broke.
export async function again(wishes) {
  const seen = nothing();
  const client = clientFor(wishes);
  let id, last, cut;
  const take = (event) => {
    last = event.sequence_number;
    id ??= event.response?.id;
    if (event.type === "response.output_text.delta") seen.text += event.delta;
    if (event.type === "response.completed") ended(seen, event.response);
  };
  try {
    for await (const event of await client.responses.create({
      model: "fake", input: "Count.", background: true, stream: true,
    })) take(event);
  } catch (error) {
    cut = error;
  }
  if (!cut) throw new Error("the connection was to break");
  for await (const event of await client.responses.retrieve(id, { stream: true, starting_after: last })) take(event);
  return seen;
}
