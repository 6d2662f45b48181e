"""The programs that must be installed: runc."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from typing import Final

from watcher.checks.check import Finding, Subject, fail, ok, warn

OLDEST: Final = (1, 1)
"""The oldest tested version of runc."""

_PATIENCE: Final = 10
"""Seconds for `runc --version`."""


def findings(_: Subject) -> Iterator[Finding]:
    """Whether runc is installed, and its version."""
    program = shutil.which("runc")
    if program is None:
        yield fail("runc is not in $PATH", "install it, e.g. `apt-get install runc`")
        return
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=_PATIENCE, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        yield fail(f"`{program} --version` fails: {error}", "install runc anew")
        return
    version = done.stdout.partition("\n")[0].removeprefix("runc version ").strip()
    known = _numbers(version)
    if known is None or known >= OLDEST:
        yield ok(f"{program} is version {version or 'unknown'}")
    else:
        yield warn(
            f"{program} is version {version}, older than any that was tried",
            f"install {'.'.join(map(str, OLDEST))} or later",
        )


def _numbers(version: str) -> tuple[int, int] | None:
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None
