"""Runs processes to their end."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping


def output(*argv: str, stdin: str = "", env: Mapping[str, str] | None = None) -> str:
    """Run a command, and return its output.

    Raises:
        RuntimeError: it failed.
    """
    done = subprocess.run(argv, input=stdin, text=True, capture_output=True, check=False, env=env)
    if done.returncode:
        raise RuntimeError(f"{argv} exits {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout
