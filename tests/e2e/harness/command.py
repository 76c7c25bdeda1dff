"""A program that is run to its end, for what it prints and its exit code."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def run(*argv: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A program's whole output, stderr included."""
    return subprocess.run(
        [str(part) for part in argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        env={**os.environ, **env},
    )
