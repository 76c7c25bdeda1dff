"""The official Node SDK through the proxy: the same table as for Python's."""

from __future__ import annotations

import pytest

import openai_wire as wire
from harness.node import run_node
from harness.outcomes import OUTCOMES, Outcome, route


def ask(base: str, fault: str = "ok", **wishes: object) -> dict:
    """One streamed completion; an error is part of the answer."""
    return run_node("openai_stream.mjs", {"base": base, "fault": fault, **wishes})


@pytest.mark.parametrize("legacy", [False, True], ids=["chat", "completions"])
def test_a_whole_stream_arrives_exactly(start_proxy, upstream, legacy):
    proxy = start_proxy(route(), llm=upstream.url)
    seen = ask(proxy.url, legacy=legacy, usage=True)
    assert (seen["error"], seen["text"], seen["finish"]) == (None, wire.text(), "stop")
    assert seen["usage"]["completion_tokens"] == wire.ANSWER_WORDS


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: outcome.name)
def test_every_failure_raises_the_sdks_own_error(start_proxy, upstream, outcome: Outcome):
    proxy = start_proxy(route(outcome.timeouts), llm=upstream.url)
    seen = ask(proxy.url, outcome.fault)
    error = seen["error"]
    assert error is not None, "never a silent end"
    assert outcome.error in error["classes"]
    assert error["code"] in outcome.codes
    assert seen["finish"] is None
    if outcome.words is None:
        assert seen["text"] == ""
        assert error["status"] == outcome.status
        if outcome.retry_after is not None:
            assert error["retry_after"] == outcome.retry_after
    else:
        assert seen["text"] == wire.text(outcome.words)
        assert error["classes"] == ["APIError"]
    assert upstream.seen()["stream"] == 1


def test_a_refused_connection_is_a_server_error(start_proxy, dead_port):
    proxy = start_proxy(route(), llm=f"http://127.0.0.1:{dead_port}")
    error = ask(proxy.url)["error"]
    assert "InternalServerError" in error["classes"]
    assert (error["status"], error["code"]) == (502, "upstream_unreachable")


def test_the_sdks_own_retry_still_works(start_proxy, upstream):
    proxy = start_proxy(route(), llm=upstream.url)
    assert ask(proxy.url, "503:1", retries=2)["text"] == wire.text()
    assert upstream.seen()["stream"] == 2


def test_a_fallback_gives_the_whole_answer(start_proxy, upstream):
    proxy = start_proxy(route(fallback='{ mode = "non_stream" }'), llm=upstream.url)
    seen = ask(proxy.url, "500", usage=True)
    assert (seen["error"], seen["text"], seen["finish"]) == (None, wire.text(), "stop")
    assert seen["usage"]["completion_tokens"] == wire.ANSWER_WORDS
    assert upstream.seen()["plain"] == 1
