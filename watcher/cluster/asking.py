"""A client of etcd for a command that asks it a few questions and ends."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from watcher.model.errors import WatcherError

if TYPE_CHECKING:
    from watcher.cluster.etcd.client import Etcd
    from watcher.config.settings import Cluster

MISSING: Final = "the Python package aiohttp is missing"
INSTALL: Final = "install it, e.g. `apt-get install python3-aiohttp`"

_CONNECT, _ANSWER = 1.0, 3.0
"""Seconds until a member counts as one that does not answer: somebody waits for the command."""


def client(settings: Cluster) -> Etcd:
    """The client, not entered yet.

    Raises:
        WatcherError: a package that it needs is missing.
    """
    if find_spec("aiohttp") is None:
        raise WatcherError(MISSING, INSTALL)
    # Only here is it needed.
    from watcher.cluster.etcd.client import Etcd
    from watcher.cluster.etcd.words import Times, Tls
    from watcher.log.logger import make_log

    return Etcd(
        settings.etcd, Tls(settings.ca, settings.cert, settings.key), settings.user,
        settings.password_file, make_log("error", "auto"), Times(connect=_CONNECT, answer=_ANSWER),
    )  # fmt: skip
