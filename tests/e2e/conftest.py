"""Fixtures: everything that runs beside a test is started and ended here."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from fault_proxy import FaultProxy
from harness.process import Process, free_port
from harness.proxy import BASE, Proxy, config
from harness.sse import Reader
from openai_upstream import OpenAiUpstream

HERE = Path(__file__).resolve().parent
# A machine's own HTTP proxy must not come between loopback addresses; what the
# tests start inherits this.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"


class ChatApp:
    """The app of tests/apps, running under uvicorn."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        apps = HERE.parent / "apps"
        argv = [sys.executable, "-m", "uvicorn", "chat_app:app", "--app-dir", str(apps)]
        argv += ["--host", "127.0.0.1", "--port", str(self.port), "--log-level", "warning"]
        library = HERE / "node_modules/@microsoft/fetch-event-source/lib/esm"
        self.process = Process(argv, folder / "chat_app.log", {"CHAT_APP_LIB": str(library)})
        try:
            self.process.wait_for_port(self.port)
        except AssertionError:
            self.process.stop()
            raise

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def stats(self) -> dict:
        """The app's counts, see tally.py."""
        return httpx.get(f"{self.url}/stats").json()

    def generations(self, key: str) -> int:
        """How often the model worked for `key`."""
        return self.stats()["generations"].get(key, 0)

    def asked(self, path: str, key: str) -> int:
        """How often the stream at `path` was asked for."""
        return self.stats()["asked"].get(path, {}).get(key, 0)

    def cancelled(self, path: str, key: str) -> int:
        """How often a stream lost its reader."""
        return self.stats()["cancelled"].get(path, {}).get(key, 0)

    def release(self, key: str) -> None:
        """Lets held streams of `key` go on."""
        httpx.post(f"{self.url}/release", params={"key": key}).raise_for_status()


@pytest.fixture(scope="session")
def chat_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatApp]:
    """One app for all tests; each uses keys of its own."""
    app = ChatApp(tmp_path_factory.mktemp("chat-app"))
    yield app
    app.process.stop()


@pytest.fixture
def key() -> str:
    """A key that no other test uses."""
    return uuid.uuid4().hex


@pytest.fixture
def upstream() -> Iterator[OpenAiUpstream]:
    """A scripted OpenAI-compatible server of the test's own."""
    with OpenAiUpstream() as server:
        yield server


@pytest.fixture
def start_proxy(tmp_path: Path) -> Iterator[Callable[..., Proxy]]:
    """`start_proxy(routes, llm=url, extra=…)`: a proxy with these routes, ended with the test."""
    running: list[Proxy] = []

    def start(routes: str, *, extra: str = BASE, **upstreams: str | list[str]) -> Proxy:
        proxy = Proxy(tmp_path, config(upstreams, routes, extra))
        running.append(proxy)
        return proxy

    yield start
    for proxy in running:
        proxy.stop()


@pytest.fixture
def relay() -> Iterator[Callable[[int], FaultProxy]]:
    """`relay(port)`: a TCP relay in front of `port` that spoils connections as planned."""
    running: list[FaultProxy] = []

    def start(target: int) -> FaultProxy:
        running.append(FaultProxy(target).__enter__())
        return running[-1]

    yield start
    for server in running:
        server.__exit__(None, None, None)


@pytest.fixture
def reader() -> Iterator[Callable[[str], Reader]]:
    """`reader(url)`: a bare reader of event streams, closed with the test."""
    running: list[Reader] = []

    def start(base: str) -> Reader:
        running.append(Reader(base))
        return running[-1]

    yield start
    for client in running:
        client.close()


@pytest.fixture
def dead_port() -> int:
    """A port where connections are refused."""
    return free_port()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failed test shows what the proxies printed."""
    outcome = yield
    report = outcome.get_result()
    if report.when != "call" or not report.failed:
        return
    folder = item.funcargs.get("tmp_path") if hasattr(item, "funcargs") else None
    for log in sorted(folder.glob("proxy-*.log")) if folder else []:
        report.sections.append((f"log of {log.name}", log.read_text(errors="replace")[-8000:]))
