"""`watcher check`: says whether this host can run the program, and what to change.

`watcher check CONTAINER`: what stands between a container and whoever wants to reach it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from watcher.checks import registry
from watcher.commands.output import print_json
from watcher.model.container import Status
from watcher.model.errors import WatcherError, printable
from watcher.store.reading import read_store

if TYPE_CHECKING:
    from watcher.checks.check import Finding
    from watcher.config.settings import Config

WITH_NETWORK: Final = (Status.ATTACHED, Status.SHARED)
"""The containers that have more to check than why they have no network."""


def run(config: Config, options: argparse.Namespace) -> int:
    """Print a line for each finding; returns 1 if one is a failure.

    Raises:
        WatcherError: there is no such container, there are several, or only root may check it.
    """
    if options.container is None:
        findings = list(registry.findings(config))
    else:
        findings = list(_of_container(config, options.container))
    if options.json:
        print_json(findings)
    else:
        for finding in findings:
            print(printable(_line(finding)))  # noqa: T201
    return int(any(finding.level == "fail" for finding in findings))


def _of_container(config: Config, text: str) -> Iterator[Finding]:
    """The findings about the container that `text` stands for."""
    # The host's own check needs none of this.
    from watcher.checks.container import registry as of_container
    from watcher.checks.container import state
    from watcher.checks.container.gathered import Known
    from watcher.commands.elsewhere import elsewhere
    from watcher.commands.lookup import look_up
    from watcher.commands.status import entries

    of_container.refuse_without_privileges()
    with read_store(config) as store:
        try:
            entry = look_up(config, text, entries(config, store, store.sandboxes()))
        except WatcherError as error:
            raise elsewhere(config, store, text) or error from error
        known = None
        if entry.status in WITH_NETWORK and entry.sandbox and entry.member:
            known = Known.of(config, store, entry.id, entry.member.init, entry.sandbox)
    yield from of_container.named("service", state.of_service(config))
    if known is None:
        finding = state.without_network(entry.id, entry.status, entry.reason)
        yield from of_container.named("container", [finding])
    else:
        yield from of_container.findings(known)


def _line(finding: Finding) -> str:
    remedy = f"; {finding.remedy}" if finding.remedy else ""
    return f"{finding.level:<4}  {finding.check}: {finding.what}{remedy}"
