"""Anthropic's Messages. Source: the vendor's API reference, "Streaming messages" and "Errors"."""

from __future__ import annotations

from .shape import PIECES, PROMPT_TOKENS, TEXT, Words, block


def event(kind: str, **fields: object) -> bytes:
    """An event whose name its data repeats."""
    return block({"type": kind, **fields}, kind)


def message(body: dict, content: list[dict], stop: str | None, made: int) -> dict:
    """The message object."""
    frame = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "content": content}
    usage = {"input_tokens": PROMPT_TOKENS, "output_tokens": made}
    return {**frame, "stop_reason": stop, "stop_sequence": None, "usage": usage}


class Anthropic:
    """`POST /v1/messages`."""

    name = "anthropic"

    def takes(self, path: str, headers: dict[str, str]) -> bool:
        return path.endswith("/messages")

    def streams(self, path: str, body: dict) -> bool:
        return body.get("stream") is True

    def words(self, body: dict) -> Words:
        opening = [
            event("message_start", message=message(body, [], None, 1)),
            event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
            event("ping"),
        ]
        deltas = [{"type": "text_delta", "text": piece} for piece in PIECES]
        pieces = [event("content_block_delta", index=0, delta=delta) for delta in deltas]
        stop = {"stop_reason": "end_turn", "stop_sequence": None}
        ending = [
            event("content_block_stop", index=0),
            event("message_delta", delta=stop, usage={"output_tokens": len(PIECES)}),
            event("message_stop"),
        ]
        return Words(opening, pieces, ending)

    def whole(self, body: dict) -> dict:
        return message(body, [{"type": "text", "text": TEXT}], "end_turn", len(PIECES))

    def error(self) -> list[bytes]:
        return [event("error", error={"type": "overloaded_error", "message": "Overloaded"})]

    def refusal(self, status: int) -> dict:
        kind = "rate_limit_error" if status == 429 else "api_error"
        return {"type": "error", "error": {"type": kind, "message": f"refused with {status}"}, "request_id": "req_1"}
