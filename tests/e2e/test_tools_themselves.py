"""The upstreams and the relay without the proxy: each fault is the fault it claims to be.

This also shows what the proxy is for: several of these failures are silent
ends to an SDK that is connected directly.
"""

from __future__ import annotations

import httpx
import openai
import pytest

import openai_wire as wire
from harness.node import run_node
from harness.process import until
from harness.sse import Reader
from test_openai_python import ask
from upstream_faults import Fault

BODY = {"model": "fake", "stream": True, "messages": []}


@pytest.mark.parametrize("shape", ["ok", "gzip", "crlf", "trickle", "pings"])
def test_the_upstream_speaks_as_the_python_sdk_expects(upstream, shape):
    seen = ask(upstream.url, shape, usage=True)
    assert (seen.error, seen.text, seen.finish) == (None, wire.text(), "stop")
    assert seen.usage.total_tokens == 7 + wire.ANSWER_WORDS


def test_the_upstream_speaks_as_the_node_sdk_expects(upstream):
    seen = run_node("openai_stream.mjs", {"base": upstream.url, "usage": True})
    assert (seen["error"], seen["text"], seen["finish"]) == (None, wire.text(), "stop")


def test_a_truncated_stream_is_a_silent_end_to_an_sdk(upstream):
    seen = ask(upstream.url, "truncate@5")
    assert (seen.error, seen.text, seen.finish) == (None, wire.text(5), None)


@pytest.mark.parametrize("fault", ["reset@5", "mid-event@5", "cutoff@5"])
def test_broken_connections_deliver_all_that_came_before(upstream, fault):
    with Reader(upstream.url) as reader:
        stream = reader.post("/v1/chat/completions", BODY, headers={"x-test-fault": fault}).finish()
    assert stream.end != "clean"
    # The opening event with the role, then five words.
    assert len(stream.events) == 6
    assert ("HALF" in stream.rest) == (fault == "mid-event@5")


def test_a_stalled_upstream_notices_that_its_reader_has_left(upstream):
    with Reader(upstream.url) as reader:
        stream = reader.post("/v1/chat/completions", BODY, headers={"x-test-fault": "stall@2"})
        assert len(stream.take(3)) == 3
    until(lambda: upstream.seen()["left"] == 1, "the upstream sees its reader leave")


def test_a_fault_can_be_for_the_first_requests_only(upstream):
    assert isinstance(ask(upstream.url, "429:1").error, openai.RateLimitError)
    assert ask(upstream.url, "429:1").text == wire.text()


def test_an_unknown_fault_is_a_mistake_of_the_test():
    with pytest.raises(ValueError, match="explode"):
        Fault.parse("explode@3")


def test_the_relay_cuts_right_behind_the_marker(upstream, relay):
    between = relay(upstream.port)
    plan = between.plan(request=b"POST /v1", marker=b"3:\xf0\x9f\x98\x80", action="reset")
    with Reader(between.url) as reader:
        stream = reader.post("/v1/chat/completions", BODY).finish()
        assert plan.done.is_set()
        assert len(stream.events) == 4
        assert stream.end != "clean"
        assert len(reader.post("/v1/chat/completions", BODY).finish().events) == wire.ANSWER_WORDS + 3


def test_the_relay_can_split_anywhere_and_changes_nothing(upstream, relay):
    between = relay(upstream.port)
    between.plan(request=b"POST /v1", seams=(1, 17, 400, 401), piece=7)
    assert ask(between.url).text == wire.text()


def test_the_app_answers_and_refuses_by_itself(chat_app, key):
    with Reader(chat_app.url) as reader:
        stream = reader.get("/chat-robust", params={"message": "hi", "key": key, "words": 6}).finish()
    assert [event.name for event in stream.events] == ["init", *["message"] * 6, "done"]
    assert stream.events[-1].json() == {"token_count": 6}
    assert chat_app.generations(key) == 1
    for wrong in ("", "x" * 201):
        assert httpx.post(f"{chat_app.url}/chat-robust", json={"message": wrong}).status_code == 400


def test_the_app_resumes_its_own_numbering(chat_app, key):
    with Reader(chat_app.url) as reader:
        params = {"session_id": key, "total": 8}
        stream = reader.get("/stream-resumable", params=params, headers={"last-event-id": "5"}).finish()
    assert stream.ids == ["6", "7", "8"]


def test_the_app_that_raises_breaks_its_body_off(chat_app, key):
    with Reader(chat_app.url) as reader:
        stream = reader.get("/stream-raise", params={"key": key}).finish()
    assert len(stream.events) == 5
    assert stream.end != "clean"
