"""The admin page as an operator uses it: in Chromium, by keyboard, against the released program."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import httpx
import pytest

from harness.node import run_node
from harness.process import Process, free_port, until
from harness.proxy import BINARY

OUT = Path(__file__).resolve().parent / "out"
TOKEN = "operators-only-4711"
KEY = "upstream-key-0815"
CHAT = "/v1/chat/completions"
CONFIG = """
[admin]
token = { env = "ADMIN_TOKEN" }

[[upstreams]]
name = "llm"
endpoints = ["http://127.0.0.1:%(upstream)d", "http://127.0.0.1:%(nobody)d"]
credential = { env = "LLM_KEY" }

[[upstreams]]
name = "spare"
endpoints = ["http://127.0.0.1:%(upstream)d"]

[[routes]]
match = { path = "/v1/chat" }
upstream = "llm"
after_partial = []
retry = { base = "10ms" }

[[routes]]
upstream = "spare"
after_partial = []
retry = { attempts = 2, base = "10ms" }
fallback = { mode = "off" }
"""


class Streams:
    """Clients that keep their streams open until the end of the test."""

    def __init__(self, url: str) -> None:
        self.url, self._replies = url, []
        self._client = httpx.Client(timeout=60)

    def open(self, fault: str, lines_to_read: int = 2) -> str:
        """Begins a stream, reads so many lines, and leaves it open. Its session."""
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "rivers"}]}
        request = self._client.build_request("POST", self.url + CHAT, json=body, headers={"x-demo-fault": fault})
        reply = self._client.send(request, stream=True)
        self._replies.append(reply)
        lines = reply.iter_lines()
        self._replies.append(lines)  # Forgotten, it would hang up.
        for _ in range(lines_to_read):
            next(lines, None)
        return reply.headers.get("streamkeeper-session", "")

    def join(self, session: str) -> None:
        """Joins a session, as a second tab would."""
        url = f"{self.url}/_streamkeeper/sessions/{session}"
        request = self._client.build_request("GET", url, headers={"accept": "text/event-stream"})
        self._replies.append(self._client.send(request, stream=True))

    def wait_for_a_head(self) -> None:
        """Asks for a stream that does not begin, in the background."""
        def ask() -> None:
            with contextlib.suppress(httpx.HTTPError):  # The test ends first.
                self.open("hang")
        threading.Thread(target=ask, daemon=True).start()

    def close(self) -> None:
        """Hangs up everywhere."""
        for reply in self._replies:
            reply.close()
        self._client.close()


@pytest.fixture
def setting(tmp_path):
    """A proxy with a token before two endpoints, one of which nobody serves; the demo's upstream behind it."""
    upstream, nobody, port, admin = free_port(), free_port(), free_port(), free_port()
    config = tmp_path / "config.toml"
    config.write_text(CONFIG % {"upstream": upstream, "nobody": nobody}, encoding="utf-8")
    demo = Process([str(BINARY), "demo", "--upstream-only", "--listen", f"127.0.0.1:{upstream}"], tmp_path / "demo.log")
    argv = [str(BINARY), "run", "--config", str(config)]
    argv += ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
    proxy = Process(argv, tmp_path / "proxy.log", {"ADMIN_TOKEN": TOKEN, "LLM_KEY": KEY})
    streams = Streams(f"http://127.0.0.1:{port}")
    try:
        demo.wait_for_port(upstream)
        proxy.wait_for_port(port)
        yield f"http://127.0.0.1:{admin}", streams
    finally:
        streams.close()
        proxy.stop()
        demo.stop()


def test_an_operator_sees_sessions_and_stops_one_by_keyboard(setting):
    admin, streams = setting
    OUT.mkdir(exist_ok=True)
    for name in ("admin-gate", "admin-wide", "admin-dark", "admin-config", "admin-phone", "admin-confirm"):
        (OUT / f"{name}.png").unlink(missing_ok=True)
    streams.open("reset@6", lines_to_read=40)
    streams.open("pace=0", lines_to_read=400)
    streams.open("pace=1500")
    kept = streams.open("stall@30", lines_to_read=20)
    streams.join(kept)
    victim = streams.open("stall@4", lines_to_read=6)
    streams.wait_for_a_head()

    wishes = {"url": admin, "token": TOKEN, "key": KEY, "victim": victim, "kept": kept, "pictures": str(OUT)}
    shown = run_node("admin_page.mjs", wishes)

    assert shown["complaints"] == []
    assert shown["console"] == [], "no error on the console, no policy violated"
    assert shown["foreign"] == [], "nothing is asked of anybody else"
    assert shown["refused"] == "This token was refused."
    assert {victim[:10], kept[:10]} <= set(shown["running"])
    assert shown["states"] == ["live", "pending"]
    assert "reset" in " ".join(shown["errors"]), shown["errors"]
    assert shown["kept"]["clients"] == "2 here, 0 elsewhere"
    for told in ("Request accepted", "llm #", "Response head, status 200", "First event", "Client joined"):
        assert told in shown["kept"]["timeline"], shown["kept"]
    assert shown["focus"] == {"open": "detail-title", "closed": kept, "dialog": "confirm-no"}
    assert shown["said"] == f"Session {victim[:10]} was stopped."
    assert victim[:10] not in shown["left"] and kept[:10] in shown["left"]
    assert "***" in shown["config"] and "admin" in shown["config"]
    assert TOKEN not in shown["text"] and KEY not in shown["text"]
    assert shown["overflow"] == [], "nothing is wider than a phone"
    for name in ("gate", "wide", "dark", "config", "phone", "confirm"):
        assert (OUT / f"admin-{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_rests_while_nobody_sees_it_and_when_the_process_is_gone_it_asks_less_and_less(tmp_path):
    port, admin = free_port(), free_port()
    argv = [str(BINARY), "--upstream", "http://127.0.0.1:9", "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
    proxy = Process(argv, tmp_path / "short.log")
    proxy.wait_for_port(admin)
    stopped = threading.Event()

    def stop_when_asked() -> None:
        until(lambda: (tmp_path / "stop-now").exists(), "the page was up")
        proxy.stop()
        stopped.set()

    threading.Thread(target=stop_when_asked, daemon=True).start()
    wishes = {"url": f"http://127.0.0.1:{admin}", "gone": str(tmp_path / "stop-now")}
    shown = run_node("admin_gone.mjs", wishes)
    assert stopped.wait(5)
    assert shown["before"] == "updating"
    assert (shown["paused"], shown["asked"]) == ("paused", 0)
    assert shown["after"] == "unreachable"
    first, second = shown["waits"]
    assert second > first * 1.5, shown
