"""The rows of the matrix: what is done to a client's stream, and what must come of it.

Each row is a function of a cell that asserts and returns what the table says
about it. What a client cannot do is said by the client, not here.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass

from fault_proxy import FaultProxy, Plan
from harness.process import until

from .clients import Client, Seen
from .upstream import Vendors
from .vendors.shape import PIECES, TEXT, text

# Pieces of the answer that arrive before something happens.
BEFORE = 5
# Behind this piece the connection is cut; it looks the same on every wire.
CUT_BEHIND = "3:😀".encode()

# The proxy's routes: path prefix → how it is to behave. Everything else goes to aimock.
BEHAVIOUR = {
    "strict": ('retry = { attempts = 1 }', 'fallback = { mode = "off" }', "after_partial = []"),
    "retry": ('retry = { attempts = 3, base = "20ms" }', 'fallback = { mode = "off" }', "after_partial = []"),
    "fallback": ("retry = { attempts = 1 }", 'fallback = { mode = "non_stream" }', "after_partial = []"),
    "mend": ("retry = { attempts = 1 }", 'fallback = { mode = "non_stream" }', 'after_partial = ["fallback"]'),
}


def routes() -> str:
    """The proxy's routes as TOML."""
    toml = '[[routes]]\nmatch = { path = "/" }\nupstream = "aimock"\nfallback = { mode = "off" }\n'
    for name, lines in BEHAVIOUR.items():
        body = "\n".join(['upstream = "vendors"', *lines])
        toml += f'[[routes]]\nmatch = {{ path = "/{name}" }}\n{body}\n'
        # The app's own stream says how it ends; no wire can tell.
        done = 'generic = { done_events = ["done"] }'
        toml += f'[[routes]]\nmatch = {{ path = "/{name}/events" }}\n{body}\n{done}\n'
    return toml


@dataclass
class Cell:
    """One client in one row; `front` is a relay before the proxy that nobody else uses."""

    client: Client
    upstream: Vendors
    front: FaultProxy
    key: str
    tap: Plan | None = None

    def ask(self, behaviour: str, fault: str, ask: Callable[[str, str], Seen] | None = None) -> Seen:
        """What the client's caller gets; all that it was sent stays in `tap`."""
        self.tap = self.tap or self.front.plan(request=self.key.encode())
        base = f"{self.front.url}/{behaviour}" if behaviour else self.front.url
        return (ask or self.client.ask)(base, f"{fault}#{self.key}")

    def requests(self) -> dict[str, int]:
        """What the upstream was asked for."""
        return self.upstream.seen(self.key)

    def whole(self, seen: Seen, usage: bool = True, kind: str | None = None) -> str:
        """Asserts the whole answer; returns the name of its type."""
        kind = kind or self.client.kind
        assert (seen.error, seen.code) == (None, None)
        assert (seen.text, seen.finish) == (TEXT, self.client.finish)
        if usage and self.client.usage:
            assert seen.usage == len(PIECES)
        assert seen.kind.rpartition(".")[2] == kind
        return f"`{kind}`"

    def failed(self, seen: Seen, code: str) -> str:
        """Asserts the error behind the first pieces; returns what the caller got."""
        assert (seen.error, seen.kind) == (self.client.error, None)
        assert (seen.text, seen.finish) == (text(BEFORE), self.client.failed_finish)
        assert seen.code == (code if self.client.codes else None)
        name = f"`{self.client.error.rpartition('.')[2]}`"
        return f"{name} with the error" if self.client.hands_over else name


def body_of(wire: bytes) -> bytes:
    """What follows the response head."""
    return wire.partition(b"\r\n\r\n")[2]


def heartbeats(wire: bytes, marks: bool) -> int:
    """Comments, or where those are not allowed chunks that hold nothing but a line's end."""
    return wire.count(b": ka\n" if marks else b"\r\n1\r\n\n\r\n")


def whole_stream(cell: Cell) -> str:
    """The upstream pauses until heartbeats have passed; ids and a retry hint are on the wire as well."""
    stop = threading.Event()

    def beaten() -> bool:
        return cell.tap is not None and heartbeats(cell.tap.answered, cell.client.marks) > 1

    def release() -> None:
        until(lambda: stop.is_set() or beaten(), "two heartbeats")
        cell.upstream.release(cell.key)

    releasing = threading.Thread(target=release)
    releasing.start()
    try:
        seen = cell.ask("strict", f"hold@{BEFORE}")
    finally:
        stop.set()
        releasing.join()
    kind = cell.whole(seen)
    sent = body_of(cell.tap.answered)
    assert beaten()
    marks = {line.partition(b":")[0] for line in re.findall(rb"^(?:id|retry|event)?:.*$", sent, re.MULTILINE)}
    if cell.client.marks:
        assert {b"id", b"retry", b""} <= marks
    else:
        assert marks == set()
    assert cell.requests() == {"stream": 1, "plain": 0}
    return kind


def aimock(cell: Cell) -> str:
    """A server that others wrote, with what it makes of the vendor's wire. It counts no tokens."""
    seen = cell.ask("", "ok")
    assert cell.requests() == {"stream": 0, "plain": 0}
    return cell.whole(seen, usage=False)


def vendors_error(cell: Cell) -> str:
    """The vendor says in the middle of its stream that it failed."""
    said = cell.failed(cell.ask("strict", f"error@{BEFORE}"), "upstream_error")
    assert cell.requests() == {"stream": 1, "plain": 0}
    return said


def truncation(cell: Cell) -> str:
    """The body ends cleanly without the stream's own end."""
    said = cell.failed(cell.ask("strict", f"truncate@{BEFORE}"), "upstream_truncated")
    assert cell.requests() == {"stream": 1, "plain": 0}
    return said


def rate_limit(cell: Cell) -> str:
    """The first request is refused; the client retries nothing, the proxy does."""
    kind = cell.whole(cell.ask("retry", "429:1"))
    assert cell.requests() == {"stream": 2, "plain": 0}
    return kind


def fallback(cell: Cell) -> str:
    """No stream can be had; an answer without one stands in."""
    kind = cell.whole(cell.ask("fallback", "500"))
    assert b"streamkeeper-source: fallback" in cell.tap.answered.lower()
    assert cell.requests() == {"stream": 1, "plain": 1}
    return kind


def mended(cell: Cell) -> str:
    """The upstream breaks off; the rest comes from an answer without stream."""
    kind = cell.whole(cell.ask("mend", f"reset@{BEFORE}"))
    assert cell.requests() == {"stream": 1, "plain": 1}
    return kind


def resume(cell: Cell) -> str:
    """The client's own connection is lost; nothing is missing and nothing comes twice."""
    cell.tap = cell.front.plan(request=cell.key.encode(), marker=CUT_BEHIND, action="fin")
    kind = cell.whole(cell.ask("strict", "ok", cell.client.resume), kind=cell.client.resume_kind)
    assert cell.tap.done.is_set(), "the connection was cut"
    assert cell.requests() == {"stream": cell.client.resume_requests, "plain": 0}
    return kind


# Row → (heading, function). The order is the table's.
ROWS: dict[str, tuple[str, Callable[[Cell], str]]] = {
    "whole": ("whole, marks on", whole_stream),
    "aimock": ("whole, aimock", aimock),
    "error": ("vendor's error", vendors_error),
    "truncation": ("truncation", truncation),
    "429": ("429, then well", rate_limit),
    "fallback": ("fallback", fallback),
    "mended": ("mended", mended),
    "resume": ("resumed", resume),
}


def impossible(client: Client, row: str) -> str | None:
    """Why a client has no such cell; None where it has one."""
    reasons = {"fallback": client.no_fallback, "mended": client.no_fallback, "aimock": client.no_aimock}
    if row == "resume" and isinstance(client.resume, str):
        return client.resume
    return reasons.get(row)
