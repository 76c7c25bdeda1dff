"""What an SDK's caller must see for every failure of an OpenAI-compatible upstream.

One table for both SDKs, from the failure catalogue and the error codes of the
design. `words` is how much of the answer has arrived before the error; None
means that the request itself fails, with `status`. `retry_after` is the header
that must be there; None leaves it to the proxy.
"""

from __future__ import annotations

from dataclasses import dataclass

# Long enough never to fire where a test is not about them.
PATIENT = 'timeouts = { connect = "10s", head = "20s", first_event = "20s", idle = "20s", total = "60s" }'


def impatient(stage: str) -> str:
    """Timeouts of which only `stage` is short (and what is part of it)."""
    short = PATIENT.replace(f'{stage} = "20s"', f'{stage} = "300ms"')
    return short.replace('connect = "10s"', 'connect = "300ms"') if stage == "head" else short


@dataclass(frozen=True)
class Outcome:
    """One fault and what becomes of it."""

    fault: str
    codes: tuple[str, ...]
    words: int | None = None
    status: int | None = None
    error: str = "APIError"
    timeouts: str = PATIENT
    retry_after: str | None = None

    @property
    def name(self) -> str:
        """For the test's id."""
        return self.fault.replace("@", "-after-")


OUTCOMES = [
    Outcome("reset@5", ("upstream_reset",), words=5),
    Outcome("mid-event@5", ("upstream_reset",), words=5),
    Outcome("truncate@5", ("upstream_truncated",), words=5),
    # No final chunk: the transport knows, too, that something is missing.
    Outcome("cutoff@5", ("upstream_truncated", "upstream_reset"), words=5),
    Outcome("stall@5", ("idle_timeout",), words=5, timeouts=impatient("idle")),
    Outcome("error@5", ("upstream_error",), words=5),
    Outcome("huge@5", ("event_too_large",), words=5),
    # 4xx pass as they are, with the vendor's own code.
    Outcome("400", ("context_length_exceeded",), status=400, error="BadRequestError"),
    Outcome("401", ("invalid_api_key",), status=401, error="AuthenticationError"),
    Outcome("429", ("rate_limited", "rate_limit_exceeded"), status=429, error="RateLimitError", retry_after="1"),
    Outcome("500", ("upstream_unavailable",), status=502, error="InternalServerError"),
    Outcome("503", ("upstream_unavailable",), status=503, error="InternalServerError"),
    Outcome("529", ("upstream_unavailable",), status=502, error="InternalServerError"),
    Outcome("hang", ("head_timeout",), status=504, error="InternalServerError", timeouts=impatient("head")),
    Outcome(
        "hang-first", ("first_event_timeout",), status=504, error="InternalServerError",
        timeouts=impatient("first_event"),
    ),
    Outcome("json-error", ("upstream_error",), status=502, error="InternalServerError"),
    Outcome("html", ("bad_content_type",), status=502, error="InternalServerError"),
]


def route(timeouts: str = PATIENT, **keys: str) -> str:
    """A route for everything to `llm`; without more keys nothing is tried twice."""
    lines = {"retry": "{ attempts = 1 }", "fallback": '{ mode = "off" }', "after_partial": "[]", **keys}
    body = "\n".join(f"{name} = {value}" for name, value in lines.items())
    return f'[[routes]]\nmatch = {{ path = "/" }}\nupstream = "llm"\n{timeouts}\n{body}\n'
