// What a client's caller has in the end, in the same form as the Python side's Seen.

export const MESSAGES = [{ role: "user", content: "Count." }];

export function nothing() {
  return { text: "", finish: null, usage: null, kind: null, error: null, code: null };
}

// Keeps what an SDK raised, or handed over as an error; the standard error's
// code is looked for in all that it says.
export function caught(seen, error) {
  seen.error = error?.constructor?.name ?? typeof error;
  const said = [error?.message, error?.code, JSON.stringify(error?.error), JSON.stringify(error?.data)].join(" ");
  seen.code = said.match(/upstream_(?!code|type)[a-z]+/)?.[0] ?? null;
}
