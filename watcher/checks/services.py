"""Which service has this network namespace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from watcher.checks.finding import Finding, fail
from watcher.locks.serving import serving
from watcher.model.errors import quoted

if TYPE_CHECKING:
    from watcher.config.settings import Config


def findings(config: Config) -> Iterator[Finding]:
    """One line, where it is of another configuration."""
    found = serving()
    if found is not None and not found.is_by(config.run_dir):
        yield fail(
            "service",
            f"process {found.pid} with run_dir = {quoted(found.run_dir)} serves this network"
            " namespace already",
            "stop it first, or use its configuration (`watcher --config FILE`)",
        )
