"""The list of checks, in the order in which users read their findings.

To add one, write a function that takes a `Subject` and yields findings, and add it to `CHECKS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from watcher.checks import (
    bandwidth,
    closed,
    directories,
    engines,
    firewalls,
    gate,
    guards,
    kernel,
    leases,
    limits,
    locks,
    names,
    networks,
    ports,
    privileges,
    programs,
    runtimes,
    services,
)
from watcher.checks.check import Check, Finding, Subject, fail
from watcher.checks.cluster import filters, registry, routes, state, underlay
from watcher.model.errors import WatcherError

if TYPE_CHECKING:
    from watcher.config.settings import Config

CHECKS: Final = (
    Check("privileges", privileges.findings),
    Check("runc", programs.findings),
    Check("kernel", kernel.findings, needs="CAP_NET_ADMIN"),
    Check("bandwidth", bandwidth.findings, needs="CAP_NET_ADMIN"),
    Check("gate", gate.findings),
    Check("runtimes", runtimes.findings),
    Check("engines", engines.findings),
    Check("service", services.findings),
    Check("directories", directories.findings),
    Check("locks", locks.findings),
    Check("leases", leases.findings),
    Check("networks", networks.findings),
    Check("ports", ports.findings),
    Check("guards", guards.findings),
    Check("limits", limits.findings, needs="CAP_NET_ADMIN"),
    Check("closed", closed.findings),
    Check("names", names.findings),
    Check("cluster", state.findings),
    Check("etcd", registry.findings),
    Check("hosts", underlay.findings, needs="CAP_NET_ADMIN"),
    Check("routes", routes.findings, needs="CAP_NET_ADMIN"),
    Check("firewalls", firewalls.findings, needs="CAP_NET_ADMIN"),
    Check("firewalls", filters.findings, needs="CAP_NET_ADMIN"),
)


def findings(config: Config) -> Iterator[Finding]:
    """The findings of all checks, in order. A check that raises is a finding as well."""
    subject = Subject(config, leases.networks(config))
    for check in CHECKS:
        for finding in _found(check, subject):
            yield replace(finding, check=finding.check or check.name)


def _found(check: Check, subject: Subject) -> Iterator[Finding]:
    if check.needs and not privileges.has(check.needs):
        yield fail(f"it cannot be told without {check.needs}", "run as root")
        return
    try:
        yield from check.findings(subject)
    except (OSError, WatcherError) as error:
        yield fail(f"it cannot be told: {error}", "run as root")
