"""One line of `watcher check`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

type Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: the check's name, one word.
        level: `ok`; `warn` where something is lost; `fail` where containers get no network.
        what: what was found and where.
        remedy: what to do about it, as an imperative; empty where nothing is to be done.
    """

    check: str
    level: Level
    what: str
    remedy: str = ""


def ok(check: str, what: str) -> Finding:
    """Nothing is in the way."""
    return Finding(check, "ok", what)


def warn(check: str, what: str, remedy: str) -> Finding:
    """Something is lost; containers get their network without it."""
    return Finding(check, "warn", what, remedy)


def fail(check: str, what: str, remedy: str) -> Finding:
    """Containers do not get their network, or not one that works."""
    return Finding(check, "fail", what, remedy)
