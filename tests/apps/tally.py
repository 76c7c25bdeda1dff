"""What the chat app remembers between requests: counts and gates.

Everything is kept by the caller's key, so tests that share one running app do
not see each other.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict


class Tally:
    """Counts requests by path and key, and generations by key."""

    def __init__(self) -> None:
        self._asked: dict[str, Counter[str]] = defaultdict(Counter)
        self._cancelled: dict[str, Counter[str]] = defaultdict(Counter)
        self._generations: Counter[str] = Counter()

    def asked(self, path: str, key: str) -> None:
        """A stream was asked for."""
        self._asked[path][key] += 1

    def cancelled(self, path: str, key: str) -> None:
        """A stream lost its reader before its end."""
        self._cancelled[path][key] += 1

    def generation(self, key: str) -> None:
        """The model was set to work."""
        self._generations[key] += 1

    def as_json(self) -> dict[str, object]:
        """Plain dictionaries: `{"asked": {path: {key: n}}, …}`."""
        return {
            "asked": {path: dict(keys) for path, keys in self._asked.items()},
            "cancelled": {path: dict(keys) for path, keys in self._cancelled.items()},
            "generations": dict(self._generations),
        }


class Gates:
    """One gate per key; open stays open, so the order of calls is no matter."""

    def __init__(self) -> None:
        self._gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def open(self, key: str) -> None:
        """Lets everybody through who waits for `key` now or later."""
        self._gates[key].set()

    async def wait(self, key: str) -> None:
        """Returns once the gate of `key` is open."""
        await self._gates[key].wait()
