"""Runs the Node side of a test: one script, one JSON argument, one JSON answer.

`run_node` starts a process for each; `NodeWorker` keeps one for many wishes,
where loading the SDKs would take longer than asking them.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
NODE = HERE / ".venv/bin/node"


# SDKs look at their own variables; a test says everything itself.
PREFIXES = ("OPENAI_", "ANTHROPIC_", "GEMINI_", "GOOGLE_", "AI_GATEWAY_")


def environment() -> dict[str, str]:
    """The variables that a Node process gets."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}


def run_node(script: str, wishes: dict, deadline: float = 60) -> dict:
    """The last line that `node/<script>` prints, as JSON.

    Raises AssertionError with its output when it fails, prints something else,
    or is not done within `deadline` seconds.
    """
    argv = [str(NODE), str(HERE / "node" / script), json.dumps(wishes)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=deadline, env=environment(), check=False)
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"{script} not done in {deadline:g} s: {late.stdout!r} {late.stderr!r}") from None
    assert done.returncode == 0, f"{script} failed:\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout.splitlines()[-1])


class NodeWorker:
    """`node/<script>` kept running: a line of JSON in, a line of JSON out. Starts at the first wish."""

    def __init__(self, script: str) -> None:
        self.script = script
        self._popen: subprocess.Popen | None = None

    def _running(self) -> subprocess.Popen:
        if self._popen is None:
            self._errors = tempfile.TemporaryFile()
            argv = [str(NODE), str(HERE / "node" / self.script)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._errors}
            self._popen = subprocess.Popen(argv, **pipes, env=environment())
        return self._popen

    def ask(self, wishes: dict, deadline: float = 60) -> dict:
        """The answer; AssertionError when the script fails, ends, or is not done in time."""
        worker = self._running()
        worker.stdin.write(json.dumps(wishes).encode() + b"\n")
        worker.stdin.flush()
        ready, _, _ = select.select([worker.stdout], [], [], deadline)
        line = worker.stdout.readline() if ready else b""
        if not line:
            said = self.stop()
            raise AssertionError(f"{self.script} did not answer {wishes}:\n{said}")
        answer = json.loads(line)
        assert "failed" not in answer, f"{wishes}: {answer['failed']}"
        return answer

    def stop(self) -> str:
        """Ends it; returns what it said on stderr. The next wish starts another."""
        if self._popen is None:
            return ""
        self._popen.stdin.close()
        try:
            self._popen.wait(3)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._popen.stdout.close()
        self._popen = None
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace")
        self._errors.close()
        return said
