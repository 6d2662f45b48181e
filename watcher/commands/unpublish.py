"""`watcher unpublish CONTAINER MAP…`: takes back published ports of a running container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watcher.commands.publish import maps
from watcher.commands.running import running
from watcher.reconcile.publish import unpublish

if TYPE_CHECKING:
    import argparse

    from watcher.config.settings import Config


def run(config: Config, options: argparse.Namespace) -> int:
    """Take all of the ports back, and print each port map.

    Raises:
        WatcherError: a port map cannot be read, or is not there.
    """
    unwanted = maps(options.maps)
    with running(config, options) as it:
        gone = unpublish(it.context, it.sandbox, it.member, unwanted)
    for port in gone:  # others do not wait for who reads this
        print(port)  # noqa: T201
    return 0
