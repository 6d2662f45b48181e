"""What a check is given, and what it says: a line of `watcher check` each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from watcher.config.settings import Config
    from watcher.model.network import Network

type Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Subject:
    """What every check looks at.

    Attributes:
        config: the configuration of the service.
        networks: those of the configuration, and those that the lease store says are in use.
    """

    config: Config
    networks: Mapping[str, Network]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: what it is about, one word; empty for the name of the check that found it.
        level: `ok`; `warn` where something is lost; `fail` where containers get no network.
        what: what was found and where.
        remedy: what to do about it, as an imperative; empty where nothing is to be done.
    """

    check: str
    level: Level
    what: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at.

    Attributes:
        name: what users know it by, one word.
        findings: looks, and yields what it found, each with its remedy; changes nothing.
        needs: the capability without which it cannot look.
    """

    name: str
    findings: Callable[[Subject], Iterable[Finding]]
    needs: str = ""


def ok(what: str) -> Finding:
    """Nothing is in the way."""
    return Finding("", "ok", what)


def warn(what: str, remedy: str) -> Finding:
    """Something is lost; containers get their network without it."""
    return Finding("", "warn", what, remedy)


def fail(what: str, remedy: str) -> Finding:
    """Containers do not get their network, or not one that works."""
    return Finding("", "fail", what, remedy)
