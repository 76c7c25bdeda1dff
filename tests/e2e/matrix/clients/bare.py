"""Readers of event streams that know no vendor: their callers see events, and go on by hand after a break."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx
import httpx_sse
import requests
import sseclient

from .seen import Client, Seen

BODY = {
    "model": "fake",
    "stream": True,
    "messages": [{"role": "user", "content": "Count."}],
    "stream_options": {"include_usage": True},
}

# (url, headers) → events with `data`, `id` and `event`.
Open = Callable[[str, dict[str, str]], Iterator[object]]


def by_httpx(url: str, headers: dict[str, str]) -> Iterator[object]:
    """httpx-sse."""
    with httpx.Client(timeout=30) as client:
        with httpx_sse.connect_sse(client, "POST", url, json=BODY, headers=headers) as source:
            source.response.raise_for_status()
            yield from source.iter_sse()


def by_requests(url: str, headers: dict[str, str]) -> Iterator[object]:
    """sseclient-py on requests."""
    with requests.post(url, json=BODY, headers=headers, stream=True, timeout=30) as response:
        response.raise_for_status()
        yield from sseclient.SSEClient(response).events()


def read(events: Iterator[object], seen: Seen) -> Iterator[object]:
    """Takes events as callers do: chunks until `[DONE]`, an error where one is."""
    for event in events:
        yield event
        if event.data == "[DONE]":
            seen.ended(event)
            return
        data = json.loads(event.data)
        if "error" in data:
            # Nothing raises: the event is what the caller gets.
            seen.error = f"{type(event).__module__}.{type(event).__qualname__}"
            seen.code = data["error"]["code"]
            return
        for choice in data["choices"]:
            seen.text += choice["delta"].get("content") or ""
            seen.finish = choice["finish_reason"] or seen.finish
        seen.usage = data["usage"]["completion_tokens"] if data.get("usage") else seen.usage


def asking(open_stream: Open) -> Callable[[str, str], Seen]:
    """One answer."""

    def ask(base: str, fault: str) -> Seen:
        seen = Seen()
        for _ in read(open_stream(f"{base}/v1/chat/completions", {"x-test-fault": fault}), seen):
            pass
        return seen

    return ask


def resuming(open_stream: Open, lost: type[Exception]) -> Callable[[str, str], Seen]:
    """One answer in two requests: the second says the last id of the first, as the WHATWG text has it."""

    def ask(base: str, fault: str) -> Seen:
        seen, last, cut = Seen(), None, False
        url, headers = f"{base}/v1/chat/completions", {"x-test-fault": fault}
        try:
            for event in read(open_stream(url, headers), seen):
                last = event.id
        except lost:
            cut = True
        assert cut and last, "the connection was to break after some ids"
        for _ in read(open_stream(url, {**headers, "last-event-id": last}), seen):
            pass
        return seen

    return ask


BARE = [
    Client(
        "httpx-sse", "httpx-sse", asking(by_httpx), "ServerSentEvent", "stop", "httpx_sse._models.ServerSentEvent",
        hands_over=True, resume=resuming(by_httpx, httpx.TransportError),
    ),
    Client(
        "sseclient-py", "sseclient-py", asking(by_requests), "Event", "stop", "sseclient.Event",
        hands_over=True, resume=resuming(by_requests, requests.exceptions.RequestException),
    ),
]
