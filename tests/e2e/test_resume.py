"""Coming back: by our ids, by the upstream's, by Idempotency-Key, on every door there is."""

from __future__ import annotations

import pytest

from harness.chat import dense, robust, route, told
from harness.outcomes import route as llm_route

KEPT = {"session_key": '{ query = "session_id" }'}


def kept(first: int, last: int = 20) -> list[str]:
    """The ids of the resumable endpoint."""
    return [str(number) for number in range(first, last + 1)]


def test_an_upstream_that_numbers_its_events_keeps_its_ids(start_proxy, chat_app, reader, key):
    proxy = start_proxy(route(**KEPT), app=chat_app.url)
    stream = reader(proxy.url).get("/stream-resumable", params={"session_id": key}).finish()
    assert stream.ids == kept(1)
    assert stream.end == "clean"


def test_a_resume_inside_the_ring_asks_the_upstream_nothing(start_proxy, chat_app, reader, key):
    proxy = start_proxy(route(**KEPT), app=chat_app.url)
    params = {"session_id": key, "hold_at": 10}
    first = reader(proxy.url)
    assert [event.id for event in first.get("/stream-resumable", params=params).take(9)] == kept(1, 9)
    first.close()
    again = reader(proxy.url).get("/stream-resumable", params=params, headers={"last-event-id": "5"})
    assert [event.id for event in again.take(4)] == kept(6, 9)
    assert again.source == "replay"
    chat_app.release(key)
    assert again.finish().ids == kept(6)
    assert chat_app.asked("/stream-resumable", key) == 1


def test_a_proxy_that_has_forgotten_lets_the_upstream_resume(start_proxy, chat_app, reader, key):
    proxy = start_proxy(route(**KEPT), app=chat_app.url)
    assert reader(proxy.url).get("/stream-resumable", params={"session_id": key}).finish().ids == kept(1)
    proxy.restart()
    again = reader(proxy.url).get("/stream-resumable", params={"session_id": key}, headers={"last-event-id": "5"})
    assert again.finish().ids == kept(6)
    assert chat_app.asked("/stream-resumable", key) == 2


def test_the_same_session_key_without_a_last_event_id_is_a_new_session(start_proxy, chat_app, reader, key):
    proxy = start_proxy(route(**KEPT), app=chat_app.url)
    client = reader(proxy.url)
    streams = [client.get("/stream-resumable", params={"session_id": key}).finish() for _ in range(2)]
    assert streams[0].ids == streams[1].ids == kept(1)
    assert streams[0].session != streams[1].session
    assert chat_app.asked("/stream-resumable", key) == 2


def test_a_broken_upstream_that_can_resume_is_asked_to(start_proxy, chat_app, relay, reader, key):
    behind = relay(chat_app.port)
    behind.plan(request=b"GET /stream-resumable", marker=b"Message 12", action="reset")
    proxy = start_proxy(route(after_partial='["native_resume"]', **KEPT), app=behind.url)
    stream = reader(proxy.url).get("/stream-resumable", params={"session_id": key}).finish()
    assert (stream.ids, stream.end) == (kept(1), "clean")
    assert chat_app.asked("/stream-resumable", key) == 2


@pytest.mark.parametrize("door", ["get", "post", "session", "session query"])
def test_our_ids_are_resumed_on_every_door(start_proxy, chat_app, reader, key, door):
    proxy = start_proxy(route(), app=chat_app.url)
    ask = {"message": "hi", "key": key, "hold_at": 10}
    first = reader(proxy.url)
    stream = first.get("/chat-robust", params=ask) if door == "get" else first.post("/chat-robust", ask)
    last = stream.take(8)[-1].id
    first.close()
    again = reader(proxy.url)
    headers = {"last-event-id": last}
    if door == "get":
        resumed = again.get("/chat-robust", params=ask, headers=headers)
    elif door == "post":
        resumed = again.post("/chat-robust", ask, headers=headers)
    elif door == "session":
        resumed = again.get(proxy.session_url(stream.session), headers=headers)
    else:
        resumed = again.get(proxy.session_url(stream.session), params={"last_event_id": last})
    chat_app.release(key)
    assert resumed.finish().session == stream.session
    assert told(stream.events + resumed.events) == robust("hi", key)
    assert dense(stream.ids + resumed.ids)
    assert chat_app.generations(key) == 1


def test_a_finished_answer_seen_whole_is_204_to_get_and_an_empty_stream_to_post(start_proxy, chat_app, reader, key):
    proxy = start_proxy(route(), app=chat_app.url)
    client, ask = reader(proxy.url), {"message": "hi", "key": key}
    whole = client.post("/chat-robust", ask).finish()
    headers = {"last-event-id": whole.ids[-1]}
    assert client.get("/chat-robust", params=ask, headers=headers).response.status_code == 204
    assert client.get(proxy.session_url(whole.session), headers=headers).response.status_code == 204
    posted = client.post("/chat-robust", ask, headers=headers).finish()
    assert (posted.response.status_code, posted.events, posted.end) == (200, [], "clean")
    assert posted.response.headers["content-type"].startswith("text/event-stream")
    assert chat_app.generations(key) == 1


def test_several_clients_read_one_session_at_once(start_proxy, chat_app, reader, key):
    proxy = start_proxy(route(), app=chat_app.url)
    first = reader(proxy.url).post("/chat-robust", {"message": "hi", "key": key, "hold_at": 10})
    first.take(5)
    others = [reader(proxy.url).get(proxy.session_url(first.session)) for _ in range(3)]
    chat_app.release(key)
    for stream in (first, *others):
        assert told(stream.finish().events) == robust("hi", key)
    assert chat_app.generations(key) == 1


def test_a_repeated_post_with_the_same_idempotency_key_joins_and_is_paid_once(start_proxy, chat_app, reader, key):
    proxy = start_proxy(route(), app=chat_app.url)
    ask, headers = {"message": "hi", "key": key, "hold_at": 10}, {"idempotency-key": key}
    streams = [reader(proxy.url).post("/chat-robust", ask, headers=headers) for _ in range(2)]
    chat_app.release(key)
    assert [told(stream.finish().events) for stream in streams] == [robust("hi", key)] * 2
    assert streams[0].session == streams[1].session
    assert chat_app.generations(key) == 1


def test_an_idempotency_key_reused_for_something_else_is_422(start_proxy, chat_app, reader, key):
    proxy = start_proxy(route(), app=chat_app.url)
    client, headers = reader(proxy.url), {"idempotency-key": key}
    client.post("/chat-robust", {"message": "hi", "key": key}, headers=headers).finish()
    other = client.post("/chat-robust", {"message": "other", "key": key}, headers=headers)
    assert other.response.status_code == 422
    other.response.read()
    assert other.response.json()["code"] == "invalid_request"
    assert chat_app.generations(key) == 1


def test_an_idempotency_key_of_another_caller_is_another_key(start_proxy, chat_app, reader, key):
    proxy = start_proxy(route(), app=chat_app.url)
    for token in ("one", "two"):
        headers = {"idempotency-key": key, "authorization": f"Bearer {token}"}
        stream = reader(proxy.url).post("/chat-robust", {"message": "hi", "key": key}, headers=headers)
        assert told(stream.finish().events) == robust("hi", key)
    assert chat_app.generations(key) == 2


@pytest.mark.parametrize("wrong", ["nonsense", "../../etc", "a.b.c", "1" * 200])
def test_a_malformed_id_is_400_and_never_replays_everything(start_proxy, chat_app, reader, key, wrong):
    proxy = start_proxy(route(), app=chat_app.url)
    client = reader(proxy.url)
    session = client.post("/chat-robust", {"message": "hi", "key": key}).finish().session
    refused = client.get(proxy.session_url(session), headers={"last-event-id": wrong})
    assert refused.response.status_code == 400
    refused.response.read()
    assert refused.response.json()["code"] == "invalid_request"


def test_what_is_evicted_is_said_in_a_gap_without_an_id(start_proxy, chat_app, reader, key):
    proxy = start_proxy(route(), extra="[session]\nmax_events = 5\n", app=chat_app.url)
    client = reader(proxy.url)
    whole = client.get("/stream-no-ids", params={"key": key}).finish()
    again = client.get("/stream-no-ids", params={"key": key}, headers={"last-event-id": whole.ids[2]}).finish()
    gap, *rest = again.events
    assert (gap.name, gap.id) == ("gap", None)
    assert gap.json()["reason"] == "evicted"
    assert 0 < len(rest) <= 5
    assert [(event.id, event.data) for event in rest] == list(zip(whole.ids, whole.data, strict=True))[-len(rest) :]
    assert chat_app.generations(key) == 1


def test_an_openai_stream_is_resumed_in_the_middle(start_proxy, upstream, reader):
    proxy = start_proxy(llm_route(), llm=upstream.url)
    body = {"model": "fake", "stream": True, "messages": []}
    headers = {"x-test-fault": "hold@6"}
    first = reader(proxy.url).post("/v1/chat/completions", body, headers=headers)
    last = first.take(4)[-1].id
    again = reader(proxy.url).post("/v1/chat/completions", body, headers={**headers, "last-event-id": last})
    upstream.release()
    assert first.finish().data[4:] == again.finish().data
    assert first.data[-1] == "[DONE]"
    assert upstream.seen()["stream"] == 1
