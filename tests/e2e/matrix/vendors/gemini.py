"""Google's Gemini. Source: the vendor's API reference ("GenerateContentResponse") and `google.rpc`'s error model."""

from __future__ import annotations

from .shape import PIECES, PROMPT_TOKENS, TEXT, Words, block


class Gemini:
    """`POST …:streamGenerateContent?alt=sse` and `…:generateContent`."""

    name = "gemini"

    def takes(self, path: str, headers: dict[str, str]) -> bool:
        return path.endswith(("GenerateContent", ":generateContent"))

    def streams(self, path: str, body: dict) -> bool:
        return path.endswith(":streamGenerateContent")

    def _answer(self, text: str, made: int, finish: str | None = None) -> dict:
        candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
        if finish:
            candidate["finishReason"] = finish
        usage = {
            "promptTokenCount": PROMPT_TOKENS,
            "candidatesTokenCount": made,
            "totalTokenCount": PROMPT_TOKENS + made,
        }
        named = {"modelVersion": "gemini-fake", "responseId": "gem-1"}
        return {"candidates": [candidate], "usageMetadata": usage, **named}

    def words(self, body: dict) -> Words:
        *pieces, last = [self._answer(piece, made) for made, piece in enumerate(PIECES, 1)]
        last["candidates"][0]["finishReason"] = "STOP"
        return Words([], [block(piece) for piece in pieces], [block(last)])

    def whole(self, body: dict) -> dict:
        return self._answer(TEXT, len(PIECES), "STOP")

    def error(self) -> list[bytes]:
        return [block(self.refusal(503))]

    def refusal(self, status: int) -> dict:
        named = {429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}.get(status, "INTERNAL")
        return {"error": {"code": status, "message": f"refused with {status}", "status": named}}
