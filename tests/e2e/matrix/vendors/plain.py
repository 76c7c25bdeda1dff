"""An app's own event stream, asked for by GET as EventSource does: words, then `done`. No vendor's shape."""

from __future__ import annotations

from .shape import PIECES, TEXT, Words, block


class Plain:
    """`GET …/events`."""

    name = "plain"

    def takes(self, path: str, headers: dict[str, str]) -> bool:
        return path.endswith("/events")

    def streams(self, path: str, body: dict) -> bool:
        return True

    def words(self, body: dict) -> Words:
        return Words([], [block(piece) for piece in PIECES], [block({"token_count": len(PIECES)}, "done")])

    def whole(self, body: dict) -> dict:
        return {"text": TEXT}

    def error(self) -> list[bytes]:
        said = {"type": "business", "severity": "error", "message": "the order is closed", "code": "order_closed"}
        return [block(said, "error")]

    def refusal(self, status: int) -> dict:
        return {"detail": f"refused with {status}"}
