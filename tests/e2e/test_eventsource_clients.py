"""Real EventSource clients, cut in the middle, come back by themselves.

Nobody helps them: what they resume by is what the proxy wrote into the stream
(ids and retry hints), and they stop when the proxy answers 204.
"""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest

from harness.chat import dense, robust, route, told, words
from harness.node import run_node

NAMES = ["init", "done"]
CLIENTS = ["npm", "chromium"]


# Where an answer that is to be cut is held until its client has seen so much:
# what a client has received but not read is lost with its connection.
HELD = 3


def after_some(chat_app, key: str) -> dict:
    """The wish that lets the held answer of `key` go on once its client stands in it."""
    return {"after": HELD, "url": f"{chat_app.url}/release?key={key}"}


def watch(client: str, base: str, path: str, release: dict | None = None, **query: object) -> dict:
    """Runs an EventSource on a URL until the client gives up coming back."""
    if release:
        query["hold_at"] = HELD + 1
    url = f"{path}?{urlencode(query)}"
    wishes = {"release": release} if release else {}
    if client == "npm":
        return run_node("eventsource.mjs", wishes | {"url": f"{base}{url}", "names": NAMES})
    wishes |= {"page": f"{base}/page", "call": "watch", "with": [url, NAMES], "until": "closed"}
    return run_node("browser_client.mjs", wishes)


def spoken_errors(seen: dict) -> list[dict]:
    """The error events that came with data, unlike mere connection errors."""
    return [json.loads(error["data"]) for error in seen["errors"] if error["data"]]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_whole_stream_is_seen_once_and_then_the_client_stops(start_proxy, chat_app, key, client):
    proxy = start_proxy(route(), app=chat_app.url)
    seen = watch(client, proxy.url, "/chat-robust", message="hi", key=key)
    assert told(seen["events"]) == robust("hi", key)
    assert dense([event["id"] for event in seen["events"]])
    assert spoken_errors(seen) == []
    assert chat_app.asked("/chat-robust", key) == 1


@pytest.mark.parametrize("action", ["reset", "fin"])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_cut_twice_sees_every_event_once_in_order(start_proxy, chat_app, relay, key, client, action):
    proxy = start_proxy(route(), app=chat_app.url)
    front = relay(proxy.port)
    cuts = [front.plan(request=b"GET /chat-robust", marker=mark, action=action) for mark in (b"hi-5-", b"hi-14-")]
    seen = watch(client, front.url, "/chat-robust", after_some(chat_app, key), message="hi", key=key)
    assert [cut.done.is_set() for cut in cuts] == [True, True]
    assert told(seen["events"]) == robust("hi", key)
    assert dense([event["id"] for event in seen["events"]])
    assert len(seen["errors"]) >= 2
    assert chat_app.asked("/chat-robust", key) == 1
    assert chat_app.generations(key) == 1


@pytest.mark.parametrize("client", CLIENTS)
def test_the_apps_own_error_event_reaches_the_error_listener_with_data(start_proxy, chat_app, key, client):
    proxy = start_proxy(route(), app=chat_app.url)
    seen = watch(client, proxy.url, "/chat-robust", message="hi", key=key, fail_at=5)
    assert told(seen["events"]) == robust("hi", key)[:6]
    (error,) = spoken_errors(seen)
    assert error["type"] == "business"
    assert chat_app.generations(key) == 1


@pytest.mark.parametrize("client", CLIENTS)
def test_an_upstream_that_breaks_off_is_said_in_the_standard_error_event(start_proxy, chat_app, key, client):
    proxy = start_proxy(route(), app=chat_app.url)
    seen = watch(client, proxy.url, "/stream-raise", key=key)
    assert [event["data"] for event in seen["events"]] == words("raise", 10)[:5]
    (error,) = spoken_errors(seen)
    assert error["code"] in ("upstream_truncated", "upstream_reset")
    assert (error["type"], error["severity"], error["recoverable"]) == ("system", "error", True)
    assert error["request_id"]
    assert chat_app.generations(key) == 1


@pytest.mark.parametrize("client", CLIENTS)
def test_events_without_ids_get_some_and_are_resumed_by_them(start_proxy, chat_app, relay, key, client):
    proxy = start_proxy(route(), app=chat_app.url)
    front = relay(proxy.port)
    front.plan(request=b"GET /stream-no-ids", marker=b"Message 7", action="reset")
    seen = watch(client, front.url, "/stream-no-ids", after_some(chat_app, key), key=key, words=20)
    assert [event["data"] for event in seen["events"]] == [f"Message {number}" for number in range(20)]
    assert chat_app.generations(key) == 1


@pytest.mark.parametrize("client", CLIENTS)
def test_kept_ids_are_resumed_by_the_session_key(start_proxy, chat_app, relay, key, client):
    proxy = start_proxy(route(session_key='{ query = "session_id" }'), app=chat_app.url)
    front = relay(proxy.port)
    front.plan(request=b"GET /stream-resumable", marker=b"Message 9", action="reset")
    seen = watch(client, front.url, "/stream-resumable", after_some(chat_app, key), session_id=key)
    assert [event["id"] for event in seen["events"]] == [str(number) for number in range(1, 21)]
    assert chat_app.asked("/stream-resumable", key) == 1


@pytest.mark.parametrize("action", ["reset", "fin"])
def test_fetch_event_source_posts_again_and_is_resumed(start_proxy, chat_app, relay, key, action):
    proxy = start_proxy(route(), app=chat_app.url)
    front = relay(proxy.port)
    cut = front.plan(request=b"POST /chat-robust", marker=b"hi-7-", action=action)
    body = {"message": "hi", "key": key, "hold_at": HELD + 1}
    wishes = {"page": f"{front.url}/page", "call": "post", "with": ["/chat-robust", body], "until": "ended"}
    seen = run_node("browser_client.mjs", wishes | {"release": after_some(chat_app, key)})
    assert cut.done.is_set()
    assert seen["state"] == "ended"
    assert told(seen["events"]) == robust("hi", key)
    assert dense([event["id"] for event in seen["events"]])
    assert chat_app.asked("/chat-robust", key) == 1


def test_fetch_event_source_is_told_of_a_failure_and_ends(start_proxy, chat_app, key):
    proxy = start_proxy(route(), app=chat_app.url)
    wishes = {"page": f"{proxy.url}/page", "call": "post", "with": [f"/stream-raise?key={key}", {}], "until": "ended"}
    seen = run_node("browser_client.mjs", wishes)
    assert [event["name"] for event in seen["events"]] == ["message"] * 5 + ["error"]
    assert json.loads(seen["events"][-1]["data"])["type"] == "system"
    assert chat_app.generations(key) == 1
