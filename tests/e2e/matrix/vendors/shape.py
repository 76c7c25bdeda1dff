"""What a vendor's shape says, and the answer that all of them give.

What it is: text only. No socket, no SDK, no faults: the upstream decides what
of this is sent, and when. Every answer is the same pieces, cut the same way,
so that one expectation fits all SDKs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Protocol

import openai_wire

PROMPT_TOKENS = 7
PIECES = openai_wire.tokens({})
TEXT = "".join(PIECES)


def text(pieces: int) -> str:
    """The first `pieces` pieces of the answer."""
    return "".join(PIECES[:pieces])


def block(data: object, name: str | None = None, event_id: str | None = None) -> bytes:
    """One SSE block; `data` is text, or anything to write as compact JSON."""
    body = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    lines = [f"event: {name}"] if name else []
    lines += [f"id: {event_id}"] if event_id else []
    lines += [f"data: {line}" for line in body.split("\n")]
    return ("\n".join(lines) + "\n\n").encode()


@dataclass(frozen=True)
class Words:
    """A streamed answer in three parts; a fault strikes between the pieces."""

    opening: list[bytes]
    pieces: list[bytes]
    ending: list[bytes]


class Shape(Protocol):
    """One vendor's wire. `body` is the request's, already read as JSON."""

    # For requests to be told apart in messages.
    name: str

    def takes(self, path: str, headers: dict[str, str]) -> bool:
        """Whether a request is for this vendor; `path` is without query."""

    def streams(self, path: str, body: dict) -> bool:
        """Whether it asks for a stream."""

    def words(self, body: dict) -> Words:
        """The whole answer, streamed."""

    def whole(self, body: dict) -> dict:
        """The whole answer at once."""

    def error(self) -> list[bytes]:
        """What the vendor sends when it fails in the middle of a stream."""

    def refusal(self, status: int) -> dict:
        """The body of an HTTP error."""
