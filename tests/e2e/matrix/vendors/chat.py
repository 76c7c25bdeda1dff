"""OpenAI's chat completions. The mid-stream error is vLLM's: an error object, then `[DONE]` all the same.

Source: the vendor's API reference; vLLM's OpenAI-compatible server.
"""

from __future__ import annotations

import json

import openai_wire

from .shape import PIECES, Words, block

FORM = openai_wire.Form(chat=True)


class Chat:
    """`POST …/chat/completions`."""

    name = "chat"

    def takes(self, path: str, headers: dict[str, str]) -> bool:
        return path.endswith("/chat/completions")

    def streams(self, path: str, body: dict) -> bool:
        return body.get("stream") is True

    def words(self, body: dict) -> Words:
        ending = [block(data) for data in FORM.ending(body)]
        return Words([block(FORM.opening(body))], [block(FORM.token(body, piece)) for piece in PIECES], ending)

    def whole(self, body: dict) -> dict:
        return json.loads(FORM.whole({**body, "max_tokens": len(PIECES)}))

    def error(self) -> list[bytes]:
        return [block(openai_wire.error("CUDA out of memory").decode()), block("[DONE]")]

    def refusal(self, status: int) -> dict:
        kind, code = ("requests", "rate_limit_exceeded") if status == 429 else ("server_error", None)
        return {"error": {"message": f"refused with {status}", "type": kind, "param": None, "code": code}}
