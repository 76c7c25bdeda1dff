"""The dashboard as its queries: every panel's every query, with Grafana's variables filled in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from harness.proxy import ROOT

FILE = ROOT / "deploy/grafana/streamkeeper.json"
# Only with the Redis store.
OF_REDIS = ("stream_store_", "stream_takeovers_total")


@dataclass(frozen=True)
class Query:
    """One query of a panel."""

    panel: str
    legend: str
    text: str

    @property
    def needs_redis(self) -> bool:
        """Whether it can have data in memory mode."""
        return any(name in self.text for name in OF_REDIS)

    def filled(self, window: str, span: str) -> str:
        """With the variables as Grafana fills them in: `window` for a rate, `span` for all that is shown."""
        known = {"$job": "streamkeeper", "$instance": ".*", "$__rate_interval": window, "$__range": span}
        text = self.text
        for name, value in known.items():
            text = text.replace(name, value)
        assert "$" not in text, f"{self.panel}: an unknown variable in {text}"
        return text


def load() -> dict:
    """The dashboard as it is."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def panels() -> list[dict]:
    """The panels that show something."""
    return [panel for panel in load()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[Query]:
    """Every query, in the dashboard's order."""
    for panel in panels():
        for target in panel["targets"]:
            yield Query(panel["title"], target["legendFormat"], target["expr"])
