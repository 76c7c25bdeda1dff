"""OpenAI's Responses API, with the vendor's own way to go on after a break.

The mid-stream error is the flat event of the API reference, which SDKs hand on
as an ordinary event. Source: the vendor's API reference, "Streaming events"
and "Background mode".
"""

from __future__ import annotations

from .shape import PIECES, PROMPT_TOKENS, TEXT, Words, block

ID = "resp_1"
USAGE = {
    "input_tokens": PROMPT_TOKENS,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": len(PIECES),
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": PROMPT_TOKENS + len(PIECES),
}
PLACE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}


def part(text: str) -> dict:
    """The text part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def item(status: str, parts: list[dict]) -> dict:
    """The one output item."""
    return {"id": "msg_1", "type": "message", "status": status, "role": "assistant", "content": parts}


def response(body: dict, status: str, output: list[dict], usage: dict | None) -> dict:
    """The response object."""
    frame = {"id": ID, "object": "response", "created_at": 1700000000, "status": status, "error": None}
    more = {"incomplete_details": None, "instructions": None, "model": body.get("model", "fake"), "output": output}
    habits = {"parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0}
    return {**frame, **more, **habits, "metadata": {}, "usage": usage}


class Responses:
    """`POST …/responses`, and `GET …/responses/{id}?stream=true&starting_after=N`."""

    name = "responses"

    def takes(self, path: str, headers: dict[str, str]) -> bool:
        return path.endswith(("/responses", f"/responses/{ID}"))

    def streams(self, path: str, body: dict) -> bool:
        return body.get("stream") in (True, "true")

    def words(self, body: dict) -> Words:
        """For a resume only what comes after `starting_after`, which counts from 0."""
        begun = response(body, "in_progress", [], None)
        opening = [
            {"type": "response.created", "response": begun},
            {"type": "response.in_progress", "response": begun},
            {"type": "response.output_item.added", "output_index": 0, "item": item("in_progress", [])},
            {"type": "response.content_part.added", **PLACE, "part": part("")},
        ]
        pieces = [{"type": "response.output_text.delta", **PLACE, "delta": piece, "logprobs": []} for piece in PIECES]
        done = item("completed", [part(TEXT)])
        ending = [
            {"type": "response.output_text.done", **PLACE, "text": TEXT, "logprobs": []},
            {"type": "response.content_part.done", **PLACE, "part": part(TEXT)},
            {"type": "response.output_item.done", "output_index": 0, "item": done},
            {"type": "response.completed", "response": response(body, "completed", [done], USAGE)},
        ]
        events = enumerate([*opening, *pieces, *ending])
        blocks = [block({**event, "sequence_number": number}, event["type"]) for number, event in events]
        if "starting_after" in body:
            return Words([], blocks[int(body["starting_after"]) + 1 :], [])
        first, last = len(opening), len(opening) + len(pieces)
        return Words(blocks[:first], blocks[first:last], blocks[last:])

    def whole(self, body: dict) -> dict:
        return response(body, "completed", [item("completed", [part(TEXT)])], USAGE)

    def error(self) -> list[bytes]:
        flat = {"type": "error", "code": "server_error", "message": "The server had an error", "param": None}
        return [block({**flat, "sequence_number": 9}, "error")]

    def refusal(self, status: int) -> dict:
        kind, code = ("requests", "rate_limit_exceeded") if status == 429 else ("server_error", None)
        return {"error": {"message": f"refused with {status}", "type": kind, "param": None, "code": code}}
