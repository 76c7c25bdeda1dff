"""What is in deploy/, as it is written: linted and spoiled, rendered, checked against each other.

The linters are in scripts/check-deploy.sh. Here they must pass, and must fail
on a spoiled copy. Nothing is run but the proxy's own `check`: no container
engine, no cluster, no systemd. What can be run is in test_deploy_running.py.
"""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from pathlib import Path

import helm_python as helm
import kubernetes_validate
import pytest
import yaml

from harness.command import run
from harness.proxy import BINARY, ROOT

DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm/streamkeeper"
# What src/drain.rs gives the last events to be written, in seconds.
FAREWELL = 2


def seconds(text: str) -> int:
    """`"30s"` or `30` as 30."""
    return int(str(text).removesuffix("s"))


def documents(text: str) -> list[dict]:
    """The YAML documents that are not empty."""
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(found: list[dict], kind: str) -> list[dict]:
    """All documents of a kind."""
    return [document for document in found if document["kind"] == kind]


# The linters.


def test_every_deploy_file_passes_its_checker():
    checked = run(ROOT / "scripts/check-deploy.sh")
    assert checked.returncode == 0, checked.stdout
    assert len(re.findall(r"^ok", checked.stdout, re.M)) == 9, checked.stdout


SPOILED = {
    "dockerfile": ("deploy/Dockerfile", "WORKDIR /build", "WORKDIR build"),
    "compose": ("deploy/compose.yaml", "stop_grace_period:", "stop_grace_perod:"),
    "compose-security": ("deploy/compose.yaml", "read_only: true", "privileged: true"),
    "haproxy": ("deploy/haproxy/haproxy.cfg", "balance leastconn", "balance by-length"),
    "kubernetes": ("deploy/kubernetes/sidecar.yaml", "terminationGracePeriodSeconds: 50", "terminationGrace: 50"),
    "unit": ("deploy/systemd/streamkeeper.service", "TimeoutStopSec=", "TimeoutStopSecs="),
    "unit-security": ("deploy/systemd/streamkeeper.service", "CapabilityBoundingSet=", "AmbientCapabilities="),
    "workflow": (".github/workflows/release.yaml", "needs: [binary, image]", "needs: [binary, picture]"),
    "shell": ("scripts/check-deploy.sh", 'cd "${1:-$here}" || exit 1', "cd $1\nrm -r $2/*"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_file_is_found_by_its_checker(name, tmp_path):
    for folder in ("deploy", "scripts", ".github", ".ci"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    file, well, ill = SPOILED[name]
    text = (tmp_path / file).read_text()
    assert text.count(well) >= 1, f"{file} has no {well!r} to spoil"
    (tmp_path / file).write_text(text.replace(well, ill))
    checked = run(ROOT / "scripts/check-deploy.sh", tmp_path)
    assert checked.returncode == 1
    assert f"FAILED  {name}\n" in checked.stdout, checked.stdout


# The Helm chart.


def rendered(values: dict | None = None, chart: Path = CHART) -> list[dict]:
    """What the chart becomes, notes left out."""
    with helm.Chart.load(chart) as loaded:
        files = loaded.render(values or {}, name="chat", namespace="default")
    found = [text for name, text in files.items() if not name.endswith("NOTES.txt")]
    return [document for text in found for document in documents(text)]


def full() -> dict:
    """Values with everything on."""
    return yaml.safe_load((CHART / "ci/full-values.yaml").read_text())


def valid(found: list[dict]) -> list[dict]:
    """The same, after Kubernetes' own schemas; that of the Prometheus operator is not among them."""
    for document in found:
        if document["kind"] != "ServiceMonitor":
            kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    return found


@pytest.mark.parametrize("values", [{}, full()], ids=["defaults", "everything on"])
def test_the_chart_is_linted_and_renders_to_valid_manifests(values):
    report = helm.lint(CHART, values, strict=True)
    assert (report["total_charts_linted"], report["errors"]) == (1, [])
    found = valid(rendered(values))
    kinds = {"ConfigMap", "Deployment", "Service", "PodDisruptionBudget"}
    kinds |= {"NetworkPolicy", "ServiceMonitor"} if values else {"Secret"}
    assert {document["kind"] for document in found} == kinds


def test_what_the_chart_renders_fits_together():
    found = rendered(full())
    [deployment] = of_kind(found, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    [budget] = of_kind(found, "PodDisruptionBudget")
    [network] = of_kind(found, "NetworkPolicy")
    [monitor] = of_kind(found, "ServiceMonitor")
    services = of_kind(found, "Service")
    assert len(services) == 2
    for selector in (
        *(service["spec"]["selector"] for service in services),
        deployment["spec"]["selector"]["matchLabels"],
        budget["spec"]["selector"]["matchLabels"],
        network["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    ports = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for service in services for port in service["spec"]["ports"]} <= ports
    wanted = monitor["spec"]["selector"]["matchLabels"]
    [watched] = [service for service in services if wanted.items() <= service["metadata"]["labels"].items()]
    assert monitor["spec"]["endpoints"][0]["port"] in {port["name"] for port in watched["spec"]["ports"]}


@pytest.mark.parametrize(
    "values",
    [
        {"replicaCount": "three"},
        {"replicas": 3},
        {"image": {"repository": ""}},
        {"config": "# no upstream"},
        {"config": '[[upstreams]]\nname = "llm"\n[admin]\naddress = "0.0.0.0:1"\n'},
        {"config": '[[upstreams]]\nname = "llm"\n[drain]\n'},
        {"drain": {"timeoutSeconds": "30s"}},
        {"drain": {"timeoutSeconds": 5, "spreadSeconds": 6}},
        {"podDisruptionBudget": {"maxUnavailable": 0}},
        {"service": {"type": "ExternalName"}},
        {"secretEnv": [{"name": "REDIS_PASSWORD"}]},
        {"mode": "daemon"},
    ],
    ids=json.dumps,
)
def test_the_chart_refuses_values_that_make_no_sense(values):
    with pytest.raises((helm.HelmValuesError, helm.HelmRenderError)):
        rendered(values)


# As in deploy/README.md.
PARENT = """
apiVersion: apps/v1
kind: Deployment
metadata: { name: chat }
spec:
  selector: { matchLabels: { app: chat } }
  template:
    metadata: { labels: { app: chat } }
    spec:
      terminationGracePeriodSeconds: 70
      initContainers:
        {{- include "streamkeeper.sidecar" .Subcharts.streamkeeper | nindent 8 }}
      containers: [{ name: chat, image: "chat:1.0.0" }]
      volumes:
        {{- include "streamkeeper.volumes" .Subcharts.streamkeeper | nindent 8 }}
"""


def test_another_chart_takes_the_container_as_a_sidecar(tmp_path):
    shutil.copytree(CHART, tmp_path / "charts/streamkeeper")
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/chat.yaml").write_text(PARENT)
    dependency = "dependencies: [{ name: streamkeeper, version: 0.x }]"
    (tmp_path / "Chart.yaml").write_text(f"apiVersion: v2\nname: chat\nversion: 1.0.0\n{dependency}\n")
    found = valid(rendered({"streamkeeper": {"mode": "sidecar"}}, tmp_path))
    assert sorted(document["kind"] for document in found) == ["ConfigMap", "Deployment", "Secret"]
    [pod] = [document["spec"]["template"]["spec"] for document in of_kind(found, "Deployment")]
    [sidecar] = pod["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    [config] = of_kind(found, "ConfigMap")
    assert pod["volumes"][0]["configMap"]["name"] == config["metadata"]["name"]
    assert "lifecycle" not in sidecar, "the pod's other containers end first; there is nothing to wait for"


# The proxy's configurations.


def configurations() -> dict[str, str]:
    """Every config.toml that something in deploy/ runs with."""
    found = {f"{path.parent.name}/{path.name}": path.read_text() for path in DEPLOY.glob("*/*.toml")}
    manifests = documents((DEPLOY / "kubernetes/sidecar.yaml").read_text())
    for name, pods in {"sidecar": manifests, "chart": rendered(), "full chart": rendered(full())}.items():
        [config] = of_kind(pods, "ConfigMap")
        found[name] = config["data"]["config.toml"]
    return found


CONFIGURATIONS = configurations()


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration_in_deploy_has_no_problem(name, tmp_path):
    text = CONFIGURATIONS[name].replace("/run/secrets/", f"{DEPLOY}/trial-secrets/")
    # Of the other secrets, all that matters is that there is one.
    text = re.sub(r'\{ file = "/run/credentials/[^"]+" \}', '{ env = "SECRET" }', text)
    file = tmp_path / "config.toml"
    names = {secret: "a-secret" for secret in re.findall(r'env = "(\w+)"', text)}
    names |= {secret: "redis://127.0.0.1:6379/0" for secret in names if secret.endswith("_URL")}
    file.write_text(text)
    checked = run(BINARY, "check", "--config", file, **names)
    assert checked.returncode == 0, checked.stdout
    file.write_text(f"{text}\n[drian]\n")
    assert run(BINARY, "check", "--config", file, **names).returncode == 1


def drain_of(name: str) -> int:
    """`drain.timeout` in seconds, after its place beside `drain.spread` was checked."""
    drain = tomllib.loads(CONFIGURATIONS[name])["drain"]
    assert seconds(drain.get("spread", 0)) < seconds(drain["timeout"])
    return seconds(drain["timeout"])


def test_whoever_stops_the_proxy_waits_longer_than_it_drains():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    for replica in ("streamkeeper-1", "streamkeeper-2"):
        assert seconds(compose["services"][replica]["stop_grace_period"]) > drain_of("config/replica.toml") + FAREWELL
    unit = (DEPLOY / "systemd/streamkeeper.service").read_text()
    stop = re.search(r"^TimeoutStopSec=(\d+)s$", unit, re.M)
    assert stop and int(stop[1]) > drain_of("systemd/config.toml") + FAREWELL
    for name, values in {"chart": {}, "full chart": full()}.items():
        [pod] = [found["spec"]["template"]["spec"] for found in of_kind(rendered(values), "Deployment")]
        sleep = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pod["terminationGracePeriodSeconds"] > sleep + drain_of(name) + FAREWELL
    [pod] = [
        found["spec"]["template"]["spec"]
        for found in of_kind(documents((DEPLOY / "kubernetes/sidecar.yaml").read_text()), "Deployment")
    ]
    app = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] + 30
    assert pod["terminationGracePeriodSeconds"] > app + drain_of("sidecar") + FAREWELL


def test_what_compose_mounts_is_there_and_prometheus_finds_the_replicas():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    mounts = [mount for service in services.values() for mount in service.get("volumes", []) if mount[0] == "."]
    assert len(mounts) >= 6
    missing = [mount for mount in mounts if not (DEPLOY / mount.split(":")[0]).exists()]
    assert not missing
    prometheus = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())
    [job] = [job for job in prometheus["scrape_configs"] if job["job_name"] == "streamkeeper"]
    targets = {target.split(":")[0] for static in job["static_configs"] for target in static["targets"]}
    assert targets == {"streamkeeper-1", "streamkeeper-2"} <= services.keys()
    given = {f"/run/secrets/{name}" for name in services["prometheus"]["secrets"]}
    assert job["authorization"]["credentials_file"] in given, "the admin port wants its token"
    wanted = set(re.findall(r'file = "(/run/secrets/[^"]+)"', CONFIGURATIONS["config/replica.toml"]))
    assert wanted == {f"/run/secrets/{name}" for name in services["streamkeeper-1"]["secrets"]}


def test_compose_can_put_every_secret_into_its_read_only_containers():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert all(service["read_only"] for service in compose["services"].values())
    for given in (*compose["secrets"].values(), *compose["configs"].values()):
        path = given["file"].replace("${STREAMKEEPER_SECRETS:-./trial-secrets}", "trial-secrets")
        assert list(given) == ["file"] and (DEPLOY / path).is_file()
