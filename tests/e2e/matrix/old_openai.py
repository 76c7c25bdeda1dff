"""One streamed completion by an old openai SDK: `old_openai.py BASE FAULT`. What it saw goes to stdout as JSON.

Imports nothing of the tests: in this process the old SDK stands first on the
path.
"""

from __future__ import annotations

import json
import sys

import httpx
import openai


def main(base: str, fault: str) -> None:
    """Asks, and prints the fields of a `Seen`."""
    seen = {"text": "", "finish": None, "usage": None}
    # Given, because the old SDK would build one with arguments that httpx no longer takes.
    transport = httpx.Client(timeout=30)
    client = openai.OpenAI(base_url=f"{base}/v1", api_key="sk-test", max_retries=0, http_client=transport)
    wishes = {"model": "fake", "stream": True, "messages": [{"role": "user", "content": "Count."}]}
    more = {"extra_headers": {"x-test-fault": fault}, "extra_body": {"stream_options": {"include_usage": True}}}
    chunk = None
    try:
        for chunk in client.chat.completions.create(**wishes, **more):
            for choice in chunk.choices:
                seen["text"] += choice.delta.content or ""
                seen["finish"] = choice.finish_reason or seen["finish"]
            # Not a field of this version; it keeps what it does not know.
            usage = getattr(chunk, "usage", None)
            seen["usage"] = usage["completion_tokens"] if usage else seen["usage"]
        seen["kind"] = f"{type(chunk).__module__}.{type(chunk).__qualname__}"
    except openai.OpenAIError as error:
        seen["error"] = f"{type(error).__module__}.{type(error).__qualname__}"
        seen["code"] = getattr(error, "code", None)
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
