"""What every client's caller has in the end, in one form, and what a client is said to be."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field


# The vendor's own code and type stand beside it under names that look alike.
CODE = re.compile(r"upstream_(?!code|type)[a-z]+")


def code_in(text: str) -> str | None:
    """The standard error's code in all that an error says."""
    match = CODE.search(text)
    return match and match[0]


@dataclass
class Seen:
    """What the SDK gave its caller."""

    text: str = ""
    finish: str | None = None
    # Tokens of the answer; None where the SDK has no place for them.
    usage: int | None = None
    # The type of the final object, as its module names it.
    kind: str | None = None
    # The type of what the SDK raised (or handed over) in place of it.
    error: str | None = None
    # The standard error's code, wherever the SDK keeps it.
    code: str | None = None

    def caught(self, error: BaseException) -> None:
        """Keeps what the SDK raised."""
        self.error = f"{type(error).__module__}.{type(error).__qualname__}"
        kept = [str(error), *(str(getattr(error, name, "")) for name in ("code", "body", "details"))]
        self.code = code_in(" ".join(kept))

    def ended(self, final: object) -> None:
        """Keeps the type of the final object."""
        self.kind = f"{type(final).__module__}.{type(final).__qualname__}".split("[")[0]


# `ask(base, fault)`: one streamed answer from below `base`, with `x-test-fault: fault`.
Ask = Callable[[str, str], Seen]
NO_RESUME = "it never asks again with a last id; a second call is a new answer"


@dataclass(frozen=True)
class Client:
    """A client, and what its callers must get."""

    name: str
    # As in the package registry, to look the version up; `old/…` is a folder of ours.
    package: str
    ask: Ask
    # The final object's type, and the SDK's word for a good end.
    kind: str
    finish: str | None
    # What is raised (or handed over) when the vendor sends an error, and when the stream is cut short.
    error: str
    language: str = "Python"
    # Whether it counts tokens.
    usage: bool = True
    # False: nothing may be put into this client's streams.
    marks: bool = True
    # Whether the error has a place for the standard error's code, and what stands as finish beside it.
    codes: bool = True
    failed_finish: str | None = None
    # Goes on after a lost connection as its users do, with so many requests to the upstream. Or why it cannot.
    resume: Ask | str = NO_RESUME
    resume_requests: int = 1
    # The final object's type then, where it is another one.
    resume_kind: str | None = None
    # How the caller of a reader without vendor sees an error: nothing raises.
    hands_over: bool = False
    # Why there is no answer without streaming; None where there is one.
    no_fallback: str | None = None
    # Why the deterministic server cannot stand behind it; None where it can.
    no_aimock: str | None = None
    # Cells that fail because of the proxy: row → reason.
    known: dict[str, str] = field(default_factory=dict)
