"""Starting programs, waiting until they are up, and always ending them.

Nothing here sleeps for a guessed time: `until` asks again and again until the
condition holds or its deadline has passed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
# Generous: it only matters to tests that fail.
DEADLINE = 20.0


def until(condition: Callable[[], T], what: str, deadline: float = DEADLINE) -> T:
    """The first true result of `condition`; AssertionError after `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g} s: {what}")
        time.sleep(0.01)


def free_port() -> int:
    """A loopback port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port: int) -> bool:
    """Whether a connection to `port` is accepted."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


class Process:
    """A program with its output in a file."""

    def __init__(self, argv: list[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as out:
            self._popen = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **(env or {})}
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def output(self) -> str:
        """Everything it has printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._popen.poll() is None

    def wait_for_port(self, port: int) -> None:
        """Returns when it listens; AssertionError with its output if it ends before."""

        def up() -> bool:
            assert self.running(), f"ended with {self._popen.returncode}:\n{self.output()}"
            return listens(port)

        until(up, f"process {self.pid} listens on {port}")

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        self._popen.send_signal(number)

    def exit_code(self) -> int:
        """Waits for its end; AssertionError if it does not come."""
        try:
            return self._popen.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"process {self.pid} does not end:\n{self.output()}") from None

    def stop(self) -> None:
        """Ends it, gently first."""
        if not self.running():
            return
        self.signal(signal.SIGTERM)
        try:
            self._popen.wait(3)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def memory(self, field: str) -> int:
        """Bytes of `VmRSS` (now) or `VmHWM` (most so far), from /proc."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
        raise KeyError(field)
