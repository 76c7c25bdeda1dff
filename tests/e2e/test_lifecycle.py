"""Starting, checking, draining: the process as whoever runs it meets it."""

from __future__ import annotations

import signal
import subprocess

import httpx

from harness.chat import robust, route, told
from harness.process import until
from harness.proxy import BINARY, ROOT


def ready(proxy) -> int:
    """The status of /readyz."""
    return httpx.get(f"{proxy.admin}/readyz").status_code


def test_a_drained_proxy_is_unready_at_once_and_finishes_its_streams(start_proxy, chat_app, reader, key):
    proxy = start_proxy(route(), app=chat_app.url)
    stream = reader(proxy.url).post("/chat-robust", {"message": "hi", "key": key, "hold_at": 10})
    stream.take(5)
    assert ready(proxy) == 200
    proxy.process.signal(signal.SIGTERM)
    until(lambda: ready(proxy) == 503, "unready")
    assert proxy.process.running(), "the stream is still open"
    chat_app.release(key)
    assert told(stream.finish().events) == robust("hi", key)
    assert proxy.process.exit_code() == 0


def test_a_stream_that_outlasts_the_drain_is_told_so(start_proxy, chat_app, reader, key):
    proxy = start_proxy(route(), extra='[drain]\ntimeout = "500ms"\n', app=chat_app.url)
    stream = reader(proxy.url).post("/chat-robust", {"message": "hi", "key": key, "hold_at": 10})
    stream.take(5)
    proxy.process.signal(signal.SIGTERM)
    *content, last = stream.finish().events
    assert told(content) == robust("hi", key)[: len(content)]
    assert (last.name, last.json()["code"], last.json()["recoverable"]) == ("error", "draining", True)
    assert proxy.process.exit_code() == 0
    chat_app.release(key)


def test_an_idle_proxy_ends_on_sigterm_with_0(start_proxy, chat_app):
    proxy = start_proxy(route(), app=chat_app.url)
    assert httpx.get(f"{proxy.admin}/healthz").status_code == 200
    proxy.process.signal(signal.SIGTERM)
    assert proxy.process.exit_code() == 0


def check(*arguments: str) -> subprocess.CompletedProcess:
    """Runs the program until its end."""
    return subprocess.run([str(BINARY), *arguments], capture_output=True, text=True, timeout=20, check=False)


def test_check_accepts_the_sample_configuration():
    assert check("check", "--config", str(ROOT / "config.toml")).returncode == 0


def test_check_names_every_problem_with_its_path_and_a_suggestion(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(
        '[[upstreams]]\nname = "llm"\nendpoints = ["ftp://x"]\n'
        '[[routes]]\nmatch = { path = "/" }\nupstream = "lmm"\ntimeouts = { idel = "1s" }\n'
    )
    done = check("check", "--config", str(file))
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "endpoints" in said
    assert "idel" in said and "idle" in said
    assert "lmm" in said and "llm" in said


def test_a_wrong_flag_is_a_usage_error():
    assert check("run", "--no-such-flag").returncode == 2
