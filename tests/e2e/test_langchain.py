"""LangChain's ChatOpenAI through the proxy: it stands on the Python SDK, with habits of its own."""

from __future__ import annotations

import asyncio

import openai
import pytest
from langchain_openai import ChatOpenAI

import openai_wire as wire
from harness.outcomes import route


def model(base: str, fault: str = "ok") -> ChatOpenAI:
    """A model that asks for usage, as LangChain does by itself for the vendor."""
    return ChatOpenAI(
        base_url=f"{base}/v1",
        api_key="sk-test",
        model="fake",
        max_retries=0,
        stream_usage=True,
        default_headers={"x-test-fault": fault},
    )


def test_a_stream_arrives_exactly_with_its_usage(start_proxy, upstream):
    proxy = start_proxy(route(), llm=upstream.url)
    chunks = list(model(proxy.url).stream("Count."))
    assert "".join(chunk.content for chunk in chunks) == wire.text()
    assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata) == wire.ANSWER_WORDS


def test_the_asynchronous_stream_arrives_exactly(start_proxy, upstream):
    proxy = start_proxy(route(), llm=upstream.url)

    async def read() -> str:
        return "".join([chunk.content async for chunk in model(proxy.url).astream("Count.")])

    assert asyncio.run(read()) == wire.text()


@pytest.mark.parametrize("fault", ["reset@5", "truncate@5", "error@5"])
def test_a_broken_stream_raises_instead_of_ending_early(start_proxy, upstream, fault):
    proxy = start_proxy(route(), llm=upstream.url)
    seen = []
    with pytest.raises(openai.APIError):
        for chunk in model(proxy.url, fault).stream("Count."):
            seen.append(chunk.content)
    assert "".join(seen) == wire.text(5)


def test_a_rate_limit_raises_its_own_error(start_proxy, upstream):
    proxy = start_proxy(route(), llm=upstream.url)
    with pytest.raises(openai.RateLimitError):
        list(model(proxy.url, "429").stream("Count."))
