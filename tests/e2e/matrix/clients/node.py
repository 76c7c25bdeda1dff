"""The Node clients: one worker for all, one script each in `matrix/node`."""

from __future__ import annotations

from collections.abc import Callable

from harness.node import NodeWorker

from .seen import Ask, Client, Seen

WORKER = NodeWorker("../matrix/node/worker.mjs")
# Of its own, because this client makes its process look like a page, and the SDKs refuse to run in one.
PAGE = NodeWorker("../matrix/node/worker.mjs")


def asking(script: str, call: str = "ask", worker: NodeWorker = WORKER, **wishes: object) -> Callable[[str, str], Seen]:
    """Asks by the function `call` of `matrix/node/{script}.mjs`."""

    def ask(base: str, fault: str) -> Seen:
        return Seen(**worker.ask({"script": script, "call": call, "base": base, "fault": fault, **wishes}))

    return ask


def client(name: str, package: str, ask: Ask, *rest: object, **more: object) -> Client:
    """A client that runs on Node; types are named without their modules."""
    return Client(name, package, ask, *rest, language="Node", **more)


NODE = [
    client("openai, chat completions", "openai", asking("openai_chat"), "ChatCompletion", "stop", "APIError"),
    client(
        "openai, responses", "openai", asking("openai_responses"), "Response", "completed", "APIError",
        resume=asking("openai_responses", "again"), resume_requests=2,
    ),
    client(
        "openai 4.20, chat completions", "openai-4-20", asking("openai_chat", old=True), "ChatCompletionChunk", "stop",
        "APIError",
    ),
    client("@anthropic-ai/sdk", "@anthropic-ai/sdk", asking("anthropic"), "Message", "end_turn", "APIError"),
    client(
        "@google/genai", "@google/genai", asking("google"), "GenerateContentResponse", "STOP", "ApiError",
        marks=False,
    ),
    client(
        "ai with @ai-sdk/openai-compatible", "@ai-sdk/openai-compatible",
        asking("ai_sdk", provider="openai-compatible"), "DefaultStreamTextResult", "stop", "StreamProviderError",
    ),
    client(
        "ai with @ai-sdk/anthropic", "@ai-sdk/anthropic",
        asking("ai_sdk", provider="anthropic"), "DefaultStreamTextResult", "stop", "StreamProviderError",
    ),
    client(
        "eventsource", "eventsource", asking("eventsource"), "MessageEvent", None, "MessageEvent",
        hands_over=True, usage=False, resume=asking("eventsource", cut=True),
        no_fallback="a GET has no form without a stream", no_aimock="it speaks no vendor's wire",
    ),
    client(
        "@microsoft/fetch-event-source", "@microsoft/fetch-event-source",
        asking("fetch_event_source", worker=PAGE), "EventSourceMessage", "stop", "EventSourceMessage",
        hands_over=True, resume=asking("fetch_event_source", worker=PAGE, cut=True),
    ),
]
