"""Everything that is no event stream passes unchanged, both ways, without being kept."""

from __future__ import annotations

import hashlib
import http.client
import subprocess
from collections.abc import Iterator

import httpx
import pytest
from websockets.sync.client import connect

from harness.chat import route

MIB = 1024 * 1024
UPLOAD = 300 * MIB
# Far below the upload, far above what buffers and caches may take.
GROWTH = 100 * MIB


def blocks(total: int) -> Iterator[bytes]:
    """`total` bytes, each MiB different from the last."""
    for number in range(total // MIB):
        yield number.to_bytes(4, "big") * (MIB // 4)


@pytest.fixture
def proxy(start_proxy, chat_app):
    """A proxy before the chat app."""
    return start_proxy(route(), app=chat_app.url)


def test_an_upload_larger_than_memory_should_hold_streams_through(proxy):
    before = proxy.process.memory("VmRSS")
    digest = hashlib.sha256()

    def body() -> Iterator[bytes]:
        for block in blocks(UPLOAD):
            digest.update(block)
            yield block

    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=120)
    connection.request("POST", "/upload", body(), {"content-length": str(UPLOAD)})
    answer = connection.getresponse()
    assert (answer.status, answer.read().decode()) == (200, f'{{"bytes":{UPLOAD},"sha256":"{digest.hexdigest()}"}}')
    connection.close()
    assert proxy.process.memory("VmHWM") - before < GROWTH


def test_a_chunked_upload_arrives_whole(proxy):
    size = 5 * MIB
    whole = hashlib.sha256(b"".join(blocks(size))).hexdigest()
    answer = httpx.post(f"{proxy.url}/upload", content=blocks(size))
    assert answer.json() == {"bytes": size, "sha256": whole}


def test_a_download_is_handed_on_with_its_length_and_not_kept(proxy):
    before = proxy.process.memory("VmRSS")
    size, got = 150 * MIB, 0
    with httpx.stream("GET", f"{proxy.url}/download", params={"bytes": size}, timeout=60) as answer:
        assert answer.headers["content-length"] == str(size)
        for piece in answer.iter_raw():
            got += len(piece)
    assert got == size
    assert proxy.process.memory("VmHWM") - before < GROWTH


def test_head_has_the_headers_and_no_body(proxy):
    answer = httpx.head(f"{proxy.url}/download", params={"bytes": 12345})
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "12345", b"")
    assert answer.headers["x-pattern"] == "0..255"


def test_an_echo_comes_back_while_the_request_is_still_being_sent(proxy):
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)
    connection.putrequest("POST", "/echo")
    connection.putheader("content-type", "text/x-echo")
    connection.putheader("content-length", "10")
    connection.endheaders(b"first")
    answer = connection.getresponse()
    assert answer.getheader("content-type") == "text/x-echo"
    assert answer.read(5) == b"first"
    connection.send(b"later")
    assert answer.read() == b"later"
    connection.close()


def test_json_and_its_status_pass_unchanged(proxy, chat_app):
    for path, status in (("/stats", 200), ("/nowhere", 404)):
        direct, through = httpx.get(chat_app.url + path), httpx.get(proxy.url + path)
        assert (through.status_code, through.content) == (status, direct.content)
        assert through.headers["content-type"] == direct.headers["content-type"]
        assert "streamkeeper-session" not in through.headers


def test_a_websocket_is_passed_on(proxy):
    with connect(f"ws://127.0.0.1:{proxy.port}/ws") as socket:
        for message in ("hello", "größe 😀", b"\x00\xff" * 5000):
            socket.send(message)
            assert socket.recv(timeout=10) == message


def test_a_websocket_can_be_refused_by_the_route(start_proxy, chat_app):
    proxy = start_proxy(route(upgrade="false"), app=chat_app.url)
    with pytest.raises(Exception, match="HTTP"), connect(f"ws://127.0.0.1:{proxy.port}/ws"):
        pass


def test_expect_100_continue_is_answered_before_the_body(proxy, tmp_path):
    file = tmp_path / "body"
    file.write_bytes(b"".join(blocks(2 * MIB)))
    argv = ["curl", "-sS", "-v", "--expect100-timeout", "60", "-H", "Expect: 100-continue", "-X", "POST"]
    argv += ["--data-binary", f"@{file}", f"{proxy.url}/upload"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)
    assert "HTTP/1.1 100 Continue" in done.stderr
    assert hashlib.sha256(file.read_bytes()).hexdigest() in done.stdout


def test_trailers_pass(start_proxy, upstream):
    toml = '[[routes]]\nmatch = { path = "/" }\nupstream = "llm"\n'
    proxy = start_proxy(toml, llm=upstream.url)
    argv = ["curl", "-sS", "--raw", "-i", "-H", "TE: trailers", f"{proxy.url}/trailers"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True)
    head, _, body = done.stdout.replace("\r\n", "\n").partition("\n\n")
    assert "body before trailers" in body
    assert "x-checksum: 20" in body.lower()
    assert "x-checksum" not in head.lower().replace("trailer: x-checksum", "")


def test_hop_by_hop_headers_stop_at_the_proxy(start_proxy, upstream):
    toml = '[[routes]]\nmatch = { path = "/" }\nupstream = "llm"\n'
    proxy = start_proxy(toml, llm=upstream.url)
    headers = {"connection": "x-private, keep-alive", "x-private": "1", "x-public": "2"}
    seen = httpx.get(f"{proxy.url}/headers", headers=headers).json()
    assert "x-private" not in seen
    assert (seen["x-public"], seen["x-forwarded-for"]) == ("2", "127.0.0.1")
    assert seen["x-request-id"]
