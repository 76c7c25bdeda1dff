"""A TCP relay of our own that spoils connections exactly where a test says.

What it is: one listening port, one target, and a list of plans. A plan waits
for a connection whose request holds certain bytes, and then acts at a certain
place of the answer: cut it off, reset it, stall, or hand it on in small
pieces. Connections without a plan pass untouched.
What it is not: aware of HTTP. It sees bytes only, and it may stand between
client and proxy or between proxy and upstream.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from dataclasses import dataclass, field

from loop_thread import LoopThread, all_received, reset

READ = 65536


@dataclass
class Plan:
    """What to do to the next connection whose request contains `request`.

    The place is counted in the answer to that request: after `after` bytes,
    or right behind the first `marker`. `action` is `fin`, `reset`, `stall`
    (nothing is read from the server any more), or `none`. `piece` is the size
    of the writes towards the client (1: byte by byte), `seams` are places in
    the answer where a write ends. `done` is set when the action was carried
    out, and `answered` is what the server sent until then.
    """

    request: bytes = b""
    marker: bytes | None = None
    after: int | None = None
    action: str = "none"
    piece: int | None = None
    seams: tuple[int, ...] = ()
    done: threading.Event = field(default_factory=threading.Event)
    answered: bytes = b""

    def place(self) -> int | None:
        """How many bytes of the answer may pass; None: not reached yet."""
        if self.action == "none":
            return None
        if self.after is not None:
            return self.after if len(self.answered) >= self.after else None
        if self.marker is not None and self.marker in self.answered:
            return self.answered.index(self.marker) + len(self.marker)
        return None

    def pieces(self, data: bytes, offset: int) -> list[bytes]:
        """`data`, which begins at `offset` of the answer, as it shall be written."""
        seams = {seam - offset for seam in self.seams if 0 < seam - offset < len(data)}
        if self.piece is not None:
            seams.update(range(self.piece, len(data), self.piece))
        edges = [0, *sorted(seams), len(data)]
        return [data[start:end] for start, end in zip(edges, edges[1:])]


class FaultProxy(LoopThread):
    """`with FaultProxy(port) as relay: relay.plan(…); … relay.url`."""

    def __init__(self, target: int) -> None:
        super().__init__(self._relay)
        self.target = target
        self.connections = 0
        self._lock = threading.Lock()
        self._plans: list[Plan] = []

    def plan(self, **wishes: object) -> Plan:
        """Adds a plan; each serves one connection, in the order given."""
        plan = Plan(**wishes)
        with self._lock:
            self._plans.append(plan)
        return plan

    def claim(self, sent: bytes) -> Plan | None:
        """The first plan that fits what a client has sent, taken off the list."""
        with self._lock:
            for plan in self._plans:
                if plan.request in sent:
                    self._plans.remove(plan)
                    return plan
        return None

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            server = await asyncio.open_connection(sock=await self._dial())
        except OSError:
            await reset(writer)
            return
        link = Link(self, (reader, writer), server)
        try:
            await asyncio.gather(link.up(), link.down())
        finally:
            link.close()

    async def _dial(self) -> socket.socket:
        # A small window: else a stalled reader's kernel would swallow megabytes
        # before the server could notice anything. Has to be set before connecting.
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ)
        sock.setblocking(False)
        try:
            await self.loop.sock_connect(sock, ("127.0.0.1", self.target))
        except OSError:
            sock.close()
            raise
        return sock


class Link:
    """One relayed connection: two directions and at most one plan at a time."""

    def __init__(self, owner: FaultProxy, client: tuple, server: tuple) -> None:
        self.owner = owner
        self.client_reader, self.client = client
        self.server_reader, self.server = server
        self.plan: Plan | None = None
        for writer in (self.client, self.server):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """Lets go of both sides."""
        self.client.close()
        self.server.close()

    async def up(self) -> None:
        """Client to server; looks for a plan in what passes."""
        sent = b""
        while data := await receive(self.client_reader):
            if self.plan is None:
                # Kept, so that a request split over two reads is still found.
                sent = (sent + data)[-READ:]
                self.plan = self.owner.claim(sent)
                if self.plan is not None:
                    sent = b""
            if not await deliver(self.server, data):
                break
        finish(self.server)

    async def down(self) -> None:
        """Server to client, as the plan has it."""
        while data := await receive(self.server_reader):
            passed = await (self._spoil(self.plan, data) if self.plan else deliver(self.client, data))
            if not passed:
                # The server shall notice that nobody reads any more.
                self.close()
                return
        finish(self.client)

    async def _spoil(self, plan: Plan, data: bytes) -> bool:
        before = len(plan.answered)
        plan.answered += data
        place = plan.place()
        for piece in plan.pieces(plan.answered[before:place], before):
            if not await deliver(self.client, piece):
                return False
        if place is None:
            return True
        if plan.action == "reset":
            await reset(self.client)
        elif plan.action == "fin":
            await all_received(self.client)
            self.client.close()
        plan.done.set()
        if plan.action == "stall":
            await self._forever()
        return False

    async def _forever(self) -> None:
        """Neither reads nor writes until the relay is closed."""
        await asyncio.Event().wait()


async def receive(reader: asyncio.StreamReader) -> bytes:
    """The next bytes; empty at any kind of end."""
    try:
        return await reader.read(READ)
    except OSError:
        return b""


async def deliver(writer: asyncio.StreamWriter, data: bytes) -> bool:
    """Sends all; False when the other side is gone."""
    try:
        writer.write(data)
        await writer.drain()
        return not writer.is_closing()
    except OSError:
        return False


def finish(writer: asyncio.StreamWriter) -> None:
    """Says that no more will come; the other direction goes on."""
    try:
        if writer.can_write_eof():
            writer.write_eof()
    except (OSError, RuntimeError):
        pass
