"""The programs that must be installed: runc, or crun."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from typing import Final

from watcher.checks.check import Finding, Subject, fail, ok, warn

OLDEST: Final = {"runc": (1, 1), "crun": (1, 21)}
"""The oldest tested versions."""

_PATIENCE: Final = 10
"""Seconds for `runc --version`."""


def findings(_: Subject) -> Iterator[Finding]:
    """Whether runc is installed, or else crun, and its version."""
    for name in OLDEST:
        program = shutil.which(name)
        if program is not None:
            yield _of_program(name, program)
            return
    yield fail(
        f"neither {' nor '.join(OLDEST)} is in $PATH", "install one, e.g. `apt-get install runc`"
    )


def _of_program(name: str, program: str) -> Finding:
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=_PATIENCE, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return fail(f"`{program} --version` fails: {error}", f"install {name} anew")
    version = done.stdout.partition("\n")[0].removeprefix(f"{name} version ").strip()
    known = _numbers(version)
    if known is None or known >= OLDEST[name]:
        return ok(f"{program} is version {version or 'unknown'}")
    return warn(
        f"{program} is version {version}, older than any that was tried",
        f"install {'.'.join(map(str, OLDEST[name]))} or later",
    )


def _numbers(version: str) -> tuple[int, int] | None:
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None
