"""`watcher disconnect CONTAINER NETWORK`: takes an interface from a running container."""

from __future__ import annotations

import argparse

from watcher.commands.running import running
from watcher.config.settings import Config
from watcher.reconcile.connect import disconnect


def run(config: Config, options: argparse.Namespace) -> int:
    """Disconnect it.

    Raises:
        WatcherError: it is not connected to that network, or for another container.
    """
    with running(config, options) as it:
        disconnect(it.context, it.steps, it.sandbox, it.member, options.network)
    return 0
