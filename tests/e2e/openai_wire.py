"""What an OpenAI-compatible server writes: chunks, whole answers, errors.

Two forms of the same answer, chat and legacy completions, as text. No socket
and no SDK in here. Shapes: the vendor's API reference for chat completions and
completions.
"""

from __future__ import annotations

import json

ANSWER_WORDS = 12
SAMPLES = ["alpha", "größe", "日本", "😀", 'quo"te', "back\\slash", "line\nbreak"]


def tokens(body: dict) -> list[str]:
    """The answer's pieces; `max_tokens` sets their number. Depends on nothing else."""
    count = body.get("max_tokens") or body.get("max_completion_tokens") or ANSWER_WORDS
    return [f"{number}:{SAMPLES[number % len(SAMPLES)]} " for number in range(count)]


def text(count: int = ANSWER_WORDS) -> str:
    """The whole answer of `count` pieces."""
    return "".join(tokens({"max_tokens": count}))


def usage(body: dict) -> dict[str, int]:
    """Token counts as the vendor reports them."""
    made = len(tokens(body))
    return {"prompt_tokens": 7, "completion_tokens": made, "total_tokens": 7 + made}


def error(message: str, kind: str = "server_error", code: str | None = None) -> bytes:
    """The vendor's error body."""
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


def refusal(status: str) -> tuple[str, bytes, dict[str, str]]:
    """Status line, body and further headers of a refused request."""
    known = {
        "400": ("Bad Request", "invalid_request_error", "context_length_exceeded"),
        "401": ("Unauthorized", "invalid_request_error", "invalid_api_key"),
        "429": ("Too Many Requests", "rate_limit_error", "rate_limit_exceeded"),
        "500": ("Internal Server Error", "server_error", None),
        "503": ("Service Unavailable", "server_error", None),
        "529": ("Overloaded", "overloaded_error", None),
    }
    reason, kind, code = known[status]
    headers = {"Retry_After": "1"} if status == "429" else {}
    return f"{status} {reason}", error(f"refused with {status}", kind, code), headers


class Form:
    """One of the two wires; the difference is only in how a choice looks."""

    def __init__(self, chat: bool) -> None:
        self.chat = chat

    def chunk(self, body: dict, choices: list[dict], **more: object) -> str:
        """One event's data."""
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        frame = {"id": "cmpl-1", "object": kind, "created": 1700000000, "model": body.get("model", "fake")}
        return json.dumps({**frame, "choices": choices, **more}, ensure_ascii=False)

    def choice(self, piece: str | None, finish: str | None) -> dict:
        """A choice of a streamed chunk."""
        if self.chat:
            delta = {} if piece is None else {"content": piece}
            return {"index": 0, "delta": delta, "finish_reason": finish}
        return {"index": 0, "text": piece or "", "logprobs": None, "finish_reason": finish}

    def opening(self, body: dict) -> str:
        """The first event: the role, or an empty text."""
        choice = self.choice("", None)
        if self.chat:
            choice["delta"]["role"] = "assistant"
        return self.chunk(body, [choice])

    def token(self, body: dict, piece: str) -> str:
        """A content event."""
        return self.chunk(body, [self.choice(piece, None)])

    def ending(self, body: dict) -> list[str]:
        """Finish, usage where asked for, terminator."""
        events = [self.chunk(body, [self.choice(None, "stop")])]
        if (body.get("stream_options") or {}).get("include_usage"):
            events.append(self.chunk(body, [], usage=usage(body)))
        return [*events, "[DONE]"]

    def whole(self, body: dict) -> bytes:
        """The answer without streaming; stream options beside it are refused as the vendor does."""
        full = "".join(tokens(body))
        if self.chat:
            choice = {"index": 0, "message": {"role": "assistant", "content": full}, "finish_reason": "stop"}
        else:
            choice = {"index": 0, "text": full, "logprobs": None, "finish_reason": "stop"}
        kind = "chat.completion" if self.chat else "text_completion"
        frame = {"id": "cmpl-1", "object": kind, "created": 1700000000, "model": body.get("model", "fake")}
        return json.dumps({**frame, "choices": [choice], "usage": usage(body)}, ensure_ascii=False).encode()


PATHS = {"/v1/chat/completions": Form(chat=True), "/v1/completions": Form(chat=False)}
