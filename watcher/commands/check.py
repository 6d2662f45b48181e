"""`watcher check`: says whether this host can run the program, and what to change."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from watcher.checks import (
    directories,
    firewalls,
    gate,
    kernel,
    leases,
    locks,
    networks,
    privileges,
    programs,
    services,
)
from watcher.checks.finding import Finding, fail
from watcher.commands.output import print_json
from watcher.model.errors import WatcherError, printable

if TYPE_CHECKING:
    from watcher.config.settings import Config


def run(config: Config, options: argparse.Namespace) -> int:
    """Print a line for each finding; 1 if one of them is a failure. Nothing is made."""
    found = list(_findings(config))
    if options.json:
        print_json(found)
    else:
        for finding in found:
            print(printable(_line(finding)))  # noqa: T201
    return int(any(finding.level == "fail" for finding in found))


def _findings(config: Config) -> Iterator[Finding]:
    known = leases.networks(config)
    able = privileges.may_administer_networks()
    checks: tuple[tuple[str, bool, Callable[[], Iterable[Finding]]], ...] = (
        ("privileges", True, privileges.findings),
        ("runc", True, programs.findings),
        ("kernel", able, lambda: kernel.findings(known.values())),
        ("gate", True, lambda: gate.findings(config)),
        ("service", True, lambda: services.findings(config)),
        ("directories", True, lambda: directories.findings(config)),
        ("locks", True, lambda: locks.findings(config)),
        ("leases", True, lambda: leases.findings(config)),
        ("networks", True, lambda: networks.findings(known)),
        (
            "firewalls",
            able,
            lambda: firewalls.findings(known.values(), integrate=config.firewall.integrate),
        ),
    )
    for name, possible, check in checks:
        if not possible:
            yield fail(name, "it cannot be told without CAP_NET_ADMIN", "run as root")
            continue
        try:
            yield from check()
        except (OSError, WatcherError) as error:
            yield fail(name, f"it cannot be told: {error}", "run as root")


def _line(finding: Finding) -> str:
    remedy = f"; {finding.remedy}" if finding.remedy else ""
    return f"{finding.level:<4}  {finding.check}: {finding.what}{remedy}"
