"""Mistral's chat: OpenAI's chunks with habits of its own.

No `stream_options`: the usage comes with the last chunk, unasked. Errors are
flat objects called `error`. Source: the vendor's API reference and the models
of its Python SDK.
"""

from __future__ import annotations

from .shape import PIECES, PROMPT_TOKENS, TEXT, Words, block

USAGE = {
    "prompt_tokens": PROMPT_TOKENS,
    "completion_tokens": len(PIECES),
    "total_tokens": PROMPT_TOKENS + len(PIECES),
}


class Mistral:
    """`POST /v1/chat/completions`, asked by Mistral's own SDK."""

    name = "mistral"

    def takes(self, path: str, headers: dict[str, str]) -> bool:
        return path.endswith("/chat/completions") and "mistral" in headers.get("user-agent", "")

    def streams(self, path: str, body: dict) -> bool:
        return body.get("stream") is True

    def _frame(self, body: dict, kind: str, choice: dict, **more: object) -> dict:
        frame = {"id": "mist-1", "object": kind, "created": 1700000000, "model": body["model"]}
        return {**frame, "choices": [{"index": 0, **choice}], **more}

    def _chunk(self, body: dict, delta: dict, finish: str | None = None, **more: object) -> bytes:
        return block(self._frame(body, "chat.completion.chunk", {"delta": delta, "finish_reason": finish}, **more))

    def words(self, body: dict) -> Words:
        pieces = [self._chunk(body, {"content": piece}) for piece in PIECES]
        ending = [self._chunk(body, {"content": ""}, "stop", usage=USAGE), block("[DONE]")]
        return Words([self._chunk(body, {"role": "assistant", "content": ""})], pieces, ending)

    def whole(self, body: dict) -> dict:
        message = {"role": "assistant", "content": TEXT, "tool_calls": None, "prefix": False}
        return self._frame(body, "chat.completion", {"message": message, "finish_reason": "stop"}, usage=USAGE)

    def error(self) -> list[bytes]:
        return [block(self._object("internal_server_error", "3000"))]

    def refusal(self, status: int) -> dict:
        return self._object("rate_limited", "1300") if status == 429 else self._object("internal_server_error", "3000")

    def _object(self, kind: str, code: str) -> dict:
        said = "Service tier capacity exceeded for this model."
        return {"object": "error", "message": said, "type": kind, "param": None, "code": code}
