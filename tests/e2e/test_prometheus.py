"""Dashboard and alerts in earnest: Debian's Prometheus scrapes proxies while streams fail in every way.

What each alert does over hours is in deploy/prometheus/rules_test.yaml; here
time runs faster (see dashboards/prometheus.py), the faults are real, and the
numbers come from `/metrics`.
"""

from __future__ import annotations

import itertools
import math
import re
import signal
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from dashboards import board, picture
from dashboards.faults import EXTRA, ROUTES, Callers, Traffic, all_faults, deaf_client
from dashboards.prometheus import RULES, Prometheus, promtool
from dashboards.replicas import Replicas
from harness.process import until
from harness.proxy import ROOT, Proxy, config
from openai_upstream import OpenAiUpstream

OUT = Path(__file__).resolve().parent / "out"
PATIENCE = 90.0
ALERTS = re.findall(r"- alert: (\w+)", RULES.read_text(encoding="utf-8"))
OF_REDIS = {"StreamkeeperStoreDown", "StreamkeeperStoreErrors", "StreamkeeperTakeovers"}
OF_RELOAD = {"StreamkeeperConfigRejected"}
OF_FAULTS = set(ALERTS) - OF_REDIS - OF_RELOAD


def has_fired(prometheus: Prometheus, alerts: set[str]) -> None:
    """Waits until all these have fired; says which did not."""
    try:
        until(lambda: alerts <= prometheus.fired(), "alerts fire", PATIENCE)
    except AssertionError:
        pytest.fail(f"never fired: {sorted(alerts - prometheus.fired())}")


def has_resolved(prometheus: Prometheus) -> None:
    """Waits until none is firing; says which still is."""
    try:
        until(lambda: not prometheus.firing(), "alerts resolve", PATIENCE)
    except AssertionError:
        pytest.fail(f"still firing: {sorted(prometheus.firing())}")


class Run:
    """A proxy in memory mode that met every fault, and the Prometheus that saw it."""

    def __init__(self, folder: Path, upstream: OpenAiUpstream) -> None:
        self.proxy = Proxy(folder, config({"llm": upstream.url, "dead": "http://127.0.0.1:9"}, ROUTES, EXTRA))
        self.prometheus = Prometheus(folder, [f"127.0.0.1:{self.proxy.admin_port}"])
        self.exposition = ""
        try:
            self._live(upstream)
        except BaseException:
            self.stop()
            raise

    def _live(self, upstream: OpenAiUpstream) -> None:
        until(lambda: self.prometheus.value("up") == 1, "the first scrape")
        callers = Callers(self.proxy)
        traffic = Traffic(callers)
        traffic.start()
        # Alerts and ratios need a time before.
        until(lambda: callers_served(self.prometheus) > 5, "good streams")
        all_faults(callers, upstream)
        has_fired(self.prometheus, OF_FAULTS - {"StreamkeeperDown", "StreamkeeperDrainStuck"})
        self.exposition = httpx.get(f"{self.proxy.admin}/metrics").text
        traffic.stop()
        self._go_away(callers)
        has_resolved(self.prometheus)
        self.prometheus.ended = time.time()

    def _go_away(self, callers: Callers) -> None:
        with deaf_client(self.proxy):
            self.proxy.process.signal(signal.SIGTERM)
            assert self.proxy.process.exit_code() == 0
        has_fired(self.prometheus, {"StreamkeeperDown", "StreamkeeperDrainStuck"})
        self.proxy.restart()
        callers.chat()

    def stop(self) -> None:
        """Ends both."""
        self.prometheus.stop()
        self.proxy.stop()


def callers_served(prometheus: Prometheus) -> float:
    """Good streams so far, as Prometheus knows them."""
    return prometheus.value('sum(stream_duration_seconds_count{outcome="completed"})')


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run in memory mode."""
    with OpenAiUpstream() as upstream:
        run = Run(tmp_path_factory.mktemp("faults"), upstream)
        yield run
        run.stop()


@pytest.fixture(scope="module")
def replicas(tmp_path_factory):
    """Two replicas that lost each other, and Redis for a while, and the Prometheus that saw it."""
    with OpenAiUpstream() as upstream:
        replicas = Replicas(tmp_path_factory.mktemp("replicas"), upstream)
        yield replicas
        replicas.stop()


def shows(prometheus: Prometheus, query: board.Query) -> bool:
    """Whether a query has data of the run: something finite that is not 0 at some time."""
    span = f"{math.ceil(time.time() - prometheus.began)}s"
    series = prometheus.over_time(query.filled("2s", span))
    values = (float(value) for one in series for _, value in one["values"])
    return any(math.isfinite(value) and value != 0 for value in values)


def mute(prometheus: Prometheus, queries: list[board.Query]) -> list[str]:
    """Which of the queries show nothing."""
    return [f"{query.panel} / {query.legend}" for query in queries if not shows(prometheus, query)]


def test_every_query_of_the_dashboard_has_data_after_a_run_with_faults(run):
    about = [query for query in board.queries() if not query.needs_redis]
    assert not mute(run.prometheus, about)


def test_every_query_about_the_store_has_data_after_replica_and_redis_died(replicas):
    about = [query for query in board.queries() if query.needs_redis]
    assert len(about) >= 5
    assert not mute(replicas.prometheus, about)


def test_alerts_fire_on_their_faults_and_resolve(run):
    assert run.prometheus.fired() >= OF_FAULTS
    assert run.prometheus.fired().isdisjoint(OF_REDIS | OF_RELOAD), "and no other"
    assert not run.prometheus.firing()


def test_alerts_about_the_store_fire_on_their_faults_and_resolve(replicas):
    has_fired(replicas.prometheus, OF_REDIS)
    has_resolved(replicas.prometheus)


def test_a_refused_configuration_raises_its_alert_until_one_is_taken(tmp_path, upstream):
    good = config({"llm": upstream.url}, '[[routes]]\nmatch = { path = "/" }\nupstream = "llm"\n', "")
    proxy = Proxy(tmp_path, good)
    prometheus = Prometheus(tmp_path, [f"127.0.0.1:{proxy.admin_port}"])
    try:
        until(lambda: prometheus.value("stream_config_reload_ok") == 1, "the first scrape")
        loaded = proxy.metric("stream_config_loaded_timestamp_seconds")
        file = tmp_path / f"config-{proxy.port}.toml"
        file.write_text("no = toml = this", encoding="utf-8")
        proxy.process.signal(signal.SIGHUP)
        has_fired(prometheus, OF_RELOAD)
        assert proxy.metric("stream_config_loaded_timestamp_seconds") == loaded
        file.write_text(good, encoding="utf-8")
        proxy.process.signal(signal.SIGHUP)
        has_resolved(prometheus)
        assert proxy.metric("stream_config_loaded_timestamp_seconds") > loaded
    finally:
        prometheus.stop()
        proxy.stop()


def test_promtool_is_content_with_the_metrics_the_rules_and_their_tests(run):
    promtool("check", "metrics", stdin=run.exposition)
    promtool("check", "rules", str(RULES))
    promtool("check", "config", "--syntax-only", str(RULES.with_name("prometheus.yaml")))
    promtool("test", "rules", str(RULES.with_name("rules_test.yaml")))


def test_every_alert_has_its_unit_test():
    tested = RULES.with_name("rules_test.yaml").read_text(encoding="utf-8")
    for alert in ALERTS:
        named = [line for line in tested.splitlines() if alert in line]
        assert any("exp_alerts: []" in line for line in named), f"{alert} is silent without its fault"
        assert any(f"alertname: {alert}" in line and "[]" not in line for line in named), f"{alert} fires"


# How Grafana names the units that the panels use.
GRAFANA_UNITS = {"short", "percentunit", "opm", "eps", "s", "bytes"}


def test_the_dashboard_can_be_imported_anywhere():
    dashboard = board.load()
    assert dashboard["uid"] == "streamkeeper" and dashboard.get("id") is None
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    panels = board.panels()
    sources = {source["datasource"]["uid"] for panel in panels for source in (panel, *panel["targets"])}
    assert sources == {"${datasource}"}
    assert max(Counter(panel["id"] for panel in dashboard["panels"]).values()) == 1
    for panel in panels:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in GRAFANA_UNITS, panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs), panel["title"]


def test_no_panel_lies_on_another():
    taken: dict[tuple[int, int], str] = {}
    for panel in board.load()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        columns = range(place["x"], place["x"] + place["w"])
        for cell in itertools.product(columns, range(place["y"], place["y"] + place["h"])):
            assert taken.setdefault(cell, panel["title"]) == panel["title"], cell


def test_links_to_the_runbook_lead_to_a_section():
    sections = re.findall(r"^## (\w+)$", (ROOT / "docs/runbook.md").read_text(encoding="utf-8"), re.MULTILINE)
    links = [link["url"] for panel in board.panels() for link in panel.get("links", [])]
    anchors = {link.removeprefix("${docs}/runbook.md#") for link in links}
    assert len(anchors) >= 10
    assert anchors <= {section.lower() for section in sections}


def test_every_code_is_somebodys_fault_and_only_theirs():
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (caller|upstream|proxy)\b", page, re.MULTILINE)
    assert len(table) > 20
    [panel] = [panel for panel in board.panels() if panel["title"] == "Whose fault"]
    blamed = {target["legendFormat"]: selectors(target["expr"]) for target in panel["targets"]}
    for code, kind, whose in table:
        found = {name for name, chosen in blamed.items() if any(fits(one, code, kind) for one in chosen)}
        assert found == {whose}, code


def selectors(expression: str) -> list[list[tuple[str, str, str]]]:
    """The label matchers of each selector of `stream_errors_total`: (label, operator, value)."""
    chosen = re.findall(r"stream_errors_total\{([^}]*)\}", expression)
    return [re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', matchers) for matchers in chosen]


def fits(matchers: list[tuple[str, str, str]], code: str, kind: str) -> bool:
    """Whether an error is chosen by these matchers."""
    has = {"code": code, "error_type": kind}
    for label, operator, value in matchers:
        if label in has and bool(re.fullmatch(value, has[label])) != (operator in ("=", "=~")):
            return False
    return True


def test_the_run_is_drawn(run, replicas):
    OUT.mkdir(exist_ok=True)
    drawn = OUT / "dashboard.svg"
    drawn.write_text(picture.draw(run.prometheus, replicas.prometheus), encoding="utf-8")
    assert 20_000 < drawn.stat().st_size < 300_000
