"""The part of the chat app that does not stream events.

Uploads, downloads and an echo: what a proxy must hand through unchanged and
without keeping it. The echo is plain ASGI, because the framework's streaming
answer listens for a disconnect on the same channel as the request's body and
would steal parts of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.routing import Route

BLOCK = bytes(range(256)) * 256


class Echo:
    """Sends each piece of the body back as it comes, with the same type."""

    async def __call__(self, scope, receive, send) -> None:
        kind = dict(scope["headers"]).get(b"content-type", b"application/octet-stream")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            more = message.get("more_body", False)
            await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})


async def upload(request: Request) -> dict[str, object]:
    """Counts and hashes the body; keeps none of it."""
    size, digest = 0, hashlib.sha256()
    async for piece in request.stream():
        size += len(piece)
        digest.update(piece)
    return {"bytes": size, "sha256": digest.hexdigest()}


async def download(request: Request) -> Response:
    """`?bytes=N` bytes of a repeating pattern, with their length announced."""
    size = int(request.query_params.get("bytes", "0"))
    headers = {"Content-Length": str(size), "X-Pattern": "0..255"}
    if request.method == "HEAD":
        return Response(headers=headers, media_type="application/octet-stream")

    async def body() -> AsyncIterator[bytes]:
        left = size
        while left > 0:
            yield BLOCK[:left]
            left -= len(BLOCK)

    return StreamingResponse(body(), media_type="application/octet-stream", headers=headers)


def add_plain_endpoints(app: FastAPI) -> None:
    """Hangs the endpoints of this file into the app."""
    app.router.routes.append(Route("/echo", Echo(), methods=["POST"]))
    app.add_api_route("/upload", upload, methods=["POST", "PUT"])
    app.add_api_route("/download", download, methods=["GET", "HEAD"])
