"""Checks for filters of other programs on the links of sandboxes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from handlers.guard import link as guard
from handlers.kernel.netlink import Netlink
from handlers.link import ours
from watcher.checks.check import Finding, Subject, fail, ok, warn

_SHOWN: Final = 3
"""The most links that are named for one kind of filter."""


def findings(subject: Subject) -> Iterator[Finding]:  # noqa: ARG001
    """The filters of others, those that may let a frame past the guard first."""
    before: list[str] = []
    behind: list[str] = []
    with Netlink() as netlink:
        for link in ours.host_ends(netlink):
            for one in guard.of_others(netlink, link.index):
                shown = f"{link.name} ({one.kind}, priority {one.priority})"
                (before if guard.may_be_first(one) else behind).append(shown)
    if before:
        yield fail(
            f"another program's filter may decide before the guard on {_some(before)}",
            "run `watcher sync`, and have that program use another priority than 1",
        )
    if behind:
        yield warn(
            f"another program's filter sees what the guard lets pass on {_some(behind)}",
            "if nobody meant it, remove it; see `tc filter show dev LINK ingress`",
        )
    if not before and not behind:
        yield ok("no other program has filters on the links of sandboxes")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
