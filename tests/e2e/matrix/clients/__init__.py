"""One file per kind of client: how it is asked, and what its caller then has in hand."""

from .bare import BARE
from .node import NODE
from .python import PYTHON
from .seen import Client, Seen

CLIENTS: list[Client] = [*PYTHON, *NODE, *BARE]

__all__ = ["CLIENTS", "Client", "Seen"]
