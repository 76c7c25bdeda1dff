"""Every client in every row, and the table that says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.node import HERE, NODE
from harness.process import Process, free_port
from harness.proxy import Proxy, config

from .clients import CLIENTS, Client
from .clients.node import PAGE, WORKER
from .rows import ROWS, Cell, impossible, routes
from .table import FILE, table
from .upstream import Vendors
from .vendors.shape import TEXT

# What passed in this run: (language, client, row) → what the table says.
PASSED: dict[tuple[str, str, str], str] = {}


@pytest.fixture(scope="session")
def vendors() -> Iterator[Vendors]:
    """All vendors, for all cells; each has a key of its own."""
    with Vendors() as server:
        yield server


@pytest.fixture(scope="session")
def matrix_proxy(vendors: Vendors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """One proxy for all cells, with aimock as its second upstream."""
    folder, port = tmp_path_factory.mktemp("matrix"), free_port()
    aimock = Process([str(NODE), str(HERE / "matrix/node/aimock.mjs"), str(port), TEXT], folder / "aimock.log")
    try:
        aimock.wait_for_port(port)
        proxy = Proxy(folder, config({"vendors": vendors.url, "aimock": f"http://127.0.0.1:{port}"}, routes()))
        try:
            yield proxy
        finally:
            proxy.stop()
    finally:
        aimock.stop()
        WORKER.stop()
        PAGE.stop()


# A plain EventSource comes back for ever where nobody tells it to stop.
DIRECT = [pytest.param(client, id=f"{client.language} {client.name}") for client in CLIENTS if client.no_aimock is None]


@pytest.mark.parametrize("client", DIRECT)
def test_the_vendors_shapes_are_what_the_client_takes_without_the_proxy(vendors, relay, key, client: Client):
    cell = Cell(client, vendors, relay(vendors.port), key)
    cell.whole(cell.ask("direct", "ok"))


def cells() -> list:
    """Every cell that can be, those that fail because of the proxy marked so."""
    found = []
    for client in CLIENTS:
        for row in ROWS:
            if impossible(client, row):
                continue
            reason = client.known.get(row)
            marks = [pytest.mark.xfail(strict=True, raises=AssertionError, reason=reason)] if reason else []
            found.append(pytest.param(client, row, id=f"{client.language} {client.name}: {row}", marks=marks))
    return found


CELLS = cells()


@pytest.mark.parametrize(("client", "row"), CELLS)
def test_the_clients_caller_gets_what_the_wire_promises(vendors, matrix_proxy, relay, key, client: Client, row: str):
    cell = Cell(client, vendors, relay(matrix_proxy.port), key)
    _, play = ROWS[row]
    try:
        PASSED[client.language, client.name, row] = play(cell)
    finally:
        # Shown where the test fails.
        print((cell.tap.answered if cell.tap else b"")[-4000:].decode(errors="replace"))


def test_the_table_in_the_documentation_is_what_this_run_found(request: pytest.FixtureRequest):
    names = [getattr(item, "originalname", "") for item in request.session.items]
    played = [name for name in names if name == "test_the_clients_caller_gets_what_the_wire_promises"]
    if len(played) < len(CELLS):
        pytest.skip("only a part of the matrix was run")
    expected = [param.values for param in CELLS if not param.marks]
    missing = [(client.name, row) for client, row in expected if (client.language, client.name, row) not in PASSED]
    assert not missing, "no table while cells fail"
    found = table(PASSED)
    if not FILE.exists() or FILE.read_text(encoding="utf-8") != found:
        FILE.write_text(found, encoding="utf-8")
        pytest.fail(f"docs/{FILE.name} did not say what this run found; it was written anew: read and commit it")
