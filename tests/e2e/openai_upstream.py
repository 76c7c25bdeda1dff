"""A server that speaks like an OpenAI-compatible one and fails exactly as told.

What it is: an HTTP/1.1 server on bare asyncio sockets, because a framework
would tidy up the very faults that are wanted here (half events, missing final
chunks, resets). Faults are asked for per request, see upstream_faults.py.
What it is not: a model; the answer is numbered words made from the prompt.

Also serves `GET /stats`, `POST /release?key=…` for streams that `hold`,
`GET /headers` (the request's own, as JSON) and `GET /trailers`. Runs in a
thread of the test (`OpenAiUpstream`) or by itself:
`python openai_upstream.py PORT`.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import sys
from collections import Counter, defaultdict
from urllib.parse import parse_qs, urlsplit

import openai_wire as wire
from loop_thread import LoopThread, reset
from upstream_faults import ANSWERS, Fault

HUGE = 2 * 1024 * 1024
STREAM_HEAD = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Request-Id": "req-of-upstream"}


class Gone(Exception):
    """The connection is over, by our own doing or the peer's."""


class Connection:
    """One accepted connection: reading requests, writing answers, breaking off."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def request(self) -> tuple[str, str, dict[str, str], bytes]:
        """The next request's method, target, headers (lower case) and body."""
        try:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except (asyncio.IncompleteReadError, ConnectionError) as end:
            raise Gone from end
        first, *lines = head.rstrip().split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        return method, target, headers, await self._body(headers)

    async def _body(self, headers: dict[str, str]) -> bytes:
        if "chunked" not in headers.get("transfer-encoding", ""):
            return await self.reader.readexactly(int(headers.get("content-length", "0")))
        body = b""
        while size := int((await self.reader.readline()).split(b";")[0], 16):
            body += await self.reader.readexactly(size)
            await self.reader.readline()
        await self.reader.readline()
        return body

    async def send(self, data: bytes) -> None:
        """Writes at once; raises Gone when the peer has left."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError as end:
            raise Gone from end

    async def head(self, status: str, headers: dict[str, str]) -> None:
        """A status line with headers."""
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items())]
        await self.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    async def chunk(self, data: bytes) -> None:
        """One chunk of a chunked body; an empty one ends it."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def answer(self, status: str, body: bytes, kind: str, **headers: str) -> None:
        """A whole response with its length."""
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        await self.head(status, {"Content-Type": kind, "Content-Length": str(len(body)), **extra})
        await self.send(body)

    async def reset(self) -> None:
        """Ends with RST, everything sent before it having arrived."""
        await reset(self.writer)
        raise Gone

    async def until_left(self) -> None:
        """Says nothing more until the peer closes."""
        try:
            while await self.reader.read(1024):
                pass
        except ConnectionError:
            pass
        raise Gone


class Scripted:
    """The requests' handling, and the counts that a test asks for."""

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

    async def handle(self, conn: Connection, method: str, target: str, headers: dict, body: bytes) -> None:
        """One request, by its path."""
        url = urlsplit(target)
        if url.path == "/stats":
            await conn.answer("200 OK", json.dumps(self.stats()).encode(), "application/json")
        elif url.path == "/release":
            self.gates[parse_qs(url.query)["key"][0]].set()
            await conn.answer("200 OK", b"{}", "application/json")
        elif url.path == "/headers":
            await conn.answer("200 OK", json.dumps(headers).encode(), "application/json")
        elif url.path == "/trailers":
            await trailers(conn)
        elif method == "POST" and url.path in wire.PATHS:
            await self.complete(conn, wire.PATHS[url.path], headers, json.loads(body))
        else:
            await conn.answer("404 Not Found", wire.error("no such path"), "application/json")

    def stats(self) -> dict[str, dict[str, int]]:
        """`{key: {"stream": n, "plain": n, "left": n}}`."""
        return {key: dict(counts) for key, counts in self.seen.items()}

    async def complete(self, conn: Connection, form: wire.Form, headers: dict, body: dict) -> None:
        """One completion, well or as the test wants it."""
        fault = Fault.of_request(headers, body)
        counts, streaming = self.seen[fault.key], bool(body.get("stream"))
        name = "stream" if streaming else "plain"
        struck = fault.strikes(streaming=streaming, earlier=counts[name])
        counts[name] += 1
        script = Script(conn, form, body, fault, self.gates[fault.key])
        try:
            if struck and fault.kind in ANSWERS:
                await script.instead()
            elif streaming:
                await script.stream(fault if struck else Fault("ok"))
            else:
                await conn.answer("200 OK", form.whole(body), "application/json")
        except Gone:
            counts["left"] += 1
            raise


class Script:
    """One completion on one connection."""

    def __init__(self, conn: Connection, form: wire.Form, body: dict, fault: Fault, gate: asyncio.Event) -> None:
        self.conn, self.form, self.body, self.fault, self.gate = conn, form, body, fault, gate

    async def instead(self) -> None:
        """An answer in place of the stream."""
        kind, conn = self.fault.kind, self.conn
        if kind.isdigit():
            status, body, headers = wire.refusal(kind)
            await conn.answer(status, body, "application/json", **headers)
        elif kind == "json-error":
            await conn.answer("200 OK", wire.error("the model is not loaded"), "application/json")
        elif kind == "json":
            await conn.answer("200 OK", self.form.whole(self.body), "application/json")
        elif kind == "html":
            await conn.answer("200 OK", b"<!doctype html><title>Sign in</title>", "text/html; charset=utf-8")
        else:
            if kind == "hang-first":
                await conn.head("200 OK", {**STREAM_HEAD, "Transfer-Encoding": "chunked"})
            await conn.until_left()

    async def stream(self, fault: Fault) -> None:
        """The head, the events with their planned accident, the end."""
        if fault.kind == "gzip":
            await self.gzipped()
            return
        await self.conn.head("200 OK", {**STREAM_HEAD, "Transfer-Encoding": "chunked"})
        await self.event(self.form.opening(self.body), fault)
        for number, token in enumerate(wire.tokens(self.body)):
            if number == fault.at and await self.accident(fault):
                return
            await self.event(self.form.token(self.body, token), fault)
        for data in self.form.ending(self.body):
            await self.event(data, fault)
        await self.conn.chunk(b"")

    async def event(self, data: str, fault: Fault) -> None:
        """One event in the form that the fault asks for."""
        block = f"data: {data}\n\n"
        if fault.kind == "crlf":
            block = block.replace("\n", "\r\n")
        elif fault.kind == "pings":
            block = f": OPENROUTER PROCESSING\n\n{block}"
        if fault.kind == "trickle":
            for byte in block.encode():
                await self.conn.chunk(bytes([byte]))
        else:
            await self.conn.chunk(block.encode())

    async def accident(self, fault: Fault) -> bool:
        """What happens after `fault.at` events; True when it ended the answer."""
        kind, conn = fault.kind, self.conn
        if kind == "hold":
            await self.gate.wait()
        elif kind == "huge":
            await conn.chunk(b"data: " + b"x" * HUGE + b"\n\n")
        elif kind == "error":
            # vLLM and others do send [DONE] after an error.
            await conn.chunk(b"data: " + wire.error("CUDA out of memory") + b"\n\ndata: [DONE]\n\n")
            await conn.chunk(b"")
            return True
        elif kind == "truncate":
            await conn.chunk(b"")
            return True
        elif kind == "cutoff":
            conn.writer.close()
            raise Gone
        elif kind == "stall":
            await conn.until_left()
        elif kind in ("reset", "mid-event"):
            if kind == "mid-event":
                half, _, _ = self.form.token(self.body, "HALF|").partition("|")
                await conn.chunk(f"data: {half}".encode())
            await conn.reset()
        return False

    async def gzipped(self) -> None:
        """The whole stream compressed, although nobody allowed it."""
        parts = [self.form.opening(self.body)]
        parts += [self.form.token(self.body, token) for token in wire.tokens(self.body)]
        parts += self.form.ending(self.body)
        plain = "".join(f"data: {part}\n\n" for part in parts).encode()
        await self.conn.head("200 OK", {**STREAM_HEAD, "Content-Encoding": "gzip", "Transfer-Encoding": "chunked"})
        await self.conn.chunk(gzip.compress(plain))
        await self.conn.chunk(b"")


async def trailers(conn: Connection) -> None:
    """A body whose checksum follows it."""
    await conn.head("200 OK", {"Content-Type": "text/plain", "Transfer-Encoding": "chunked", "Trailer": "X-Checksum"})
    await conn.chunk(b"body before trailers")
    await conn.send(b"0\r\nX-Checksum: 20\r\n\r\n")


class OpenAiUpstream(LoopThread):
    """The server in a thread of its own; `with OpenAiUpstream() as upstream: …`."""

    def __init__(self, port: int = 0) -> None:
        self._script = Scripted()
        super().__init__(self._script.serve, port)

    def seen(self, key: str = "") -> dict[str, int]:
        """Counts of the requests made with `key`; absent means none."""
        return {"stream": 0, "plain": 0, "left": 0, **self._script.stats().get(key, {})}

    def release(self, key: str = "") -> None:
        """Lets the streams that hold under `key` go on."""
        self.loop.call_soon_threadsafe(self._script.gates[key].set)


async def main(port: int) -> None:
    """Serves until interrupted."""
    server = await asyncio.start_server(Scripted().serve, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
