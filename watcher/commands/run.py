"""`watcher run`: the service, in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

from watcher.backlog import Backlog
from watcher.config import Config
from watcher.errors import WatcherError
from watcher.lock import SERVICE, WRITERS, Lock
from watcher.log import adopt_others, make_log
from watcher.service import Service
from watcher.serving import refuse_other, serve
from watcher.wiring import opened

if TYPE_CHECKING:
    from watcher.log import Log

DRAIN: Final = 1.0
"""Seconds that the end waits until the log is written."""


def run(config: Config, options: argparse.Namespace) -> int:
    """Run the service until it is told to stop.

    Raises:
        WatcherError: another one runs on this host, or it cannot start.
    """
    backlog = Backlog(sys.stderr.fileno())
    log = make_log(options.log_level, options.log_format, backlog)
    backlog.tell_dropped(partial(_tell_dropped, log))
    adopt_others(log)
    try:
        _run(config, log)
    finally:
        backlog.drain(DRAIN)
    return 0


def _tell_dropped(log: Log, count: int) -> None:
    log.warning(
        "nobody read the log, so that lines of it were dropped", count=count,
        remedy="see to what reads the standard error of the service, e.g. the journal",
    )  # fmt: skip


def _run(config: Config, log: Log) -> None:
    refuse_other(config.run_dir)
    with Lock(config.run_dir, SERVICE) as lock:
        with Lock(config.run_dir, WRITERS) as writers, writers.held():
            alone = lock.take()
        if not alone:
            raise WatcherError(
                f"another `watcher run` has this host already: {lock.holder()}",
                "stop it first, e.g. `systemctl stop watcher`",
            )
        with (
            serve(config.run_dir),
            opened(config, log, starting=True, serving=True) as (reconciler, _, _),
        ):
            asyncio.run(Service(config, reconciler, lock, log).run())
