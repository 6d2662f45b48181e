"""The list of the checks of a container, in the order in which users read their findings.

To add one, write a function that takes what was gathered and yields findings, and add it to
`QUESTIONS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from watcher.checks import privileges
from watcher.checks.check import Finding, warn
from watcher.checks.container import (
    bandwidth,
    ends,
    guarding,
    hosts,
    limits,
    listening,
    maps,
    names,
    reach,
    wayout,
)
from watcher.checks.container.gathered import Gathered, Known, Question, gather
from watcher.model.errors import WatcherError, message_of

if TYPE_CHECKING:
    from collections.abc import Iterable

QUESTIONS: Final = (
    Question("interface", ends.of_interfaces),
    Question("route", ends.of_routes),
    Question("gateway", ends.of_gateways),
    Question("listens", listening.findings),
    Question("ports", maps.in_force),
    Question("taken", maps.taken_ports),
    Question("outside", reach.from_outside),
    Question("host", reach.from_host),
    Question("neighbours", reach.from_neighbours),
    Question("hosts", hosts.findings),
    Question("filters", reach.unreadable),
    Question("out", wayout.findings),
    Question("limits", limits.findings),
    Question("names", names.findings),
    Question("guard", guarding.findings),
    Question("bandwidth", bandwidth.findings),
)

_CAPABILITIES: Final = ("CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE")


def refuse_without_privileges() -> None:
    """Raise WatcherError if this process may not look into a container."""
    missing = [name for name in _CAPABILITIES if not privileges.has(name)]
    if missing:
        what = f"a container cannot be checked without {', '.join(missing)}"
        raise WatcherError(what, "run as root")


def findings(known: Known) -> Iterator[Finding]:
    """The findings of all checks of a container, in order.

    Raises:
        WatcherError: it has ended.
    """
    with gather(known) as gathered:
        for question in QUESTIONS:
            yield from named(question.name, _found(question, gathered))


def named(check: str, found: Iterable[Finding]) -> Iterator[Finding]:
    """`found` with the name of their check."""
    return (replace(finding, check=check) for finding in found)


def _found(question: Question, gathered: Gathered) -> Iterable[Finding]:
    try:
        yield from question.findings(gathered)
    except (OSError, WatcherError) as error:
        yield warn(f"it cannot be told: {message_of(error)}", "run `watcher check`")
