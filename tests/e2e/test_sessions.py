"""Looking at sessions, stopping them, leaving them, and keeping others out."""

from __future__ import annotations

import httpx
import pytest

from harness.chat import robust, route, told
from harness.process import until

UNKNOWN = "A" * 22


def start(reader, proxy, key: str, **headers: str):
    """A robust chat that waits at its tenth word, read as far as its fifth event."""
    ask = {"message": "hi", "key": key, "hold_at": 10}
    stream = reader(proxy.url).post("/chat-robust", ask, headers=headers)
    assert len(stream.take(5)) == 5
    return stream


def test_the_state_of_a_session_is_json(start_proxy, chat_app, reader, key):
    proxy = start_proxy(route(), app=chat_app.url)
    stream = start(reader, proxy, key)
    running = proxy.state(stream.session)
    assert (running.status_code, running.headers["content-type"].split(";")[0]) == (200, "application/json")
    assert stream.session in running.text
    assert "no-store" in running.headers["cache-control"]
    chat_app.release(key)
    stream.finish()
    assert proxy.state(stream.session).json() != running.json()


def test_the_admin_port_lists_sessions(start_proxy, chat_app, reader, key):
    proxy = start_proxy(route(), app=chat_app.url)
    stream = start(reader, proxy, key)
    listed = httpx.get(f"{proxy.admin}/api/sessions")
    assert (listed.status_code, listed.headers["content-type"].split(";")[0]) == (200, "application/json")
    assert proxy.metric("stream_active") == 1
    assert proxy.metric("stream_attached_clients") == 1
    chat_app.release(key)
    stream.finish()
    until(lambda: proxy.metric("stream_active") == 0, "no stream is active any more")


def test_a_deleted_session_lets_the_upstream_go_at_once_and_says_so(start_proxy, chat_app, reader, key):
    proxy = start_proxy(route(detach='{ mode = "continue" }'), app=chat_app.url)
    stream = start(reader, proxy, key)
    assert httpx.delete(proxy.session_url(stream.session)).status_code in (200, 202, 204)
    until(lambda: chat_app.cancelled("/chat-robust", key) == 1, "the app is let go")
    stream.finish()
    assert stream.events[-1].name == "error", "never a silent end"
    assert told(stream.events[:-1]) == robust("hi", key)[: len(stream.events) - 1]


def compared(response: httpx.Response) -> tuple:
    """All of a response that could tell two cases apart."""
    headers = [(name, value) for name, value in response.headers.raw if name.lower() != b"date"]
    return response.status_code, headers, response.content


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream", "*/*"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_foreign_session_is_unknown_byte_for_byte(start_proxy, chat_app, reader, key, method, accept):
    proxy = start_proxy(route(), app=chat_app.url)
    stream = start(reader, proxy, key, authorization="Bearer mine")
    for caller in ({"authorization": "Bearer theirs"}, {}, {"x-api-key": "mine"}):
        headers = {"accept": accept, "x-request-id": "same", **caller}
        foreign = httpx.request(method, proxy.session_url(stream.session), headers=headers)
        unknown = httpx.request(method, proxy.session_url(UNKNOWN), headers=headers)
        assert foreign.status_code == 404
        assert compared(foreign) == compared(unknown)
    chat_app.release(key)
    assert told(stream.finish().events) == robust("hi", key), "and the owner noticed nothing"


def test_a_foreign_last_event_id_gets_nothing_of_the_session(start_proxy, chat_app, reader, key):
    proxy = start_proxy(route(), app=chat_app.url)
    stream = start(reader, proxy, key, authorization="Bearer mine")
    headers = {"authorization": "Bearer theirs", "last-event-id": stream.ids[0]}
    foreign = reader(proxy.url).get("/chat-robust", params={"message": "hi", "key": f"{key}-b"}, headers=headers)
    foreign.response.read()
    assert foreign.response.status_code == 404
    chat_app.release(key)
    stream.finish()


@pytest.mark.parametrize("detach", ['{ mode = "cancel" }', '{ mode = "grace", grace = "200ms" }'])
def test_an_upstream_nobody_reads_is_let_go(start_proxy, chat_app, reader, key, detach):
    proxy = start_proxy(route(detach=detach), app=chat_app.url)
    client = reader(proxy.url)
    client.post("/chat-robust", {"message": "hi", "key": key, "hold_at": 10}).take(5)
    client.close()
    until(lambda: chat_app.cancelled("/chat-robust", key) == 1, "the app is let go")


def test_a_client_that_leaves_before_the_first_byte_lets_the_upstream_go(start_proxy, upstream, reader):
    toml = '[[routes]]\nmatch = { path = "/" }\nupstream = "llm"\ndetach = { mode = "cancel" }\n'
    proxy = start_proxy(toml, llm=upstream.url)
    body = {"model": "fake", "stream": True, "messages": []}
    with httpx.Client() as client, pytest.raises(httpx.ReadTimeout):
        client.post(f"{proxy.url}/v1/chat/completions", json=body, headers={"x-test-fault": "hang"}, timeout=0.3)
    until(lambda: upstream.seen()["left"] == 1, "the upstream is let go")


def test_a_session_told_to_continue_is_read_to_its_end_without_anybody(start_proxy, chat_app, reader, key):
    proxy = start_proxy(route(detach='{ mode = "continue" }'), app=chat_app.url)
    client = reader(proxy.url)
    stream = client.post("/chat-robust", {"message": "hi", "key": key, "hold_at": 10})
    stream.take(5)
    client.close()
    chat_app.release(key)
    later = reader(proxy.url).get(proxy.session_url(stream.session)).finish()
    assert told(later.events) == robust("hi", key)
    assert chat_app.cancelled("/chat-robust", key) == 0


def test_no_secret_and_no_prompt_reaches_log_or_metrics(start_proxy, chat_app, reader, key):
    proxy = start_proxy(route(), app=chat_app.url)
    secrets = {"authorization": "Bearer canary-token", "x-api-key": "canary-key", "cookie": "sid=canary-cookie"}
    ask = {"message": "canary-prompt", "key": key}
    reader(proxy.url).get("/chat-robust", params=ask, headers=secrets).finish()
    reader(proxy.url).post("/chat-robust", ask, headers=secrets).finish()
    until(lambda: proxy.metric("stream_duration_seconds_count") == 2, "both streams are over")
    told_to_operators = proxy.process.output() + httpx.get(f"{proxy.admin}/metrics").text
    told_to_operators += httpx.get(f"{proxy.admin}/api/sessions").text
    assert "canary" not in told_to_operators
