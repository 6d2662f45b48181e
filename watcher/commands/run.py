"""`watcher run`: the service, in the foreground."""

from __future__ import annotations

import argparse
import asyncio

from watcher.config import Config
from watcher.errors import WatcherError
from watcher.lock import SERVICE, WRITERS, Lock
from watcher.log import adopt_others, make_log
from watcher.service import Service
from watcher.serving import refuse_other, serve
from watcher.wiring import opened


def run(config: Config, options: argparse.Namespace) -> int:
    """Run the service until it is told to stop.

    Raises:
        WatcherError: another one runs on this host, or it cannot start.
    """
    log = make_log(options.log_level, options.log_format)
    adopt_others(log)
    refuse_other(config.run_dir)
    with Lock(config.run_dir, SERVICE) as lock:
        with Lock(config.run_dir, WRITERS) as writers, writers.held():
            alone = lock.take()
        if not alone:
            raise WatcherError(
                f"another `watcher run` has this host already, process {lock.holder()}",
                "stop it first, e.g. `systemctl stop watcher`",
            )
        with (
            serve(config.run_dir),
            opened(config, log, starting=True, serving=True) as (reconciler, _, _),
        ):
            asyncio.run(Service(config, reconciler, lock, log).run())
    return 0
