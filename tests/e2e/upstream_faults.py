"""The small language in which a test tells the scripted upstream how to fail.

    KIND[@EVENTS][:TIMES][!][#KEY]

`EVENTS` content events are sent well before a fault in the middle of a
stream; `TIMES` requests fail and later ones are well (without it all fail);
`!` makes the fault hit requests without streaming, too; `KEY` tells requests
of one test from those of another and changes nothing else. `ok` never fails.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

GRAMMAR = re.compile(r"(?P<kind>[a-z0-9-]+)(@(?P<at>\d+))?(:(?P<times>\d+))?(?P<both>!)?(#(?P<key>.*))?")

# Before the head, in place of a stream.
ANSWERS = {"400", "401", "429", "500", "503", "529", "json-error", "json", "html", "hang", "hang-first"}
# After `EVENTS` content events.
BREAKS = {"reset", "mid-event", "truncate", "cutoff", "stall", "error", "huge"}
# Whole answers in an unusual form.
SHAPES = {"ok", "gzip", "pings", "crlf", "trickle", "hold"}


@dataclass(frozen=True)
class Fault:
    """One parsed instruction; `times` None means always."""

    kind: str
    at: int = 0
    times: int | None = None
    both: bool = False
    key: str = ""

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Raises ValueError for anything that is not in the language."""
        match = GRAMMAR.fullmatch(text)
        if match is None or match["kind"] not in ANSWERS | BREAKS | SHAPES:
            raise ValueError(f"not a fault: {text!r}")
        times = None if match["times"] is None else int(match["times"])
        return cls(match["kind"], int(match["at"] or 0), times, match["both"] is not None, match["key"] or "")

    @classmethod
    def of_request(cls, headers: dict[str, str], body: dict) -> Fault:
        """From the header `x-test-fault`, or the body's `user`, which every SDK can set."""
        text = headers.get("x-test-fault") or body.get("user") or "ok"
        return cls.parse(text)

    def strikes(self, *, streaming: bool, earlier: int) -> bool:
        """Whether this request is hit, after `earlier` ones of the same kind and key."""
        if self.kind == "ok" or not (streaming or self.both):
            return False
        return self.times is None or earlier < self.times
