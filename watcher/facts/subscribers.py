"""The subscribers of facts. To add one, write a module and name it in this list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from watcher.facts.publisher import Publisher
from watcher.facts.to_log import to_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from watcher.config.settings import Config
    from watcher.facts.publisher import Subscriber
    from watcher.log.logger import Log

SUBSCRIBERS: Final[tuple[Callable[[Config, Log], Subscriber], ...]] = (to_log,)
"""Each makes a subscriber from the configuration and the log."""


def make_publisher(config: Config, log: Log) -> Publisher:
    """A publisher with all of :data:`SUBSCRIBERS`."""
    return Publisher([make(config, log) for make in SUBSCRIBERS], log)
