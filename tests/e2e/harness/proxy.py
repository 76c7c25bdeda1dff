"""The proxy under test: its program, its configuration, its two ports."""

from __future__ import annotations

import json
import os
from pathlib import Path

import httpx
import pytest

from .process import Process, free_port

ROOT = Path(__file__).resolve().parents[3]
BINARY = Path(os.environ.get("STREAMKEEPER_BIN") or ROOT / "target/release/streamkeeper")

# Everything that is added to a stream is on, and so soon that each test sees
# it; every wait that a client makes is short.
BASE = """
[retry_hint]
base = "100ms"
ill = "200ms"

[heartbeat]
interval = "50ms"
"""


def config(upstreams: dict[str, str | list[str]], routes: str, extra: str = BASE) -> str:
    """A whole config.toml: each upstream with its endpoints, then routes as TOML."""
    named = ""
    for name, urls in upstreams.items():
        endpoints = json.dumps([urls] if isinstance(urls, str) else urls)
        named += f'[[upstreams]]\nname = "{name}"\nendpoints = {endpoints}\n\n'
    return f"{named}{routes}\n{extra}"


class Proxy:
    """One running proxy."""

    def __init__(self, folder: Path, toml: str) -> None:
        if not BINARY.is_file():
            pytest.fail(f"{BINARY} is missing: cargo build --release, or name another in STREAMKEEPER_BIN")
        self.folder, self.toml = folder, toml
        self.port, self.admin_port = free_port(), free_port()
        self.process = self._start()

    def _start(self) -> Process:
        file = self.folder / f"config-{self.port}.toml"
        file.write_text(self.toml, encoding="utf-8")
        argv = [str(BINARY), "run", "--config", str(file)]
        argv += ["--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin_port}"]
        process = Process(argv, self.folder / f"proxy-{self.port}.log")
        try:
            process.wait_for_port(self.port)
            process.wait_for_port(self.admin_port)
        except AssertionError:
            process.stop()
            raise
        return process

    def restart(self) -> None:
        """Ends it and starts a new one on the same ports, with nothing remembered."""
        self.process.stop()
        self.process = self._start()

    def stop(self) -> None:
        """Ends it."""
        self.process.stop()

    @property
    def url(self) -> str:
        """The data port."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin(self) -> str:
        """The admin port."""
        return f"http://127.0.0.1:{self.admin_port}"

    def session_url(self, session: str) -> str:
        """Where a session is attached to, looked at and stopped."""
        return f"{self.url}/_streamkeeper/sessions/{session}"

    def state(self, session: str, **headers: str) -> httpx.Response:
        """A session's state as JSON."""
        return httpx.get(self.session_url(session), headers={"accept": "application/json", **headers})

    def metric(self, name: str, **labels: str) -> float:
        """The sum over the samples of a metric that carry these labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        total = 0.0
        for line in httpx.get(f"{self.admin}/metrics").text.splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.split("{")[0] == name and all(label in sample for label in wanted):
                total += float(value)
        return total
