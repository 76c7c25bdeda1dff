"""All vendors in one scripted server, which fails exactly as told.

What it is: the connection handling of `openai_upstream` with the shapes of
`vendors`. Paths may have anything before the vendor's own, so that one server
stands behind several routes. The fault is asked for in `x-test-fault`, or in
the query's `fault` by clients that cannot set headers.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter, defaultdict
from urllib.parse import parse_qsl, urlsplit

from loop_thread import LoopThread
from openai_upstream import STREAM_HEAD, Connection, Gone
from upstream_faults import Fault

from .vendors import SHAPES, Shape

REASONS = {429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}


class Scripted:
    """Requests handled, counted and held."""

    def __init__(self) -> None:
        self.seen: dict[str, Counter[str]] = defaultdict(Counter)
        self.gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request after request."""
        connection = Connection(reader, writer)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while True:
                await self.handle(connection, *await connection.request())
        except Gone:
            pass
        finally:
            writer.close()

    async def handle(self, conn: Connection, method: str, target: str, headers: dict, sent: bytes) -> None:
        """One request: finds its shape, decides whether it fails, answers."""
        url = urlsplit(target)
        query = dict(parse_qsl(url.query))
        shape = next((shape for shape in SHAPES if shape.takes(url.path, headers)), None)
        if shape is None:
            await conn.answer("404 Not Found", b'{"error":{"message":"no such path"}}', "application/json")
            return
        body = json.loads(sent) if sent else query
        fault = Fault.of_request({"x-test-fault": query.get("fault"), **headers}, {})
        counts, streaming = self.seen[fault.key], shape.streams(url.path, body)
        name = "stream" if streaming else "plain"
        struck = fault.strikes(streaming=streaming, earlier=counts[name])
        counts[name] += 1
        if struck and fault.kind.isdigit():
            status = int(fault.kind)
            refused = json.dumps(shape.refusal(status)).encode()
            await conn.answer(f"{status} {REASONS[status]}", refused, "application/json")
        elif streaming:
            await self.stream(conn, shape, body, fault if struck else Fault("ok"))
        else:
            await conn.answer("200 OK", json.dumps(shape.whole(body)).encode(), "application/json")

    async def stream(self, conn: Connection, shape: Shape, body: dict, fault: Fault) -> None:
        """The head, the blocks with their planned accident, the end."""
        words = shape.words(body)
        await conn.head("200 OK", {**STREAM_HEAD, "Transfer-Encoding": "chunked"})
        for block in words.opening:
            await conn.chunk(block)
        for number, block in enumerate(words.pieces):
            if number == fault.at and fault.kind != "ok":
                if fault.kind == "hold":
                    await self.gates[fault.key].wait()
                else:
                    await self.accident(conn, shape, fault)
                    return
            await conn.chunk(block)
        for block in words.ending:
            await conn.chunk(block)
        await conn.chunk(b"")

    async def accident(self, conn: Connection, shape: Shape, fault: Fault) -> None:
        """How the stream breaks."""
        if fault.kind == "reset":
            await conn.reset()
        elif fault.kind == "error":
            for block in shape.error():
                await conn.chunk(block)
        elif fault.kind != "truncate":
            raise ValueError(f"not a fault of this upstream: {fault.kind}")
        await conn.chunk(b"")


class Vendors(LoopThread):
    """The server in a thread of its own; `with Vendors() as upstream: …`."""

    def __init__(self) -> None:
        self._script = Scripted()
        super().__init__(self._script.serve)

    def seen(self, key: str) -> dict[str, int]:
        """How many streams and plain answers were asked for with `key`."""
        return {"stream": 0, "plain": 0, **self._script.seen.get(key, {})}

    def release(self, key: str) -> None:
        """Lets the streams that hold under `key` go on."""
        self.loop.call_soon_threadsafe(self._script.gates[key].set)
