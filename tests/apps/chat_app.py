"""An ordinary chat service, as people write them with FastAPI and LangChain.

What it is: the unchanged app that stands behind the proxy in the end-to-end
tests. Its streams have the usual shape (`init`, data, `error`, `done`), it can
resume by itself in one place, and it breaks on request. LangChain's fake chat
model plays the model, so no answer ever differs.

What it is not: an example of good streaming. It knows nothing of the proxy,
and nothing here may be changed to please it.

Every stream that asks the model counts as one generation under the caller's
`key`, so that a test can tell whether an answer was paid for once or twice.
A stream told to `hold_at` an event waits before it until `POST /release`, so
a test can cut a connection at a known place without guessing at times.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, StreamingResponse
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from plain_endpoints import add_plain_endpoints
from pydantic import BaseModel
from tally import Gates, Tally

LONGEST_MESSAGE = 200
HERE = Path(__file__).parent

app = FastAPI()
tally = Tally()
gates = Gates()
add_plain_endpoints(app)


class ModelBroke(RuntimeError):
    """The model gave up in the middle of an answer."""


class Ask(BaseModel):
    """What a caller may say about the answer it wants."""

    message: str = ""
    key: str = "anonymous"
    words: int = 20
    delay_ms: int = 2
    hold_at: int | None = None
    fail_at: int | None = None


def answer(message: str, words: int) -> str:
    """The model's whole answer: numbered words, so that loss and doubling show."""
    ornaments = ["plain", "größe", "日本", "😀", "a:b", "\\n"]
    return " ".join(f"{message}-{n}-{ornaments[n % len(ornaments)]}" for n in range(words))


async def tokens_of(ask: Ask) -> AsyncIterator[str]:
    """Streams the answer word by word (a word keeps the blank that follows it).

    Raises ModelBroke before word `fail_at`.
    """
    tally.generation(ask.key)
    model = GenericFakeChatModel(messages=iter([AIMessage(answer(ask.message, ask.words))]))
    word, seen = "", 0
    async for chunk in model.astream(ask.message):
        if word and chunk.content and not chunk.content.isspace():
            await before_event(ask, seen)
            yield word
            word, seen = "", seen + 1
        word += chunk.content
    if word:
        await before_event(ask, seen)
        yield word


async def before_event(ask: Ask, number: int) -> None:
    """The pace of a stream, its gate, and its planned accident."""
    if ask.fail_at == number:
        raise ModelBroke(f"no memory left at word {number}")
    if ask.hold_at == number:
        await gates.wait(ask.key)
    await asyncio.sleep(ask.delay_ms / 1000)


def event(data: str, *, name: str | None = None, event_id: int | None = None) -> str:
    """One event as the app writes it; `data` holds no line break."""
    lines = []
    if event_id is not None:
        lines.append(f"id: {event_id}")
    if name is not None:
        lines.append(f"event: {name}")
    lines.append(f"data: {data}")
    return "\n".join(lines) + "\n\n"


def error_event(kind: str, message: str, recoverable: bool) -> str:
    """The app's own error event, in the shape its clients know."""
    body = {"type": kind, "severity": "error", "message": message, "recoverable": recoverable}
    return event(json.dumps(body), name="error")


def stream(path: str, key: str, body: AsyncIterator[str]) -> StreamingResponse:
    """Counts the request, and whether its reader stayed until the end."""
    tally.asked(path, key)

    async def watched() -> AsyncIterator[str]:
        try:
            async for piece in body:
                yield piece
        except asyncio.CancelledError:
            tally.cancelled(path, key)
            raise

    headers = {"Cache-Control": "no-cache"}
    return StreamingResponse(watched(), media_type="text/event-stream", headers=headers)


def robust(ask: Ask) -> StreamingResponse:
    """The usual four kinds of event around one answer."""
    if not ask.message.strip():
        raise HTTPException(400, "message must not be empty")
    if len(ask.message) > LONGEST_MESSAGE:
        raise HTTPException(400, f"message is longer than {LONGEST_MESSAGE}")

    async def body() -> AsyncIterator[str]:
        count = 0
        yield event(json.dumps({"model": "fake", "key": ask.key}), name="init")
        try:
            async for token in tokens_of(ask):
                count += 1
                yield event(token)
        except ModelBroke as broke:
            yield error_event("business", str(broke), recoverable=True)
            return
        yield event(json.dumps({"token_count": count}), name="done")

    return stream("/chat-robust", ask.key, body())


@app.post("/chat-robust")
async def chat_robust_post(ask: Ask) -> StreamingResponse:
    """The robust chat for fetch-based clients."""
    return robust(ask)


@app.get("/chat-robust")
async def chat_robust_get(request: Request) -> StreamingResponse:
    """The same for EventSource, which can only GET."""
    return robust(Ask(**dict(request.query_params)))


@app.get("/stream-resumable")
async def stream_resumable(
    request: Request, session_id: str, total: int = 20, delay_ms: int = 2, hold_at: int | None = None
) -> StreamingResponse:
    """Numbers its own events from 1 and goes on after Last-Event-ID."""
    first = int(request.headers.get("last-event-id") or 0) + 1
    ask = Ask(key=session_id, delay_ms=delay_ms, hold_at=hold_at)

    async def body() -> AsyncIterator[str]:
        for number in range(first, total + 1):
            await before_event(ask, number)
            yield event(f"Message {number}", event_id=number)

    return stream("/stream-resumable", session_id, body())


@app.post("/stream-timeout")
async def stream_timeout(ask: Ask, limit_ms: int = 100) -> StreamingResponse:
    """Has a deadline of its own and says so in an event when it passes."""

    async def body() -> AsyncIterator[str]:
        try:
            async with asyncio.timeout(limit_ms / 1000):
                async for token in tokens_of(ask):
                    yield event(token)
        except TimeoutError:
            yield error_event("timeout", f"no answer within {limit_ms} ms", recoverable=True)

    return stream("/stream-timeout", ask.key, body())


@app.api_route("/stream-raise", methods=["GET", "POST"])
async def stream_raise(key: str = "anonymous", words: int = 10, fail_at: int = 5) -> StreamingResponse:
    """Forgets to catch: the server then breaks the body off without its end."""
    ask = Ask(message="raise", key=key, words=words, fail_at=fail_at)

    async def body() -> AsyncIterator[str]:
        async for token in tokens_of(ask):
            yield event(token)

    return stream("/stream-raise", key, body())


@app.get("/stream-no-ids")
async def stream_no_ids(request: Request) -> StreamingResponse:
    """Plain events `Message 0`, `Message 1`, … without ids, then a clean end."""
    ask = Ask(**dict(request.query_params))
    tally.generation(ask.key)

    async def body() -> AsyncIterator[str]:
        for number in range(ask.words):
            await before_event(ask, number)
            yield event(f"Message {number}")

    return stream("/stream-no-ids", ask.key, body())


@app.post("/release")
async def release(key: str) -> dict[str, str]:
    """Lets the held stream of `key` go on; may come before it waits."""
    gates.open(key)
    return {"released": key}


@app.get("/stats")
async def stats() -> JSONResponse:
    """How often each path was asked, and each generation paid, by key."""
    return JSONResponse(tally.as_json())


@app.websocket("/ws")
async def ws(socket: WebSocket) -> None:
    """Says back what it hears, text as text and bytes as bytes."""
    await socket.accept()
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("text") is not None:
                await socket.send_text(message["text"])
            else:
                await socket.send_bytes(message["bytes"])
    except WebSocketDisconnect:
        return


@app.get("/page")
async def page() -> HTMLResponse:
    """The page on which browsers run their clients, same origin as the streams."""
    return HTMLResponse((HERE / "page.html").read_text(encoding="utf-8"))


@app.get("/lib/{name:path}")
async def lib(name: str) -> FileResponse:
    """Serves one browser library's modules from the folder in CHAT_APP_LIB.

    Its modules import each other without a suffix, hence the second try.
    """
    root = Path(os.environ["CHAT_APP_LIB"]).resolve()
    for candidate in (root / name, root / f"{name}.js"):
        if candidate.resolve().is_relative_to(root) and candidate.is_file():
            return FileResponse(candidate, media_type="text/javascript")
    raise HTTPException(404)
