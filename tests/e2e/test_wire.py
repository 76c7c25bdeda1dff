"""What stands on the wire, byte by byte: the rules that keep every SDK alive."""

from __future__ import annotations

import json
import subprocess
import threading

import pytest

import openai_wire as wire
from harness.chat import dense, robust, route, told, words
from harness.outcomes import OUTCOMES, impatient
from harness.outcomes import route as llm_route
from harness.process import until

BODY = {"model": "fake", "stream": True, "messages": []}


def completion(reader, base: str, fault: str):
    """A chat completion read to its end."""
    return reader(base).post("/v1/chat/completions", BODY, headers={"x-test-fault": fault}).finish()


@pytest.mark.parametrize("shape", ["ok", "pings", "crlf", "gzip"])
def test_nothing_harmful_is_put_between_the_events(start_proxy, upstream, reader, shape):
    proxy = start_proxy(llm_route(), llm=upstream.url)
    stream = completion(reader, proxy.url, shape)
    assert (stream.empty_blocks, stream.bare_blanks, stream.rest) == (0, 0, "")
    assert {event.name for event in stream.events} == {"message"}
    assert dense(stream.ids)
    assert any(event.retry for event in stream.events), "a retry hint inside a block with data"
    assert stream.data[-1] == "[DONE]"
    assert stream.end == "clean"


def test_the_head_of_a_stream_keeps_caches_and_buffers_away(start_proxy, upstream, reader):
    proxy = start_proxy(llm_route(), llm=upstream.url)
    headers = completion(reader, proxy.url, "gzip").response.headers
    assert headers["content-type"].startswith("text/event-stream")
    assert {"no-cache", "no-transform"} <= set(headers["cache-control"].replace(" ", "").split(","))
    assert headers["x-accel-buffering"] == "no"
    assert "content-length" not in headers
    assert "content-encoding" not in headers
    assert len(headers["streamkeeper-session"]) == 22
    assert headers["x-request-id"]


def test_a_silent_upstream_is_bridged_by_comments_with_one_newline(start_proxy, upstream, reader):
    proxy = start_proxy(llm_route(), llm=upstream.url)
    stream = reader(proxy.url).post("/v1/chat/completions", BODY, headers={"x-test-fault": "hold@3"})
    reading = threading.Thread(target=stream.finish)
    reading.start()
    try:
        until(lambda: len(stream.comments) >= 3, "three heartbeats")
    finally:
        upstream.release()
        reading.join()
    assert set(stream.comments) == {"ka"}
    assert (stream.empty_blocks, stream.bare_blanks) == (0, 0)
    assert stream.data[-1] == "[DONE]"


BREAKS = [outcome for outcome in OUTCOMES if outcome.words is not None]


@pytest.mark.parametrize("outcome", BREAKS, ids=lambda outcome: outcome.name)
def test_a_failure_is_the_last_event_once_and_no_done_follows(start_proxy, upstream, reader, outcome):
    proxy = start_proxy(llm_route(outcome.timeouts), llm=upstream.url)
    stream = completion(reader, proxy.url, outcome.fault)
    *content, last = stream.events
    assert len(content) == 1 + outcome.words
    assert not any("error" in event.json() for event in content)
    assert "[DONE]" not in stream.data
    failure = last.json()
    assert (last.name, "choices" in failure) == ("message", False)
    standard = failure["error"]
    assert standard["code"] in outcome.codes
    assert standard["param"] is None
    assert standard["request_id"] == stream.response.headers["x-request-id"]
    assert {name: failure[name] for name in standard} == standard, "flat as well, for those who look there"
    assert (stream.end, stream.rest) == ("clean", "")


@pytest.mark.parametrize("outcome", BREAKS, ids=lambda outcome: outcome.name)
def test_a_failure_is_counted_by_its_code(start_proxy, upstream, reader, outcome):
    proxy = start_proxy(llm_route(outcome.timeouts), llm=upstream.url)
    code = completion(reader, proxy.url, outcome.fault).events[-1].json()["code"]
    until(lambda: proxy.metric("stream_errors_total", code=code) == 1, "the metric")
    assert proxy.metric("stream_errors_total") == 1
    assert proxy.metric("stream_duration_seconds_count") == 1


def test_after_the_head_was_committed_a_hang_is_an_error_event(start_proxy, upstream, reader):
    toml = llm_route(impatient("head"), commit_after='"100ms"')
    proxy = start_proxy(toml, llm=upstream.url)
    stream = completion(reader, proxy.url, "hang")
    assert stream.response.status_code == 200
    assert set(stream.comments) == {"ka"}, "heartbeats until then"
    assert [event.json()["code"] for event in stream.events] == ["head_timeout"]


def test_a_reader_that_takes_nothing_holds_nobody_up_and_resumes(start_proxy, upstream, relay, reader):
    proxy = start_proxy(llm_route(), extra='[limits]\nwrite_timeout = "500ms"\n', llm=upstream.url)
    front = relay(proxy.port)
    front.plan(request=b"POST /v1", after=20_000, action="stall")
    body = {**BODY, "max_tokens": 8000}
    slow = reader(front.url).post("/v1/chat/completions", body)
    slow.take(20)
    until(lambda: proxy.metric("stream_active") == 0, "the upstream is read to its end")
    until(lambda: proxy.metric("stream_attached_clients") == 0, "the slow connection is cut")
    headers = {"last-event-id": slow.ids[-1]}
    resumed = reader(proxy.url).post("/v1/chat/completions", body, headers=headers).finish()
    assert dense(slow.ids + resumed.ids)
    assert len(slow.ids + resumed.ids) == 8000 + 3
    assert resumed.data[-1] == "[DONE]"
    assert upstream.seen()["stream"] == 1


def test_http2_clients_are_served_alike(start_proxy, upstream):
    proxy = start_proxy(llm_route(), llm=upstream.url)
    argv = ["curl", "-sS", "--http2-prior-knowledge", "-N", "-w", "%{http_version}", "--json", json.dumps(BODY)]
    argv.append(f"{proxy.url}/v1/chat/completions")
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    stream, _, version = done.stdout.rpartition("\n")
    assert (done.returncode, version) == (0, "2")
    assert stream.count("data: ") == wire.ANSWER_WORDS + 3
    assert "data: [DONE]" in stream.rstrip().rpartition("\n\n")[2], "in the last block"


def test_an_idle_app_gets_the_generic_error_event(start_proxy, chat_app, reader, key):
    toml = route().replace('idle = "20s"', 'idle = "300ms"')
    proxy = start_proxy(toml, app=chat_app.url)
    stream = reader(proxy.url).post("/chat-robust", {"message": "hi", "key": key, "hold_at": 4}).finish()
    *content, last = stream.events
    assert told(content) == robust("hi", key)[:5]
    assert last.name == "error"
    error = last.json()
    assert (error["type"], error["code"]) == ("timeout", "idle_timeout")
    assert error["error"]["code"] == "idle_timeout"
    until(lambda: chat_app.cancelled("/chat-robust", key) == 1, "the app is let go")


def test_an_app_that_times_out_by_itself_is_heard_once(start_proxy, chat_app, reader, key):
    proxy = start_proxy(route(), app=chat_app.url)
    ask = {"message": "hi", "key": key, "hold_at": 3}
    stream = reader(proxy.url).post("/stream-timeout", ask, params={"limit_ms": 150}).finish()
    assert [event.data for event in stream.events[:-1]] == words("hi")[:3]
    assert [event.name for event in stream.events].count("error") == 1
    assert stream.events[-1].json()["type"] == "timeout"
    assert stream.end == "clean"


def test_a_refusal_before_the_stream_passes_as_the_app_said_it(start_proxy, chat_app, reader):
    proxy = start_proxy(route(), app=chat_app.url)
    for base in (chat_app.url, proxy.url):
        refused = reader(base).post("/chat-robust", {"message": " "}).response
        refused.read()
        assert (refused.status_code, refused.json()) == (400, {"detail": "message must not be empty"})


def test_the_callers_request_id_is_kept_and_said_in_errors(start_proxy, upstream, reader):
    proxy = start_proxy(llm_route(impatient("head")), llm=upstream.url)
    headers = {"x-request-id": "mine-42", "x-test-fault": "hang"}
    refused = reader(proxy.url).post("/v1/chat/completions", BODY, headers=headers).response
    refused.read()
    assert refused.headers["x-request-id"] == "mine-42"
    assert json.loads(refused.text)["error"]["request_id"] == "mine-42"


def test_development_details_stay_out_of_errors(start_proxy, upstream, reader):
    proxy = start_proxy(llm_route(), llm=upstream.url)
    last = completion(reader, proxy.url, "reset@2").events[-1]
    assert "traceback" not in last.json()
    assert str(upstream.port) not in last.data


def test_the_samples_hold_what_is_hard_to_carry():
    assert {"\n", '"', "\\", "😀"} <= set(wire.text())
