"""Reading an event stream as the WHATWG text says, with everything kept.

Unlike the clients under test this reader hides nothing: comments, retry hints
and unfinished trailing events are there to be looked at. Source: WHATWG HTML,
9.2.6 "Interpreting an event stream".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx


@dataclass
class Event:
    """One dispatched block. `id` and `retry` are None unless this block set them."""

    data: str
    name: str = "message"
    id: str | None = None
    retry: int | None = None

    def json(self) -> dict:
        """The data as JSON."""
        return json.loads(self.data)


@dataclass
class Stream:
    """An answer being read; iterate over it, then look at the rest."""

    response: httpx.Response
    comments: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    # How the body ended: None while it runs, "clean", or the error's text.
    end: str | None = None
    # Blocks with fields but no data, and blank lines behind nothing at all (or
    # behind a comment). Both are legal and harmless to a browser, and both
    # make the Python SDK raise once it has seen an id.
    empty_blocks: int = 0
    bare_blanks: int = 0
    # Whatever stood behind the last blank line.
    rest: str = ""

    def __post_init__(self) -> None:
        self._lines = self._read_lines()

    @property
    def session(self) -> str:
        """The session as named in the head."""
        return self.response.headers["streamkeeper-session"]

    @property
    def source(self) -> str:
        """Where the proxy says the events come from."""
        return self.response.headers["streamkeeper-source"]

    @property
    def ids(self) -> list[str | None]:
        """The ids of all events so far."""
        return [event.id for event in self.events]

    @property
    def data(self) -> list[str]:
        """The data of all events so far."""
        return [event.data for event in self.events]

    def _read_lines(self) -> Iterator[str]:
        buffer = b""
        try:
            for piece in self.response.iter_raw():
                buffer += piece
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    yield line.decode("utf-8")
            self.end = "clean"
        except httpx.HTTPError as error:
            self.end = repr(error)
        self.rest = buffer.decode("utf-8", errors="replace")

    def __iter__(self) -> Iterator[Event]:
        data, fields, touched = [], {}, False
        for line in self._lines:
            if line == "":
                if data:
                    event = Event("\n".join(data), **fields)
                    self.events.append(event)
                    yield event
                elif touched:
                    self.empty_blocks += 1
                else:
                    self.bare_blanks += 1
                data, fields, touched = [], {}, False
                continue
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "":
                self.comments.append(value)
                continue
            touched = True
            if name == "data":
                data.append(value)
            elif name == "retry":
                fields["retry"] = int(value)
            elif name in ("id", "event"):
                fields["id" if name == "id" else "name"] = value
        if touched:
            self.rest = "\n".join([f"data: {part}" for part in data]) + self.rest

    def take(self, count: int) -> list[Event]:
        """The next `count` events (fewer if the stream ends)."""
        taken = []
        for _ in range(count):
            event = next(self._iterator(), None)
            if event is None:
                break
            taken.append(event)
        return taken

    def _iterator(self) -> Iterator[Event]:
        if not hasattr(self, "_events"):
            self._events = iter(self)
        return self._events

    def finish(self) -> Stream:
        """Reads to the end."""
        for _ in self._iterator():
            pass
        return self


class Reader:
    """A client that opens event streams; `with Reader() as reader: …`."""

    def __init__(self, base: str) -> None:
        self._client = httpx.Client(base_url=base, timeout=30)
        self._open: list[httpx.Response] = []

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Leaves: closes its connections, whatever still runs on them."""
        for response in self._open:
            response.close()
        self._client.close()

    def open(self, method: str, path: str, **request: object) -> Stream:
        """Sends the request and returns as soon as the head is there."""
        headers = {"accept": "text/event-stream", **(request.pop("headers", None) or {})}
        sent = self._client.build_request(method, path, headers=headers, **request)
        response = self._client.send(sent, stream=True)
        self._open.append(response)
        return Stream(response)

    def get(self, path: str, **request: object) -> Stream:
        """GET, as EventSource does."""
        return self.open("GET", path, **request)

    def post(self, path: str, json: dict, **request: object) -> Stream:
        """POST of JSON, as fetch-based clients do."""
        return self.open("POST", path, json=json, **request)
