"""`watcher cluster`: speaks to etcd for the service, in the foreground."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from handlers.kernel.directories import make_directory
from watcher.cluster.asking import INSTALL, MISSING
from watcher.config.load import read
from watcher.locks.lock import MOMENT, Busy, Lock
from watcher.log.logger import adopt_others, make_log
from watcher.model.errors import WatcherError

if TYPE_CHECKING:
    from watcher.config.settings import Config

_DIRECTORY: Final = "cluster"
_LOCK: Final = "lock"
"""In `run_dir`: who has it is the only one."""


def run(config: Config, options: argparse.Namespace) -> int:
    """Take part in the cluster until SIGTERM or Ctrl-C.

    Raises:
        WatcherError: aiohttp is missing, or another one runs on this host.
    """
    log = make_log(options.log_level, options.log_format)
    if not config.cluster.etcd:
        log.info("this host is in no cluster: [cluster] names no etcd")
        return 0
    try:
        import aiohttp  # noqa: F401
    except ImportError as error:
        raise WatcherError(MISSING, INSTALL) from error

    import asyncio

    from watcher.cluster.process import serve

    with _only_one(config.run_dir):
        adopt_others(log)
        return asyncio.run(serve(config, partial(read, options.config), log))


def _only_one(run_dir: str) -> Lock:
    """The lock of the only one, taken; WatcherError if another one has it."""
    directory = Path(run_dir, _DIRECTORY)
    make_directory(directory, 0o755)
    lock = Lock(str(directory), _LOCK, patience=MOMENT)
    try:
        lock.wait_and_take()
    except Busy as busy:
        lock.close()
        raise WatcherError(
            f"another `watcher cluster` runs on this host already: {busy.what}",
            "stop it first, e.g. `systemctl stop watcher-cluster`",
        ) from busy
    except BaseException:
        lock.close()
        raise
    return lock
