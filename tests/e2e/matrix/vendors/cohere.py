"""Cohere's chat, version 2. Source: the vendor's API reference ("Chat with Streaming") and its SDK's types."""

from __future__ import annotations

from .shape import PIECES, PROMPT_TOKENS, TEXT, Words, block

USAGE = {
    "billed_units": {"input_tokens": PROMPT_TOKENS, "output_tokens": len(PIECES)},
    "tokens": {"input_tokens": PROMPT_TOKENS, "output_tokens": len(PIECES)},
}


def event(kind: str, **fields: object) -> bytes:
    """An event whose name its data repeats."""
    return block({"type": kind, **fields}, kind)


class Cohere:
    """`POST /v2/chat`."""

    name = "cohere"

    def takes(self, path: str, headers: dict[str, str]) -> bool:
        return path.endswith("/v2/chat")

    def streams(self, path: str, body: dict) -> bool:
        return body.get("stream") is True

    def words(self, body: dict) -> Words:
        message = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        content = {"message": {"content": {"type": "text", "text": ""}}}
        opening = [
            event("message-start", id="co-1", delta={"message": message}),
            event("content-start", index=0, delta=content),
        ]
        deltas = [{"message": {"content": {"text": piece}}} for piece in PIECES]
        ending = [
            event("content-end", index=0),
            event("message-end", id="co-1", delta={"finish_reason": "COMPLETE", "usage": USAGE}),
        ]
        return Words(opening, [event("content-delta", index=0, delta=delta) for delta in deltas], ending)

    def whole(self, body: dict) -> dict:
        message = {"role": "assistant", "content": [{"type": "text", "text": TEXT}]}
        return {"id": "co-1", "message": message, "finish_reason": "COMPLETE", "usage": USAGE}

    def error(self) -> list[bytes]:
        return [event("message-end", id="co-1", delta={"finish_reason": "ERROR", "error": "generation failed"})]

    def refusal(self, status: int) -> dict:
        return {"id": "co-1", "message": f"refused with {status}"}
