"""An hour of an operator's life in a quarter of a minute: streams that go well, and every fault that alerts are about.

What it is: configuration and clients for one proxy in memory mode. Routes are
told apart by the Host header, so that one scripted upstream serves them all.
What it is not: a load test; and nothing here looks at what clients get, other
tests do.
"""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx

from harness.process import until
from harness.proxy import Proxy
from openai_upstream import OpenAiUpstream

PATH = "/v1/chat/completions"
IMPATIENT = '{ connect = "300ms", head = "400ms", first_event = "400ms", idle = "400ms", total = "20s" }'
PATIENT = '{ idle = "20s", first_event = "20s", total = "30s" }'

# Rings are small: a few answers fill them, and a stay away costs events. They stay full until the process ends.
EXTRA = """
[session]
max_events = 16
max_bytes = "16KiB"
retention = "1h"
[limits]
ring_bytes = "192KiB"
event = "16KiB"
line = "16KiB"
sessions_per_principal = 2
[retry_hint]
base = "100ms"
ill = "200ms"
[drain]
timeout = "200ms"
"""


def route(host: str | None, upstream: str, **keys: str) -> str:
    """Everything for `host` to `upstream`; without more keys nothing is tried twice."""
    match = '{ path = "/" }' if host is None else f'{{ path = "/", host = "{host}" }}'
    lines = {"timeouts": IMPATIENT, "retry": "{ attempts = 1 }", "fallback": '{ mode = "off" }', "after_partial": "[]"}
    lines.update(keys)
    body = "\n".join(f"{name} = {value}" for name, value in lines.items())
    return f'[[routes]]\nmatch = {match}\nupstream = "{upstream}"\n{body}\n'


ROUTES = "".join([
    route(None, "llm"),
    route("patient", "llm", timeouts=PATIENT, detach='{ mode = "grace", grace = "3s" }'),
    route("mending", "llm", fallback='{ mode = "non_stream" }', after_partial='["continuation"]', prefill='"trailing"'),
    route("dead", "dead"),
])


class Callers:
    """Clients of one proxy, each request on a connection of its own."""

    def __init__(self, proxy: Proxy) -> None:
        self.url = proxy.url

    def chat(
        self, fault: str = "ok", host: str = "any", words: int = 12, read: int | None = None, **headers: str
    ) -> str:
        """One chat; `read`: leaves after so many events. Returns the id of the last event seen."""
        messages = [{"role": "user", "content": "Count."}]
        body = {"model": "fake", "stream": True, "max_tokens": words, "messages": messages}
        last = ""
        sent = {"host": host, "x-test-fault": fault, **headers}
        with httpx.stream("POST", f"{self.url}{PATH}", json=body, headers=sent, timeout=20) as answer:
            ids = (line[4:] for line in answer.iter_lines() if line.startswith("id: "))
            for seen, last in enumerate(ids, 1):
                if seen == read:
                    break
        return last

    def returns(self, fault: str) -> None:
        """Leaves a held stream in its middle, comes back, and goes on to its end."""
        last = self.chat(fault, "patient", read=5)
        self.chat(fault, "patient", **{"last-event-id": last})

    def state(self, last: str) -> dict:
        """The session's state as JSON."""
        session = last.split(".")[0]
        answer = httpx.get(f"{self.url}/_streamkeeper/sessions/{session}", headers={"accept": "application/json"})
        return answer.json()

    def all_together(self, *chats: dict) -> None:
        """Chats at the same time; the first to raise raises here."""
        with ThreadPoolExecutor(len(chats)) as pool:
            list(pool.map(lambda chat: self.chat(**chat), chats))


class Traffic(threading.Thread):
    """Until stopped, in turn: a good stream, and a request to an upstream that is dead."""

    def __init__(self, callers: Callers) -> None:
        super().__init__(daemon=True)
        self.callers, self._over = callers, threading.Event()

    def run(self) -> None:
        """See the class."""
        while not self._over.wait(0.05):
            self.callers.chat()
            self.callers.chat(host="dead")

    def stop(self) -> None:
        """Ends it."""
        self._over.set()
        self.join()


def all_faults(callers: Callers, upstream: OpenAiUpstream) -> None:
    """Each fault at least twice."""
    broken = ["reset@4", "mid-event@4", "truncate@4", "truncate@2", "truncate@6", "stall@3", "error@4", "huge@2"]
    refused = ["400", "401", "429", "500", "503", "hang", "hang-first", "json-error", "html"]
    for fault in broken + refused:
        callers.all_together({"fault": fault}, {"fault": fault})
    # Mended: by an answer without streaming before content, by going on after it.
    mendable = ("500", "truncate@4:1#a", "truncate@4:1#b")
    callers.all_together(*({"fault": fault, "host": "mending"} for fault in mendable))
    # Nobody can go on with this one, and the fallback fails with it.
    callers.all_together(*({"fault": fault, "host": "mending"} for fault in ("truncate@4", "500!")))
    returning(callers, upstream)
    too_late(callers, upstream)
    greedy(callers, upstream)


def returning(callers: Callers, upstream: OpenAiUpstream) -> None:
    """Clients that come back: in time, for nothing, for somebody else's, and never (then an orphan runs on)."""
    with ThreadPoolExecutor(3) as pool:
        back = [pool.submit(callers.returns, f"hold@8#back{number}") for number in range(3)]
        for number in range(3):
            upstream.release(f"back{number}")
        for done in back:
            done.result()
    whole = callers.chat()
    callers.chat(**{"last-event-id": whole})
    callers.chat(**{"last-event-id": "A" * 22 + ".0.1"})
    callers.chat("hold@8#orphan", "patient", read=5)


def too_late(callers: Callers, upstream: OpenAiUpstream) -> None:
    """One comes back for events that had to make room."""
    last = callers.chat("hold@40#late", "patient", words=60, read=2)
    until(lambda: callers.state(last)["evicted"] > 10, "events are evicted")
    callers.chat(**{"last-event-id": last})
    upstream.release("late")


def greedy(callers: Callers, upstream: OpenAiUpstream) -> None:
    """One caller with more streams at once than it may have."""
    alice = {"authorization": "Bearer alice"}
    with ThreadPoolExecutor(2) as pool:
        held = [pool.submit(callers.chat, "hold@3#alice", "patient", **alice) for _ in range(2)]
        until(lambda: upstream.seen("alice")["stream"] == 2, "two streams run")
        callers.chat(**alice)
        upstream.release("alice")
        for done in held:
            done.result()


def deaf_client(proxy: Proxy) -> socket.socket:
    """A client that reads the first byte of a large answer and no more. It keeps a drain from ending early."""
    quiet = socket.socket()
    quiet.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    quiet.connect(("127.0.0.1", proxy.port))
    body = b'{"model":"fake","max_tokens":500000,"messages":[]}'
    head = f"POST {PATH} HTTP/1.1\r\nhost: any\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    quiet.sendall(head.encode() + body)
    assert quiet.recv(1) == b"H"
    return quiet
