"""The service that serves this network namespace."""

from __future__ import annotations

from collections.abc import Iterator

from watcher.checks.check import Finding, Subject, fail
from watcher.locks.serving import serving
from watcher.model.errors import quoted


def findings(subject: Subject) -> Iterator[Finding]:
    """A failure if its configuration is another one."""
    found = serving()
    if found is not None and not found.is_by(subject.config.run_dir):
        yield fail(
            f"process {found.pid} with run_dir = {quoted(found.run_dir)} serves this network"
            " namespace already",
            "stop it first, or use its configuration (`watcher --config FILE`)",
        )
