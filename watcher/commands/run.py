"""`watcher run`: the service, in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import math
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

from watcher.config.load import read
from watcher.config.settings import Config
from watcher.facts.subscribers import make_publisher
from watcher.feed.feed import Feed
from watcher.gate.gatekeeper import Gatekeeper
from watcher.gate.rootkeeper import RootKeeper
from watcher.locks.lock import MOMENT, Busy, Lock
from watcher.locks.names import SERVICE
from watcher.locks.serving import refuse_other, serve
from watcher.log.backlog import Backlog
from watcher.log.logger import adopt_others, make_log
from watcher.model.errors import WatcherError
from watcher.service.assemble import Patience, assembled
from watcher.service.feeding import Feeding
from watcher.service.loop import Service
from watcher.service.mainthread import DRAIN, MainThread
from watcher.service.reload import Reload

if TYPE_CHECKING:
    from collections.abc import Callable

    from watcher.config.load import Source
    from watcher.log.logger import Log

_PR_SET_DUMPABLE: Final = 4


def run(config: Config, options: argparse.Namespace) -> int:
    """Run the service until a signal stops it.

    Raises:
        WatcherError: another service runs on this host, or this one cannot start.
    """
    _never_dump_core()
    backlog = Backlog(sys.stderr.fileno())
    log = make_log(options.log_level, options.log_format, backlog)
    backlog.tell_dropped(partial(_tell_dropped, log))
    adopt_others(log)
    try:
        MainThread(log, backlog).run(partial(_serve, config, partial(read, options.config), log))
    finally:
        backlog.drain(DRAIN)
    return 0


def _never_dump_core() -> None:
    """Make a fatal signal end every thread at once (PR_SET_DUMPABLE, prctl(2)).

    For a core dump, the kernel first waits for all threads (`coredump_wait` in `fs/coredump.c`),
    including one that waits for a file system. Until then, every held runc would stay held.
    """
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _tell_dropped(log: Log, count: int) -> None:
    log.warning(
        "log lines were dropped, because nothing read them", count=count,
        remedy="check what reads the standard error of the service, e.g. the journal",
    )  # fmt: skip


def _serve(config: Config, again: Callable[[], Source], log: Log, main: MainThread) -> None:
    """Run the service, in its own thread. The gate opens before anything that may have to wait."""

    def tell(text: str) -> None:
        log.warning(text)

    refuse_other(config.run_dir)
    with Lock(config.run_dir, SERVICE, patience=MOMENT, told=tell, rest=main.rest) as lock:
        try:
            lock.wait_and_take()
        except Busy as busy:
            raise WatcherError(
                f"another `watcher run` or `watcher down` has this host already: {busy.who}",
                busy.holder.remedy
                if busy.holder is not None and busy.holder.stopped
                else "stop it first, e.g. `systemctl stop watcher`",
            ) from busy
        with serve(config.run_dir, told=tell, rest=main.rest):
            patience = Patience(math.inf, told=tell, rest=main.rest)
            _hold_and_serve(config, again, log, main, lock, patience)


def _hold_and_serve(
    config: Config,
    again: Callable[[], Source],
    log: Log,
    main: MainThread,
    lock: Lock,
    patience: Patience,
) -> None:
    facts, feed = make_publisher(config, log), Feed()
    facts.tell_first(feed.note)
    gate = Gatekeeper(config.gate, facts, log)
    roots = RootKeeper([root.path for root in config.roots], gate, log)
    try:
        gate.start()
        roots.start()
        with assembled(
            config, log, starting=True, serving=True, patience=patience, facts=facts
        ) as (reconciler, store, host):
            reload = Reload(again, reconciler, host, gate, log)
            feeding = Feeding(config, feed, store, log)
            service = Service(config, reconciler, gate, roots, lock, reload, feeding, facts, log)
            asyncio.run(
                service.run(main), loop_factory=lambda: asyncio.SelectorEventLoop(main.selector)
            )
    finally:
        gate.stop()
        roots.close()
