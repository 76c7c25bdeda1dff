"""`streamkeeper demo` as a person meets it: the page in Chromium, cut and made whole again."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from harness.node import run_node
from harness.process import Process, free_port
from harness.proxy import BINARY

OUT = Path(__file__).resolve().parent / "out"
PROMPT = "What does a lighthouse keeper write down?"


@pytest.fixture
def demo(tmp_path):
    """A running demo: its URL and its process."""
    port, admin = free_port(), free_port()
    argv = [str(BINARY), "demo", "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
    process = Process(argv, tmp_path / "proxy-demo.log")
    try:
        process.wait_for_port(port)
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.stop()


def whole_answer(url: str) -> str:
    """The same answer without streaming."""
    body = {"model": "streamkeeper-demo", "messages": [{"role": "user", "content": PROMPT}]}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body)
    return answer.json()["choices"][0]["message"]["content"]


def test_a_cut_answer_completes_with_no_word_lost_or_doubled(demo):
    url, _ = demo
    OUT.mkdir(exist_ok=True)
    pictures = {"wide": OUT / "demo.png", "dark": OUT / "demo-dark.png", "phone": OUT / "demo-phone.png"}
    for picture in pictures.values():
        picture.unlink(missing_ok=True)
    wishes = {"pictures": {name: str(path) for name, path in pictures.items()}}
    shown = run_node("demo_page.mjs", {"url": url, "prompt": PROMPT, "words": 8, **wishes})
    whole = whole_answer(url)
    assert shown["state"] == "done"
    assert shown["cuts"] == 1
    assert shown["complaints"] == []
    assert len(shown["before"]) < len(whole), "the cut came before the end"
    assert shown["answer"] == whole
    assert len(shown["session"]) == 22
    assert (shown["verified"], shown["violation"]) == (True, False)
    assert shown["fit"] == [True, True, True], "nothing sticks out, wide, dark or on a phone"
    assert shown["light"] != shown["dark"]
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures.values())


def test_the_demo_prints_its_address_and_lines_to_try(demo):
    url, process = demo
    assert url in process.output()
    assert process.output().count("curl") >= 2
