"""The types of a check: its subject and its findings, each a line of `watcher check`."""

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
    """The argument of every check.

    Attributes:
        config: the configuration of the service.
        networks: the networks of the configuration and those in use by the lease store, by name.
    """

    config: Config
    networks: Mapping[str, Network]


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a check.

    Attributes:
        check: one word for the users; if empty, the registry fills in the name of the check.
        level: `ok`; `warn` if something is lost; `fail` if containers get no network.
        what: what was found and where.
        remedy: what to do about it, as an imperative; empty if nothing.
    """

    check: str
    level: Level
    what: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One question about the host.

    Attributes:
        name: one word for the users.
        findings: yields the findings, each with its remedy; changes nothing on the host.
        needs: the capability that `findings` needs, if any.
    """

    name: str
    findings: Callable[[Subject], Iterable[Finding]]
    needs: str = ""


def ok(what: str, remedy: str = "") -> Finding:
    """A finding: no problem; with a `remedy`, it keeps something away that somebody may want."""
    return Finding("", "ok", what, remedy)


def warn(what: str, remedy: str) -> Finding:
    """A finding: something is lost, but containers get their network."""
    return Finding("", "warn", what, remedy)


def fail(what: str, remedy: str) -> Finding:
    """A finding: containers get no network, or none that works."""
    return Finding("", "fail", what, remedy)
