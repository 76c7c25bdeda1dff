"""Runs the Node side of a test: one script, one JSON argument, one JSON answer."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
NODE = HERE / ".venv/bin/node"


def run_node(script: str, wishes: dict, deadline: float = 60) -> dict:
    """The last line that `node/<script>` prints, as JSON.

    Raises AssertionError with its output when it fails, prints something else,
    or is not done within `deadline` seconds.
    """
    argv = [str(NODE), str(HERE / "node" / script), json.dumps(wishes)]
    # SDKs look at their own variables; a test says everything itself.
    env = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=deadline, env=env, check=False)
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"{script} not done in {deadline:g} s: {late.stdout!r} {late.stderr!r}") from None
    assert done.returncode == 0, f"{script} failed:\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout.splitlines()[-1])
