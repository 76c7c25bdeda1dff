"""Two replicas on one Redis that lose each other, and Redis, while Prometheus looks on."""

from __future__ import annotations

import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.process import Process, free_port, until
from harness.proxy import Proxy, config
from openai_upstream import OpenAiUpstream

from .faults import PATIENT, Callers, route
from .prometheus import Prometheus

# Replicas agree on what a caller's credentials are called by a secret of theirs.
EXTRA = """
[store]
kind = "redis"
url = "redis://127.0.0.1:{port}/0"
secret = {{ file = "{secret}" }}
lease = "1s"
timeout = "300ms"
[retry_hint]
base = "100ms"
ill = "200ms"
"""
ROUTES = route(None, "llm", timeouts=PATIENT, detach='{ mode = "grace", grace = "20s" }')


class Redis:
    """A server of the test's own, without a disk."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.process = self._start()

    def _start(self) -> Process:
        program = shutil.which("redis-server")
        program = program or pytest.fail("redis-server is missing: scripts/setup-tests.sh installs it")
        argv = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        process = Process([*argv, "--dir", str(self.folder)], self.folder / "redis.log")
        process.wait_for_port(self.port)
        return process

    def kill(self) -> None:
        """Gone at once, with all it held."""
        self.process.signal(signal.SIGKILL)
        self.process.exit_code()

    def again(self) -> None:
        """Back on the same port, empty."""
        self.process = self._start()


class Replicas:
    """The whole scene; it has happened when the constructor returns."""

    def __init__(self, folder: Path, upstream: OpenAiUpstream) -> None:
        self.redis = Redis(folder)
        secret = folder / "secret"
        secret.write_text("the same for all replicas of this test", encoding="utf-8")
        toml = config({"llm": upstream.url}, ROUTES, EXTRA.format(port=self.redis.port, secret=secret))
        self.first, self.second = Proxy(folder, toml), Proxy(folder, toml)
        self.prometheus = Prometheus(folder, [f"127.0.0.1:{proxy.admin_port}" for proxy in (self.first, self.second)])
        try:
            until(lambda: self.prometheus.value("sum(stream_store_up)") == 2, "both replicas have Redis")
            self._replica_dies(upstream)
            self._redis_dies(upstream)
            self.prometheus.ended = time.time()
        except BaseException:
            self.stop()
            raise

    def _replica_dies(self, upstream: OpenAiUpstream) -> None:
        """In the middle of a stream; its client goes to the other one."""
        last = Callers(self.first).chat("hold@8#moved", read=5)
        until(lambda: self.prometheus.value("sum(stream_store_appended_events_total)") >= 5, "events are in Redis")
        self.first.process.signal(signal.SIGKILL)
        self.first.process.exit_code()
        upstream.release("moved")
        Callers(self.second).chat("hold@8#moved", **{"last-event-id": last})
        until(lambda: self.prometheus.value("sum(stream_takeovers_total)") >= 1, "a takeover")
        self.first.restart()

    def _redis_dies(self, upstream: OpenAiUpstream) -> None:
        """While a stream runs, which therefore falls behind; then it comes back."""
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(Callers(self.second).chat, "hold@8#behind", words=400)
            until(lambda: self.second.metric("stream_active") >= 1, "the stream runs")
            self.redis.kill()
            upstream.release("behind")
            running.result()
            until(lambda: self.prometheus.value("sum(stream_store_behind_sessions)") >= 1, "a session is behind")
            until(lambda: "StreamkeeperStoreDown" in self.prometheus.fired(), "the alert")
        self.redis.again()
        until(lambda: self.prometheus.value("sum(stream_store_up)") == 2, "both replicas have Redis again")

    def stop(self) -> None:
        """Ends everything."""
        self.prometheus.stop()
        self.first.stop()
        self.second.stop()
        self.redis.process.stop()
