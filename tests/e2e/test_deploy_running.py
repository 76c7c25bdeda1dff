"""What is in deploy/, run: the load balancer's configuration before real proxies, and the image.

There is no container engine here. The balancer is Debian's HAProxy on loopback
with nothing but the addresses replaced. The image's last stage is built by
buildah on a stand-in for its base; of the first stage, which needs a registry,
only what it reads is checked.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from harness.command import run
from harness.process import Process, free_port, until
from harness.proxy import BASE, BINARY, ROOT

DEPLOY = ROOT / "deploy"
ROUTE = '[[routes]]\nmatch = { path = "/" }\nupstream = "llm"\n'


# The load balancer.


class Balanced:
    """HAProxy with deploy/haproxy/haproxy.cfg, and the two proxies behind it."""

    def __init__(self, folder: Path, proxies: list) -> None:
        self.proxies, self.port = proxies, free_port()
        text = (DEPLOY / "haproxy/haproxy.cfg").read_text()
        places = {"bind :8080": f"bind 127.0.0.1:{self.port}"}
        for number, proxy in enumerate(proxies, 1):
            at = f"127.0.0.1:{proxy.port} check port {proxy.admin_port}"
            places[f"streamkeeper-{number}:8080 check port 8081"] = at
        for place, here in places.items():
            assert text.count(place) == 1, place
            text = text.replace(place, here)
        (folder / "haproxy.cfg").write_text(text)
        self.process = Process(["/usr/sbin/haproxy", "-f", str(folder / "haproxy.cfg")], folder / "haproxy.log")
        self.process.wait_for_port(self.port)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self.port}"

    def ask(self, reader: Callable, fault: str, words: int = 6):
        """An OpenAI stream through the balancer."""
        body = {"model": "m", "stream": True, "user": fault, "messages": [{"role": "user", "content": f"say {words}"}]}
        return reader(self.url).post("/v1/chat/completions", body)

    def serving(self) -> tuple:
        """The proxy with a running stream, then the other."""
        return tuple(sorted(self.proxies, key=lambda proxy: -proxy.metric("stream_active")))

    def wait_until_down(self, proxy) -> None:
        """Until the balancer has noticed."""
        name = f"streamkeeper-{self.proxies.index(proxy) + 1}"
        until(lambda: f"/{name} is DOWN" in self.process.output(), f"{name} is marked down")


@pytest.fixture
def balanced(tmp_path, start_proxy, upstream) -> Iterator[Callable[..., Balanced]]:
    """`balanced(extra=…)`: a balancer before two proxies before the scripted upstream."""
    running: list[Balanced] = []

    def start(extra: str = BASE) -> Balanced:
        url = f"http://127.0.0.1:{upstream.port}"
        running.append(Balanced(tmp_path, [start_proxy(ROUTE, extra=extra, llm=url) for _ in range(2)]))
        return running[-1]

    yield start
    for balancer in running:
        balancer.process.stop()


def test_the_balancer_holds_back_no_event_and_no_heartbeat(balanced, upstream, reader):
    stream = balanced().ask(reader, "hold@3#flow")
    assert len(stream.take(4)) == 4, "while the upstream waits for the test"

    def release_after_a_heartbeat() -> None:
        until(lambda: stream.comments, "a comment passes while nothing else does")
        upstream.release("flow")

    threading.Thread(target=release_after_a_heartbeat, daemon=True).start()
    stream.finish()
    assert (stream.data[-1], stream.end) == ("[DONE]", "clean")
    assert upstream.seen("flow")["stream"] == 1


def test_a_draining_replica_gets_nothing_new_and_finishes_its_streams(balanced, upstream, reader):
    balancer = balanced()
    stream = balancer.ask(reader, "hold@3#drain")
    stream.take(4)
    old, other = balancer.serving()
    old.process.signal(signal.SIGTERM)
    balancer.wait_until_down(old)
    for number in range(10):
        later = balancer.ask(reader, f"ok#later-{number}").finish()
        assert (later.response.status_code, later.data[-1]) == (200, "[DONE]")
    assert other.metric("stream_upstream_attempts_total") >= 10
    upstream.release("drain")
    stream.finish()
    assert (stream.data[-1], stream.end) == ("[DONE]", "clean"), "begun before the drain, and whole"
    assert old.process.exit_code() == 0


def test_a_killed_replica_costs_no_request_even_before_it_is_noticed(balanced, upstream, reader):
    balancer = balanced()
    balancer.proxies[0].process.signal(signal.SIGKILL)
    balancer.proxies[0].process.exit_code()
    for number in range(10):
        stream = balancer.ask(reader, f"ok#kill-{number}").finish()
        assert (stream.response.status_code, stream.data[-1]) == (200, "[DONE]")
        assert upstream.seen(f"kill-{number}")["stream"] == 1, "no request is sent twice"


def test_a_client_that_left_the_balancer_has_left_the_replica(balanced, reader):
    balancer = balanced(extra='[heartbeat]\ninterval = "0s"\n')
    stream = balancer.ask(reader, "hold@3#left")
    stream.take(4)
    serving, _ = balancer.serving()
    assert serving.metric("stream_attached_clients") == 1
    stream.response.close()
    until(lambda: serving.metric("stream_attached_clients") == 0, "nobody is attached", deadline=5)


# The image.


class Builder:
    """buildah with a store of its own, without an engine and without a registry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = ["--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver", "vfs"]

    def __call__(self, *argv: str | Path) -> str:
        """Its output; AssertionError if it fails."""
        done = run("buildah", *self.store, *argv, BUILDAH_ISOLATION="chroot")
        assert done.returncode == 0, done.stdout
        return done.stdout.strip()

    def files(self, image: str) -> Path:
        """Where the files of an image can be looked at."""
        return Path(self("mount", self("from", "--pull-never", image).splitlines()[-1]))


@pytest.fixture(scope="module")
def builder(tmp_path_factory) -> Iterator[Builder]:
    """One store for all tests, emptied in the end."""
    builder = Builder(tmp_path_factory.mktemp("buildah"))
    yield builder
    builder("rm", "--all")
    builder("rmi", "--all", "--force")


def stand_in(builder: Builder, image: str) -> None:
    """An image with no more than the last stage may count on: glibc, libgcc, the system's authorities."""
    folder = builder.folder / "base"
    libraries = ["lib/x86_64-linux-gnu/" + name for name in ("libc.so.6", "libm.so.6", "libgcc_s.so.1")]
    for name in ["lib64/ld-linux-x86-64.so.2", "etc/ssl/certs/ca-certificates.crt", *libraries]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path("/") / name, folder / name)
    container = builder("from", "scratch")
    builder("copy", container, folder, "/")
    builder("commit", "--rm", container, image)


@pytest.fixture(scope="module")
def image(builder) -> dict:
    """The Dockerfile's last stage with the binary under test: what a registry would show of it."""
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    base = re.findall(r"^FROM (\S+)$", dockerfile, re.M)
    assert len(base) == 1, "the last stage is the one without a name"
    stand_in(builder, base[0])
    built = builder.folder / "built"
    built.mkdir()
    shutil.copy(BINARY, built / "streamkeeper")
    argv = ["--format", "docker", "--pull-never", "--build-context", f"build={built}"]
    argv += ["--build-arg", "STREAMKEEPER_COMMIT=0123abc", "-f", DEPLOY / "Dockerfile", "-t", "streamkeeper", ROOT]
    builder("bud", *argv)
    return json.loads(builder("inspect", "--type", "image", "streamkeeper"))["Docker"]["config"]


def test_the_image_runs_the_proxy_as_nobody_in_particular(builder, image):
    assert (image["User"], image["StopSignal"]) == ("65532:65532", "SIGTERM")
    assert set(image["ExposedPorts"]) == {"8080/tcp", "8081/tcp"}
    assert image["Labels"]["org.opencontainers.image.revision"] == "0123abc"
    container = builder("from", "--pull-never", "streamkeeper").splitlines()[-1]
    assert builder("run", container, "--", *image["Entrypoint"], "--version").startswith("streamkeeper ")
    command = [container, "--", *image["Entrypoint"], *image["Cmd"]]
    done = run("buildah", *builder.store, "run", "--isolation", "chroot", *command)
    assert "/etc/streamkeeper/config.toml" in done.stdout and done.returncode != 0, "none was mounted, and it says so"


def test_the_images_health_check_says_what_readyz_says(image, start_proxy, upstream, reader):
    kind, program, *argv = image["Healthcheck"]["Test"]
    assert (kind, [program]) == ("CMD", image["Entrypoint"])
    proxy = start_proxy(ROUTE, llm=f"http://127.0.0.1:{upstream.port}")
    ask = [BINARY, *argv, "--admin", f"127.0.0.1:{proxy.admin_port}"]
    well = run(*ask)
    assert well.returncode == 0, well.stdout
    body = {"model": "m", "stream": True, "user": "hold@3#health", "messages": [{"role": "user", "content": "hi"}]}
    stream = reader(proxy.url).post("/v1/chat/completions", body)
    stream.take(4)
    proxy.process.signal(signal.SIGTERM)
    until(lambda: httpx.get(f"{proxy.admin}/readyz").status_code == 503, "it drains")
    assert run(*ask).returncode == 1, "it drains"
    upstream.release("health")
    stream.finish()
    proxy.process.exit_code()
    assert run(*ask).returncode == 1, "it is gone"


def test_the_build_context_has_all_that_the_build_reads_and_little_else(builder, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /build\n")
    builder("bud", "--ignorefile", ROOT / ".dockerignore", "-f", tmp_path / "Dockerfile", "-t", "context", ROOT)
    context = builder.files("localhost/context") / "build"
    # Written by cargo beside the binary: every source that went into it.
    read = (ROOT / "target/release/streamkeeper.d").read_text().split(": ", 1)[1].split()
    sources = [Path(source).relative_to(ROOT) for source in read]
    # The commit of `--version` comes as a build argument, not from the repository.
    sources = [source for source in sources if source.parts[0] != ".git"]
    assert len(sources) > 50
    assert [source for source in sources if not (context / source).is_file()] == []
    manifest = ["--manifest-path", context / "Cargo.toml"]
    known = run("cargo", "metadata", "--offline", "--no-deps", "--format-version", "1", *manifest)
    assert known.returncode == 0, known.stdout
    for absent in ("target", ".git", "tests", "deploy", "docs", "clients/js/node_modules", "config.toml"):
        assert not (context / absent).exists(), absent


def test_the_image_is_built_with_a_compiler_that_can_build_it():
    [version] = re.findall(r"^FROM rust:(\d+\.\d+)-", (DEPLOY / "Dockerfile").read_text(), re.M)
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    needed = manifest["workspace"]["package"]["rust-version"]
    assert [int(part) for part in version.split(".")] >= [int(part) for part in needed.split(".")]
