"""The official Python SDK through the proxy, with ids, hints and heartbeats on."""

from __future__ import annotations

from dataclasses import dataclass, field

import openai
import pytest

import openai_wire as wire
from harness.outcomes import OUTCOMES, Outcome, route


@dataclass
class Seen:
    """What the SDK's caller got."""

    text: str = ""
    chunks: int = 0
    finish: str | None = None
    usage: object = None
    error: openai.OpenAIError | None = None
    response_headers: dict[str, str] = field(default_factory=dict)


def ask(base: str, fault: str = "ok", *, legacy: bool = False, usage: bool = False, retries: int = 0) -> Seen:
    """One streamed completion; never raises an error of the SDK's own but keeps it."""
    seen = Seen()
    with openai.OpenAI(base_url=f"{base}/v1", api_key="sk-test", max_retries=retries, timeout=30) as client:
        wishes = {"model": "fake", "stream": True, "extra_headers": {"x-test-fault": fault}}
        if usage:
            wishes["stream_options"] = {"include_usage": True}
        if legacy:
            endpoint, wishes["prompt"] = client.completions, "Count."
        else:
            endpoint, wishes["messages"] = client.chat.completions, [{"role": "user", "content": "Count."}]
        try:
            raw = endpoint.with_raw_response.create(**wishes)
            seen.response_headers = dict(raw.headers)
            for chunk in raw.parse():
                read(chunk, seen, legacy)
        except openai.OpenAIError as error:
            seen.error = error
    return seen


def read(chunk, seen: Seen, legacy: bool) -> None:
    """Adds one chunk."""
    seen.chunks += 1
    seen.usage = chunk.usage or seen.usage
    for choice in chunk.choices:
        seen.text += (choice.text if legacy else choice.delta.content) or ""
        seen.finish = choice.finish_reason or seen.finish


@pytest.mark.parametrize("legacy", [False, True], ids=["chat", "completions"])
def test_a_whole_stream_arrives_exactly(start_proxy, upstream, legacy):
    proxy = start_proxy(route(), llm=upstream.url)
    seen = ask(proxy.url, legacy=legacy, usage=True)
    assert seen.error is None
    assert seen.text == wire.text()
    assert seen.finish == "stop"
    assert seen.usage.completion_tokens == wire.ANSWER_WORDS
    assert len(seen.response_headers["streamkeeper-session"]) == 22
    assert seen.response_headers["streamkeeper-source"] == "live"


@pytest.mark.parametrize("shape", ["gzip", "pings", "crlf", "trickle", "json"])
def test_unusual_but_legal_upstreams_arrive_exactly(start_proxy, upstream, shape):
    proxy = start_proxy(route(), llm=upstream.url)
    seen = ask(proxy.url, shape)
    assert (seen.error, seen.text, seen.finish) == (None, wire.text(), "stop")


def test_a_connection_that_trickles_byte_by_byte_changes_nothing(start_proxy, upstream, relay):
    behind = relay(upstream.port)
    behind.plan(request=b"POST /v1", piece=1)
    proxy = start_proxy(route(), llm=behind.url)
    front = relay(proxy.port)
    front.plan(request=b"POST /v1", piece=1)
    assert ask(front.url).text == wire.text()


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: outcome.name)
def test_every_failure_raises_the_sdks_own_error(start_proxy, upstream, outcome: Outcome):
    proxy = start_proxy(route(outcome.timeouts), llm=upstream.url)
    seen = ask(proxy.url, outcome.fault)
    assert type(seen.error).__name__ == outcome.error
    assert seen.error.code in outcome.codes
    assert seen.finish is None
    if outcome.words is None:
        assert seen.text == ""
        assert seen.error.status_code == outcome.status
        if outcome.retry_after is not None:
            assert seen.error.response.headers["retry-after"] == outcome.retry_after
    else:
        assert seen.text == wire.text(outcome.words)
        standard = seen.error.body
        assert standard["severity"] in ("warning", "error", "fatal")
        assert isinstance(standard["recoverable"], bool)
        assert standard["request_id"] == seen.response_headers["x-request-id"]
    assert upstream.seen()["stream"] == 1, "one generation, whatever happens"


def test_a_refused_connection_is_a_server_error(start_proxy, dead_port):
    proxy = start_proxy(route(), llm=f"http://127.0.0.1:{dead_port}")
    error = ask(proxy.url).error
    assert isinstance(error, openai.InternalServerError)
    assert (error.status_code, error.code) == (502, "upstream_unreachable")


def test_a_retry_of_the_proxy_waits_as_the_upstream_asked_and_then_succeeds(start_proxy, upstream):
    proxy = start_proxy(route(retry="{ attempts = 3 }"), llm=upstream.url)
    assert ask(proxy.url, "429:1").text == wire.text()
    assert upstream.seen()["stream"] == 2


def test_the_sdks_own_retry_still_works(start_proxy, upstream):
    proxy = start_proxy(route(), llm=upstream.url)
    assert ask(proxy.url, "503:1", retries=2).text == wire.text()
    assert upstream.seen()["stream"] == 2


def test_attempts_are_all_tries_and_no_more(start_proxy, upstream):
    proxy = start_proxy(route(retry='{ attempts = 3, base = "10ms", after_send = true }'), llm=upstream.url)
    assert isinstance(ask(proxy.url, "500").error, openai.InternalServerError)
    assert upstream.seen()["stream"] == 3


@pytest.mark.parametrize("fault", ["500", "html", "json-error", "hang"])
def test_a_fallback_gives_the_whole_answer_where_no_stream_can_be_had(start_proxy, upstream, fault):
    timeouts = next(outcome.timeouts for outcome in OUTCOMES if outcome.fault == fault)
    proxy = start_proxy(route(timeouts, fallback='{ mode = "non_stream" }'), llm=upstream.url)
    seen = ask(proxy.url, fault, usage=True)
    assert (seen.error, seen.text, seen.finish) == (None, wire.text(), "stop")
    assert seen.usage.completion_tokens == wire.ANSWER_WORDS
    assert seen.response_headers["streamkeeper-source"] == "fallback"
    assert upstream.seen()["plain"] == 1


@pytest.mark.parametrize("fault", ["reset@5", "truncate@5", "error@5"])
def test_a_fallback_completes_an_answer_that_broke_off(start_proxy, upstream, fault):
    keys = {"fallback": '{ mode = "non_stream" }', "after_partial": '["fallback"]'}
    proxy = start_proxy(route(**keys), llm=upstream.url)
    seen = ask(proxy.url, fault)
    assert (seen.error, seen.text, seen.finish) == (None, wire.text(), "stop")
    assert (upstream.seen()["stream"], upstream.seen()["plain"]) == (1, 1)


def test_a_second_endpoint_takes_over_where_the_first_refuses(start_proxy, upstream, dead_port):
    proxy = start_proxy(route(retry="{ attempts = 2 }"), llm=[f"http://127.0.0.1:{dead_port}", upstream.url])
    for _ in range(4):
        assert ask(proxy.url).text == wire.text()


def test_a_plain_answer_passes_as_it_is(start_proxy, upstream):
    proxy = start_proxy(route(), llm=upstream.url)
    with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="sk-test", max_retries=0) as client:
        answer = client.chat.completions.create(model="fake", messages=[{"role": "user", "content": "Count."}])
    assert answer.choices[0].message.content == wire.text()
