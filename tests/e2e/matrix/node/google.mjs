// A content stream by Google's SDK.

import { GoogleGenAI } from "@google/genai";

import { caught, nothing } from "./seen.mjs";

export async function ask({ base, fault }) {
  const seen = nothing();
  const client = new GoogleGenAI({
    apiKey: "test",
    vertexai: false,
    // The version that aimock knows, too.
    httpOptions: { baseUrl: base, apiVersion: "v1beta", headers: { "x-test-fault": fault } },
  });
  try {
    let last;
    for await (last of await client.models.generateContentStream({ model: "gemini-fake", contents: "Count." })) {
      seen.text += last.text ?? "";
    }
    seen.finish = last.candidates[0].finishReason ?? null;
    seen.usage = last.usageMetadata.candidatesTokenCount;
    seen.kind = last.constructor.name;
  } catch (error) {
    caught(seen, error);
  }
  return seen;
}
