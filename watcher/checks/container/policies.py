"""What the container's own limits and policies drop.

There are none yet. The counters of those that come are told here, a finding each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from watcher.checks.check import Finding
    from watcher.checks.container.gathered import Gathered


def findings(_: Gathered) -> Iterator[Finding]:
    """Nothing yet."""
    return iter(())
