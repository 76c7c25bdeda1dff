"""A loopback TCP server on an event loop in a thread of its own.

The scripted upstream and the fault relay both stand on this, so that a test
stays ordinary blocking code. Also here: how to end a connection with RST,
which both of them need to be exact about.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
import threading
from collections.abc import Awaitable, Callable

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class LoopThread:
    """`with LoopThread(handler) as server: … server.url`. Port 0 picks a free one."""

    def __init__(self, handler: Handler, port: int = 0) -> None:
        self.port = port
        self._handler = handler
        self.loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)

    def __enter__(self):
        self._thread.start()
        self._up.wait()
        return self

    def __exit__(self, *exc: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self._handler, "127.0.0.1", self.port))
        self.port = server.sockets[0].getsockname()[1]
        self._up.set()
        self.loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.close()


async def all_received(writer: asyncio.StreamWriter) -> None:
    """Returns when the peer's kernel has everything that was written.

    What a reset or a close would still throw away is otherwise a matter of luck.
    """
    await writer.drain()
    sock = writer.get_extra_info("socket")
    transport = writer.transport
    while not transport.is_closing():
        left = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
        if left == 0 and transport.get_write_buffer_size() == 0:
            return
        await asyncio.sleep(0.001)


async def reset(writer: asyncio.StreamWriter) -> None:
    """Ends with RST behind the last byte written."""
    await all_received(writer)
    sock = writer.get_extra_info("socket")
    if not writer.transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
