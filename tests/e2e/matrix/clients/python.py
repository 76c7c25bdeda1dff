"""The Python SDKs, each used as its manual says, with its own retries off."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import anthropic
import cohere
import httpx
import openai
from google import genai
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import BaseMessageChunk
from langchain_openai import ChatOpenAI
from mistralai.client import Mistral

from .seen import Client, Seen

MESSAGES = [{"role": "user", "content": "Count."}]
HERE = Path(__file__).resolve().parents[1]
OLD = HERE.parent / ".venv/old"


def openai_client(base: str, fault: str) -> openai.OpenAI:
    """The official client."""
    return openai.OpenAI(
        base_url=f"{base}/v1", api_key="sk-test", max_retries=0, timeout=30, default_headers={"x-test-fault": fault}
    )


def openai_chat(base: str, fault: str) -> Seen:
    """Chat completions with the SDK's accumulator."""
    seen = Seen()
    wishes = {"model": "fake", "messages": MESSAGES, "stream_options": {"include_usage": True}}
    try:
        with openai_client(base, fault) as client, client.chat.completions.stream(**wishes) as stream:
            for event in stream:
                seen.text += event.delta if event.type == "content.delta" else ""
            final = stream.get_final_completion()
        assert final.choices[0].message.content == seen.text
        seen.finish, seen.usage = final.choices[0].finish_reason, final.usage.completion_tokens
        seen.ended(final)
    except openai.OpenAIError as error:
        seen.caught(error)
    return seen


def openai_responses(base: str, fault: str) -> Seen:
    """Responses with the SDK's accumulator."""
    seen = Seen()
    try:
        with openai_client(base, fault) as client, client.responses.stream(model="fake", input="Count.") as stream:
            for event in stream:
                seen.text += event.delta if event.type == "response.output_text.delta" else ""
            final = stream.get_final_response()
        assert final.output_text == seen.text
        seen.finish, seen.usage = final.status, final.usage.output_tokens
        seen.ended(final)
    except openai.OpenAIError as error:
        seen.caught(error)
    return seen


def openai_responses_again(base: str, fault: str) -> Seen:
    """A background response, asked for again from where its stream broke."""
    seen, last, made, final = Seen(), None, None, None
    with openai_client(base, fault) as client:
        try:
            for event in client.responses.create(model="fake", input="Count.", background=True, stream=True):
                last = event.sequence_number
                made = event.response.id if event.type == "response.created" else made
                seen.text += event.delta if event.type == "response.output_text.delta" else ""
        except (openai.APIConnectionError, httpx.TransportError):
            for event in client.responses.retrieve(made, stream=True, starting_after=last):
                seen.text += event.delta if event.type == "response.output_text.delta" else ""
                final = event.response if event.type == "response.completed" else final
    assert final is not None, "the stream was not cut, or did not go on"
    seen.finish, seen.usage = final.status, final.usage.output_tokens
    seen.ended(final)
    return seen


def openai_old(base: str, fault: str) -> Seen:
    """The old SDK in a process of its own, its folder first on the path."""
    argv = [sys.executable, str(HERE / "old_openai.py"), base, fault]
    env = {"PYTHONPATH": str(OLD / "openai-1.12.0"), "NO_PROXY": "127.0.0.1", "PATH": ""}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return Seen(**json.loads(done.stdout))


def anthropic_messages(base: str, fault: str) -> Seen:
    """Messages with the SDK's accumulator."""
    seen = Seen()
    wishes = {"model": "fake", "max_tokens": 100, "messages": MESSAGES}
    try:
        with anthropic.Anthropic(
            base_url=base, api_key="sk-test", max_retries=0, timeout=30, default_headers={"x-test-fault": fault}
        ) as client, client.messages.stream(**wishes) as stream:
            for piece in stream.text_stream:
                seen.text += piece
            final = stream.get_final_message()
        assert "".join(block.text for block in final.content) == seen.text
        seen.finish, seen.usage = final.stop_reason, final.usage.output_tokens
        seen.ended(final)
    except anthropic.AnthropicError as error:
        seen.caught(error)
    return seen


def google(base: str, fault: str) -> Seen:
    """A content stream; this SDK has no accumulator, so the last part counts."""
    seen, last = Seen(), None
    # The version that aimock knows, too.
    named = {"base_url": base, "api_version": "v1beta"}
    options = genai.types.HttpOptions(**named, headers={"x-test-fault": fault}, timeout=30_000)
    client = genai.Client(api_key="test", http_options=options)
    try:
        for last in client.models.generate_content_stream(model="gemini-fake", contents="Count."):
            seen.text += last.text or ""
        seen.finish = last.candidates[0].finish_reason and last.candidates[0].finish_reason.name
        seen.usage = last.usage_metadata.candidates_token_count
        seen.ended(last)
    except Exception as error:  # noqa: BLE001  (whatever it raises is what is tested)
        seen.caught(error)
    return seen


def mistral(base: str, fault: str) -> Seen:
    """A chat stream; no accumulator here either."""
    seen, last = Seen(), None
    with Mistral(api_key="test", server_url=base, timeout_ms=30_000) as client:
        try:
            with client.chat.stream(model="fake", messages=MESSAGES, http_headers={"x-test-fault": fault}) as events:
                for event in events:
                    last = event
                    seen.text += event.data.choices[0].delta.content or ""
                    seen.finish = event.data.choices[0].finish_reason or seen.finish
                    seen.usage = event.data.usage.completion_tokens if event.data.usage else seen.usage
            seen.ended(last)
        except Exception as error:  # noqa: BLE001
            seen.caught(error)
    return seen


def cohere_chat(base: str, fault: str) -> Seen:
    """A chat stream of version 2; no accumulator."""
    seen, last = Seen(), None
    client = cohere.ClientV2(api_key="test", base_url=base, timeout=30)
    options = {"additional_headers": {"x-test-fault": fault}, "max_retries": 0}
    try:
        for event in client.chat_stream(model="fake", messages=MESSAGES, request_options=options):
            last = event
            if event.type == "content-delta":
                seen.text += event.delta.message.content.text
            elif event.type == "message-end":
                seen.finish = event.delta.finish_reason
                seen.usage = event.delta.usage and int(event.delta.usage.tokens.output_tokens)
        seen.ended(last)
    except Exception as error:  # noqa: BLE001
        seen.caught(error)
    return seen


def langchain(model: ChatOpenAI | ChatAnthropic, reason: str) -> Seen:
    """Chunks added up as LangChain does; `reason` is the metadata's name for why it ended."""
    seen, whole = Seen(), None
    try:
        for chunk in model.stream("Count."):
            whole = chunk if whole is None else whole + chunk
            seen.text += chunk.text
        assert isinstance(whole, BaseMessageChunk)
        seen.finish = whole.response_metadata.get(reason)
        seen.usage = whole.usage_metadata and whole.usage_metadata["output_tokens"]
        seen.ended(whole)
    except (openai.OpenAIError, anthropic.AnthropicError, httpx.HTTPError) as error:
        seen.caught(error)
    return seen


def langchain_openai(base: str, fault: str) -> Seen:
    """ChatOpenAI."""
    common = {"api_key": "sk-test", "model": "fake", "max_retries": 0, "default_headers": {"x-test-fault": fault}}
    model = ChatOpenAI(base_url=f"{base}/v1", stream_usage=True, **common)
    return langchain(model, "finish_reason")


def langchain_anthropic(base: str, fault: str) -> Seen:
    """ChatAnthropic."""
    model = ChatAnthropic(
        base_url=base, api_key="sk-test", model="fake", max_retries=0, default_headers={"x-test-fault": fault}
    )
    return langchain(model, "stop_reason")



PYTHON = [
    Client("openai, chat completions", "openai", openai_chat, "ParsedChatCompletion", "stop", "openai.APIError"),
    Client(
        "openai, responses", "openai", openai_responses, "ParsedResponse", "completed", "openai.APIError",
        resume=openai_responses_again, resume_requests=2, resume_kind="Response",
    ),
    Client(
        "openai 1.12, chat completions", "old/openai-1.12.0", openai_old, "ChatCompletionChunk", "stop",
        "openai.APIError",
    ),
    Client(
        "anthropic", "anthropic", anthropic_messages, "ParsedMessage", "end_turn", "anthropic.APIStatusError",
    ),
    Client(
        "google-genai", "google-genai", google, "GenerateContentResponse", "STOP", "google.genai.errors.ServerError",
        marks=False,
    ),
    Client(
        "mistralai", "mistralai", mistral, "CompletionEvent", "stop",
        "mistralai.client.errors.responsevalidationerror.ResponseValidationError",
    ),
    # Its type has no place for a code, and what raises is the broken body.
    Client(
        "cohere", "cohere", cohere_chat, "MessageEndV2ChatStreamResponse", "COMPLETE", "httpx.RemoteProtocolError",
        codes=False, failed_finish="ERROR",
    ),
    Client("langchain-openai", "langchain-openai", langchain_openai, "AIMessageChunk", "stop", "openai.APIError"),
    Client(
        "langchain-anthropic", "langchain-anthropic", langchain_anthropic, "AIMessageChunk", "end_turn",
        "anthropic.APIStatusError",
    ),
]
