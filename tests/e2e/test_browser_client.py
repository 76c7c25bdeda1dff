"""The browser client, `clients/js`: in Node and in Chromium, behind the proxy and at a bare FastAPI app.

What it does with one answer at a time, in frozen time, is in `client/*.test.mjs`; they run here first.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest

import openai_wire as wire
from harness.chat import dense, robust, route, told, words
from harness.node import HERE, NODE, environment, run_node
from harness.outcomes import OUTCOMES, Outcome
from harness.outcomes import route as llm_route
from harness.process import Process, free_port, until
from harness.proxy import BASE, BINARY

OUT = Path(__file__).resolve().parent / "out"
CLIENTS = ["node", "chromium"]
QUICK = {"base": 20, "max": 200}
# Where an answer that is to be cut is held until its client has seen so much: what a client has received but not
# read is lost with its connection.
HELD = 4


class Client:
    """One of the two homes of the client, with the test's name for its pictures."""

    def __init__(self, home: str, name: str) -> None:
        self.home = home
        OUT.mkdir(exist_ok=True)
        self.picture = OUT / f"client-{name}.png"

    def play(self, base: str, path: str, **wishes: object) -> dict:
        """What a user saw of the stream at `base` + `path`; see client/record.mjs for the wishes."""
        options = {"retry": QUICK, **wishes.pop("options", {})}
        wishes = {"url": f"{base}{path}", "names": ["init"], "options": options, **wishes}
        if self.home == "node":
            return run_node("../client/node_client.mjs", wishes)
        result = self.page(base, wishes=wishes)
        assert result["shown"] == result["seen"]["text"]
        return result["seen"]

    def page(self, base: str, **wishes: object) -> dict:
        """What the page of client/page_client.mjs went through; it leaves a picture."""
        self.picture.unlink(missing_ok=True)
        result = run_node("../client/page_client.mjs", {"base": base, "picture": str(self.picture), **wishes})
        assert result["complaints"] == []
        assert self.picture.read_bytes().startswith(b"\x89PNG")
        return result


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Client:
    """The client in Node, then in Chromium."""
    return Client(request.param, request.node.originalname.removeprefix("test_"))


@pytest.fixture
def browser(request: pytest.FixtureRequest) -> Client:
    """The client in Chromium, for what only a browser has."""
    return Client("chromium", request.node.originalname.removeprefix("test_"))


@pytest.fixture
def demo(tmp_path: Path):
    """A running demo's port."""
    port, admin = free_port(), free_port()
    argv = [str(BINARY), "demo", "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
    process = Process(argv, tmp_path / "proxy-demo.log")
    try:
        process.wait_for_port(port)
        yield port
    finally:
        process.stop()


def ask(method: str, path: str, key: str, message: str = "hi", **more: object) -> tuple[str, dict]:
    """The path and options of a chat by GET or POST."""
    body = {"message": message, "key": key, **more}
    if method == "GET":
        return f"{path}?{urlencode(body)}", {}
    return path, {"body": body}


def release(key: str, after: int = HELD) -> dict:
    """The wish that lets the held answer of `key` go on once its client stands in it."""
    return {"after": after, "path": f"/release?key={key}"}


def shown(message: str = "hi", count: int = 20) -> str:
    """The text of a whole answer, or of its first words."""
    return "".join(words(message)[:count])


def shape(seen: dict) -> list[str]:
    """The codes of the reconnects' reasons, in order."""
    return [wait["error"]["code"] for wait in seen["reconnecting"]]


def test_the_units_hold():
    scripts = sorted(str(path) for path in (HERE / "client").glob("*.test.mjs"))
    argv = [str(NODE), "--test", "--test-reporter=tap", *scripts]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, env=environment(), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# fail 0" in done.stdout and "# pass 0" not in done.stdout


# ---- behind the proxy ----


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("action", ["reset", "fin"])
def test_cut_twice_no_word_is_lost_or_doubled(start_proxy, chat_app, relay, key, client, method, action):
    proxy = start_proxy(route(), app=chat_app.url)
    front = relay(proxy.port)
    verb = method.encode() + b" /chat-robust"
    cuts = [front.plan(request=verb, marker=mark, action=action) for mark in (b"hi-5-", b"hi-14-")]
    path, options = ask(method, "/chat-robust", key, hold_at=HELD)
    seen = client.play(front.url, path, options=options, release=release(key))
    assert [cut.done.is_set() for cut in cuts] == [True, True]
    assert [*told(seen["events"]), ("done", seen["done"])] == robust("hi", key)
    assert dense([event["id"] for event in seen["events"]])
    assert (seen["state"], seen["gaps"], len(seen["reconnecting"])) == ("done", [], 2)
    assert chat_app.asked("/chat-robust", key) == 1
    assert chat_app.generations(key) == 1


def test_a_post_whose_head_was_lost_joins_its_answer_instead_of_paying_twice(
    start_proxy, chat_app, relay, key, client
):
    proxy = start_proxy(route(), app=chat_app.url)
    front = relay(proxy.port)
    cut = front.plan(request=b"POST /chat-robust", after=9, action="reset")
    path, options = ask("POST", "/chat-robust", key)
    seen = client.play(front.url, path, options=options)
    assert cut.done.is_set()
    assert (seen["state"], seen["text"]) == ("done", shown())
    assert chat_app.generations(key) == 1


def test_a_stall_is_noticed_and_the_rest_fetched(start_proxy, chat_app, relay, key, client):
    proxy = start_proxy(route(), app=chat_app.url)
    front = relay(proxy.port)
    stall = front.plan(request=b"POST /chat-robust", marker=b"hi-7-", action="stall")
    path, options = ask("POST", "/chat-robust", key, hold_at=HELD)
    options |= {"timeouts": {"idle": 1000}}
    seen = client.play(front.url, path, options=options, release=release(key))
    assert stall.done.is_set()
    assert shape(seen) == ["idle_timeout"]
    assert (seen["state"], seen["text"]) == ("done", shown())
    assert chat_app.generations(key) == 1


def test_heartbeats_are_a_sign_of_life(start_proxy, chat_app, key, client):
    proxy = start_proxy(route(), app=chat_app.url)
    # Held until the reader is told of a timeout, which never comes: heartbeats do, every 50 ms.
    path, options = ask("POST", "/chat-robust", key, delay_ms=700, words=3)
    seen = client.play(proxy.url, path, options=options | {"timeouts": {"idle": 500}})
    assert (seen["state"], seen["text"], shape(seen)) == ("done", "hi-0-plain hi-1-größe hi-2-日本", [])


def test_a_business_error_keeps_the_text(start_proxy, chat_app, key, client):
    proxy = start_proxy(route(), app=chat_app.url)
    path, options = ask("POST", "/chat-robust", key, fail_at=5)
    seen = client.play(proxy.url, path, options=options)
    error = seen["error"]
    assert (seen["state"], seen["text"]) == ("error", shown(count=5))
    assert (error["type"], error["recoverable"]) == ("business", True)
    assert error["message"] == "no memory left at word 5"
    assert chat_app.generations(key) == 1


def test_an_upstream_that_breaks_off_is_the_standard_error_and_keeps_the_text(start_proxy, chat_app, key, client):
    proxy = start_proxy(route(), app=chat_app.url)
    seen = client.play(proxy.url, f"/stream-raise?key={key}", options={"method": "POST"})
    error = seen["error"]
    assert seen["text"] == "".join(words("raise", 10)[:5])
    assert (error["type"], error["severity"], error["recoverable"]) == ("system", "error", True)
    assert error["code"] in ("upstream_truncated", "upstream_reset") and error["requestId"]
    assert chat_app.generations(key) == 1


def test_a_refused_question_is_fatal_at_once(start_proxy, chat_app, key, client):
    proxy = start_proxy(route(), app=chat_app.url)
    path, options = ask("POST", "/chat-robust", key, message=" ")
    seen = client.play(proxy.url, path, options=options)
    error = seen["error"]
    assert (seen["state"], seen["reconnecting"], seen["text"]) == ("error", [], "")
    assert (error["type"], error["status"], error["recoverable"]) == ("validation", 400, False)
    assert error["message"] == "message must not be empty"


def test_a_dead_upstream_is_tried_as_often_as_allowed(start_proxy, dead_port, client):
    hasty = 'timeouts = { connect = "1s" }\nretry = { attempts = 1 }\nfallback = { mode = "off" }\n'
    toml = f'[[routes]]\nmatch = {{ path = "/" }}\nupstream = "app"\n{hasty}'
    proxy = start_proxy(toml, app=f"http://127.0.0.1:{dead_port}")
    seen = client.play(proxy.url, "/chat", options={"retry": {**QUICK, "attempts": 2}})
    assert shape(seen) == ["upstream_unreachable"] * 2
    assert (seen["state"], seen["error"]["code"], seen["error"]["status"]) == ("error", "upstream_unreachable", 502)


def test_stop_ends_the_generation(start_proxy, chat_app, key, client):
    proxy = start_proxy(route(), app=chat_app.url)
    path, options = ask("POST", "/chat-robust", key, hold_at=HELD)
    seen = client.play(proxy.url, path, options=options, leave={"after": HELD, "how": "stop"})
    assert (seen["state"], seen["stopped"], seen["error"]) == ("left", True, None)
    assert seen["text"] == shown(count=HELD - 1)
    assert proxy.state(seen["session"]).status_code == 404
    until(lambda: chat_app.cancelled("/chat-robust", key) == 1, "the app lost its reader")


def test_stop_before_the_first_word_ends_the_generation_too(start_proxy, chat_app, key, client):
    # The head comes after commit_after, nothing before.
    proxy = start_proxy(route(commit_after='"500ms"'), app=chat_app.url)
    seen = client.play(proxy.url, f"/stream-no-ids?key={key}&hold_at=0", leave={"after": 0, "how": "stop"})
    assert (seen["state"], seen["stopped"], seen["events"]) == ("left", True, [])
    until(lambda: chat_app.cancelled("/stream-no-ids", key) == 1, "the app lost its reader")


def test_disconnect_leaves_the_generation_and_can_come_back(start_proxy, chat_app, key, client):
    proxy = start_proxy(route(), app=chat_app.url)
    path, options = ask("POST", "/chat-robust", key, hold_at=HELD)
    first = client.play(proxy.url, path, options=options, leave={"after": HELD, "how": "disconnect"})
    assert first["state"] == "left"
    assert proxy.state(first["session"]).json()["state"] == "live"
    chat_app.release(key)
    second = client.play(proxy.url, path, options={**options, "lastEventId": first["lastEventId"]})
    assert (second["state"], first["text"] + second["text"]) == ("done", shown())
    assert chat_app.generations(key) == 1


def test_events_that_the_ring_has_lost_are_a_gap(start_proxy, chat_app, key, client):
    proxy = start_proxy(route(), extra=f"{BASE}\n[session]\nmax_events = 8\n", app=chat_app.url)
    path, options = ask("POST", "/chat-robust", key, hold_at=HELD)
    first = client.play(proxy.url, path, options=options, leave={"after": HELD, "how": "disconnect"})
    chat_app.release(key)
    until(lambda: proxy.state(first["session"]).json()["state"] == "finished", "the answer is whole")
    seen = client.play(proxy.url, path, options={**options, "lastEventId": first["lastEventId"]})
    (gap,) = seen["gaps"]
    assert (gap["from"], gap["reason"], gap["after"], seen["state"]) == (HELD + 1, "evicted", 0, "done")
    # 22 events in all: init, 20 words, done.
    assert shown()[-len(seen["text"]):] == seen["text"] and len(seen["events"]) == 22 - gap["to"] - 1


def test_a_stream_without_a_terminator_is_done_when_the_proxy_says_so(start_proxy, chat_app, key, client):
    proxy = start_proxy(route(), app=chat_app.url)
    seen = client.play(proxy.url, f"/stream-no-ids?key={key}&words=5")
    assert [event["data"] for event in seen["events"]] == [f"Message {n}" for n in range(5)]
    assert (seen["state"], shape(seen), len(seen["opened"])) == ("done", ["ended"], 1)
    assert chat_app.asked("/stream-no-ids", key) == 1


# ---- upstreams that speak OpenAI's wire ----


def completion(fault: str, **more: object) -> dict:
    """The options of a streamed completion that goes wrong as told."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    return {"body": body, "headers": {"x-test-fault": fault}, **more}


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: outcome.name)
def test_every_failure_of_an_upstream_has_its_code_and_keeps_the_text(start_proxy, upstream, outcome: Outcome):
    proxy = start_proxy(llm_route(outcome.timeouts), llm=upstream.url)
    options = completion(outcome.fault, retry={"attempts": 0})
    seen = Client("node", "").play(proxy.url, "/v1/chat/completions", options=options)
    assert (seen["state"], seen["error"]["code"] in outcome.codes) == ("error", True), seen["error"]
    assert seen["error"]["status"] == outcome.status
    assert seen["text"] == wire.text()[: len(seen["text"])]
    assert len(seen["text"].split(":")) - 1 == (outcome.words or 0)


def test_a_gap_in_a_wire_without_gap_events_is_its_error(start_proxy, upstream, key, client):
    proxy = start_proxy(llm_route(), extra=f"{BASE}\n[session]\nmax_events = 4\n", llm=upstream.url)
    options = completion(f"hold@3#{key}")
    leave = {"after": 3, "how": "disconnect"}
    first = client.play(proxy.url, "/v1/chat/completions", options=options, leave=leave)
    upstream.release(key)
    until(lambda: proxy.state(first["session"]).json()["state"] == "finished", "the answer is whole")
    again = {**options, "lastEventId": first["lastEventId"]}
    seen = client.play(proxy.url, "/v1/chat/completions", options=again)
    assert (seen["state"], seen["text"], shape(seen)) == ("error", "", ["session_gap"])
    error = seen["error"]
    assert (error["code"], error["severity"], error["recoverable"]) == ("session_gap", "warning", True)


# ---- the demo's upstream ----

PROMPT = {"model": "streamkeeper-demo", "messages": [{"role": "user", "content": "What does a keeper write?"}]}


def test_the_demo_cut_in_the_middle_is_whole(demo, relay, client):
    front = relay(demo)
    cut = front.plan(request=b"POST /v1/chat", after=6000, action="reset")
    options = {"body": {**PROMPT, "stream": True}}
    seen = client.play(front.url, "/v1/chat/completions?fault=pace=15", options=options)
    whole = httpx.post(f"{front.url}/v1/chat/completions", json=PROMPT).json()["choices"][0]["message"]["content"]
    assert cut.done.is_set()
    assert (seen["state"], seen["done"], seen["text"]) == ("done", "[DONE]", whole)
    assert len(seen["reconnecting"]) == 1


def test_the_demo_killed_in_the_middle_keeps_the_text_and_says_why(demo, client):
    options = {"body": {**PROMPT, "stream": True}}
    seen = client.play(f"http://127.0.0.1:{demo}", "/v1/chat/completions?fault=pace=1,reset@30", options=options)
    assert (seen["state"], seen["error"]["code"]) == ("error", "upstream_reset")
    assert len(seen["text"].split()) > 10


# ---- no proxy: a FastAPI app as it is ----


def test_a_bare_app_is_read_to_its_end(chat_app, key, client):
    path, options = ask("POST", "/chat-robust", key)
    seen = client.play(chat_app.url, path, options=options)
    assert [*told(seen["events"]), ("done", seen["done"])] == robust("hi", key)
    assert (seen["session"], shape(seen)) == ("", [])
    assert chat_app.cancelled("/chat-robust", key) == 0


@pytest.mark.parametrize("action", ["reset", "stall"])
def test_a_bare_app_that_numbers_its_events_is_resumed(chat_app, relay, key, client, action):
    front = relay(chat_app.port)
    cut = front.plan(request=b"GET /stream-resumable", marker=b"Message 9", action=action)
    path = f"/stream-resumable?session_id={key}&hold_at={HELD + 1}"
    options = {"timeouts": {"idle": 1000}}
    seen = client.play(front.url, path, options=options, release=release(key))
    assert cut.done.is_set()
    assert [event["id"] for event in seen["events"]] == [str(number) for number in range(1, 21)]
    assert (seen["state"], len(seen["reconnecting"])) == ("done", 1)
    assert chat_app.asked("/stream-resumable", key) == 2


def test_a_bare_app_without_ids_keeps_what_is_shown_and_is_not_asked_twice(chat_app, relay, key, client):
    front = relay(chat_app.port)
    cut = front.plan(request=b"POST /chat-robust", marker=b"hi-9-", action="reset")
    path, options = ask("POST", "/chat-robust", key, hold_at=HELD)
    seen = client.play(front.url, path, options=options, release=release(key))
    assert cut.done.is_set()
    assert seen["text"] and shown().startswith(seen["text"])
    assert (seen["state"], seen["error"]["type"], seen["reconnecting"]) == ("error", "network", [])
    assert chat_app.asked("/chat-robust", key) == 1


def test_a_bare_apps_business_error_keeps_the_text(chat_app, key, client):
    path, options = ask("GET", "/chat-robust", key, fail_at=5)
    seen = client.play(chat_app.url, path, options=options)
    assert (seen["state"], seen["text"]) == ("error", shown(count=5))
    assert (seen["error"]["type"], seen["reconnecting"]) == ("business", [])


def test_a_bare_apps_refusal_and_a_clean_end_are_what_they_are(chat_app, key, client):
    path, options = ask("GET", "/chat-robust", key, message="x" * 201)
    refused = client.play(chat_app.url, path, options=options)
    assert (refused["state"], refused["error"]["status"], refused["reconnecting"]) == ("error", 400, [])
    seen = client.play(chat_app.url, f"/stream-no-ids?key={key}&words=5")
    assert (seen["state"], len(seen["events"]), seen["reconnecting"]) == ("done", 5, [])


def test_stopping_at_a_bare_app_closes_the_connection(chat_app, key, client):
    path, options = ask("POST", "/chat-robust", key, hold_at=HELD)
    seen = client.play(chat_app.url, path, options=options, leave={"after": HELD, "how": "stop"})
    assert (seen["state"], seen["stopped"]) == ("left", False)
    until(lambda: chat_app.cancelled("/chat-robust", key) == 1, "the app lost its reader")


# ---- what only a browser has ----


@pytest.mark.parametrize("after_reload", ["repeat", "attach", "replay"])
def test_a_reload_in_the_middle_goes_on(start_proxy, chat_app, key, browser, after_reload):
    proxy = start_proxy(route(), app=chat_app.url)
    path, options = ask("POST", "/chat-robust", key, hold_at=9)
    options |= {"resumeKey": "chat-42", "retry": QUICK, "afterReload": after_reload}
    before = {"url": proxy.url + path, "names": ["init"], "options": options, "keepText": after_reload != "replay"}
    # Only a repeated request needs to be known after the reload.
    wishes = {**before, "options": options if after_reload == "repeat" else {**options, "body": None}}
    browser.picture = browser.picture.with_stem(f"{browser.picture.stem}-{after_reload}")
    then = f"{chat_app.url}/release?key={key}"
    result = browser.page(proxy.url, wishes=wishes, reload={"before": before, "events": 10, "then": then})
    assert result["first"]["text"] == shown(count=9)
    assert (result["seen"]["state"], result["shown"], result["saved"]) == ("done", shown(), None)
    assert result["seen"]["opened"][0]["session"] == result["first"]["session"]
    assert chat_app.asked("/chat-robust", key) == 1


def test_without_a_network_it_waits_and_online_brings_it_back(start_proxy, chat_app, relay, key, browser):
    proxy = start_proxy(route(), app=chat_app.url)
    front = relay(proxy.port)
    front.plan(request=b"POST /chat-robust", marker=b"hi-9-", action="reset")
    path, options = ask("POST", "/chat-robust", key, hold_at=HELD)
    wishes = {"url": front.url + path, "names": ["init"], "options": {**options, "retry": QUICK}}
    offline = {"after": HELD, "cut": f"{chat_app.url}/release?key={key}"}
    result = browser.page(front.url, wishes=wishes, offline=offline)
    assert (result["seen"]["state"], result["shown"]) == ("done", shown())
    assert [wait["attempt"] for wait in result["seen"]["reconnecting"]] == [1]
    assert chat_app.generations(key) == 1


@pytest.mark.parametrize("which", ["plain", "react"])
def test_the_readmes_examples_work_as_they_stand(start_proxy, chat_app, key, browser, which):
    proxy = start_proxy(route(), app=chat_app.url)
    path, options = ask("POST", "/chat-robust", key, hold_at=HELD)
    if which == "react":
        # StrictMode mounts twice: the second mount joins the first one's answer.
        options |= {"resumeKey": "chat-42", "afterReload": "replay"}
    wishes = {"base": proxy.url, "which": which, "url": path, "options": options}
    wishes["then"] = f"{chat_app.url}/release?key={key}"
    result = run_node("../client/readme.mjs", {**wishes, "picture": str(OUT / f"client-readme-{which}.png")})
    assert (result["text"], result["status"].lower(), result["complaints"]) == (shown(), "done", [])
    assert chat_app.generations(key) == 1
