"""How the tests put the proxy before the chat app, and what the app then says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .sse import Event

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "apps"))

from chat_app import answer  # noqa: E402  (the app's folder is no package)

PATIENT = 'timeouts = { connect = "10s", head = "20s", first_event = "20s", idle = "20s", total = "60s" }'


def route(**keys: str) -> str:
    """A route for the whole app, which ends its chats with `done`."""
    lines = {"fallback": '{ mode = "off" }', "retry": "{ attempts = 1 }", **keys}
    body = "\n".join(f"{name} = {value}" for name, value in lines.items())
    return (
        f'[[routes]]\nmatch = {{ path = "/" }}\nupstream = "app"\n{PATIENT}\n{body}\n'
        # A numbered stream of the app's own has no `done` and just ends.
        f'[[routes]]\nmatch = {{ path = "/chat-robust" }}\nupstream = "app"\ndialect = "generic"\n'
        f'generic = {{ done_events = ["done"] }}\n{PATIENT}\n{body}\n'
    )


def words(message: str, count: int = 20) -> list[str]:
    """The data of the events that carry the answer."""
    parts = answer(message, count).split(" ")
    return [f"{part} " for part in parts[:-1]] + parts[-1:]


def robust(message: str, key: str, count: int = 20) -> list[tuple[str, str]]:
    """The whole robust chat as (name, data)."""
    opening = ("init", json.dumps({"model": "fake", "key": key}))
    closing = ("done", json.dumps({"token_count": count}))
    return [opening, *(("message", word) for word in words(message, count)), closing]


def told(events: list[Event] | list[dict]) -> list[tuple[str, str]]:
    """What a client saw, as (name, data)."""
    return [
        (event.name, event.data) if isinstance(event, Event) else (event["name"], event["data"]) for event in events
    ]


def numbers(ids: list[str]) -> list[int]:
    """The sequence numbers in ids of the proxy's; all of one session and epoch."""
    parts = [event_id.rsplit(".", 2) for event_id in ids]
    assert len({(session, epoch) for session, epoch, _ in parts}) == 1, ids
    return [int(seq) for _, _, seq in parts]


def dense(ids: list[str]) -> bool:
    """Whether the ids count up by one without a gap."""
    seqs = numbers(ids)
    return seqs == list(range(seqs[0], seqs[0] + len(seqs)))
