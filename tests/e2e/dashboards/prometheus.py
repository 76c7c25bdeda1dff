"""A Prometheus of a test's own, fast enough to watch an hour's alerts in half a minute.

The rules are those of deploy/prometheus/rules.yaml with every duration in them
(windows, `for`, subqueries) divided by `HASTE`; thresholds stay as they are.
Scrapes and evaluations come every 250 ms instead of every 15 s, so a window
holds about as many samples as in earnest.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from harness.process import Process, free_port, until
from harness.proxy import ROOT

RULES = ROOT / "deploy/prometheus/rules.yaml"
HASTE = 100
EVERY = "250ms"
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
# A duration stands in brackets, on either side of a subquery's colon, or behind `for:`.
DURATION = re.compile(r"(?<=[\[:])(\d+)([smh])(?=[\]:])|(?<=for: )(\d+)([smh])$", re.MULTILINE)


def tool(name: str) -> str:
    """Where a program of the Debian package `prometheus` is."""
    found = shutil.which(name)
    return found or pytest.fail(f"{name} is missing: scripts/setup-tests.sh installs it")


def promtool(*arguments: str, stdin: str | None = None) -> str:
    """What `promtool` prints; AssertionError unless it is content."""
    done = subprocess.run(
        [tool("promtool"), *arguments], input=stdin, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"promtool {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def hurried(rules: str) -> str:
    """The rules with every duration divided by `HASTE`."""

    def shorter(found: re.Match[str]) -> str:
        number, unit = found[1] or found[3], found[2] or found[4]
        return f"{max(1, round(int(number) * UNITS[unit] * 1000 / HASTE))}ms"

    return DURATION.sub(shorter, rules)


class Prometheus:
    """`Prometheus(folder, ["host:port", …])`, scraping these as job `streamkeeper`."""

    def __init__(self, folder: Path, targets: list[str]) -> None:
        self.began = time.time()
        # When the story was over, for whoever draws it.
        self.ended: float | None = None
        self.port = free_port()
        (folder / "rules.yaml").write_text(hurried(RULES.read_text(encoding="utf-8")), encoding="utf-8")
        listed = ", ".join(f'"{target}"' for target in targets)
        (folder / "prometheus.yaml").write_text(
            f"global: {{ scrape_interval: {EVERY}, scrape_timeout: {EVERY}, evaluation_interval: {EVERY} }}\n"
            "rule_files: [rules.yaml]\n"
            "scrape_configs:\n"
            f"  - {{ job_name: streamkeeper, static_configs: [{{ targets: [{listed}] }}] }}\n",
            encoding="utf-8",
        )
        argv = [tool("prometheus"), f"--config.file={folder / 'prometheus.yaml'}"]
        argv += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{self.port}"]
        self.process = Process([*argv, "--log.level=warn"], folder / "prometheus.log")
        self.process.wait_for_port(self.port)
        until(lambda: httpx.get(f"http://127.0.0.1:{self.port}/-/ready").status_code == 200, "Prometheus is ready")

    def _get(self, what: str, **query: object) -> dict:
        answer = httpx.get(f"http://127.0.0.1:{self.port}/api/v1/{what}", params=query, timeout=20).json()
        assert answer["status"] == "success", f"{query}: {answer}"
        return answer["data"]

    def now(self, query: str) -> list[dict]:
        """The samples of an instant query."""
        return self._get("query", query=query)["result"]

    def value(self, query: str) -> float:
        """The one value of an instant query; 0 where there is none."""
        samples = self.now(query)
        return float(samples[0]["value"][1]) if samples else 0.0

    def over_time(self, query: str, step: float = 0.25, end: float | None = None) -> list[dict]:
        """The series of a range query from the start to `end`, or now."""
        return self._get("query_range", query=query, start=self.began, end=end or time.time(), step=step)["result"]

    def fired(self) -> set[str]:
        """The alerts that have fired since the start."""
        series = self.over_time('ALERTS{alertstate="firing"}')
        return {one["metric"]["alertname"] for one in series}

    def firing(self) -> set[str]:
        """The alerts that are firing now."""
        alerts = self._get("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def stop(self) -> None:
        """Ends it."""
        self.process.stop()
