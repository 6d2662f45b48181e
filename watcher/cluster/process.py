"""`watcher cluster`: its parts, put together in one event loop."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Final

from watcher.cluster.agent.agent import Agent
from watcher.cluster.endpoints.endpoints import Endpoints
from watcher.cluster.etcd.client import Etcd
from watcher.cluster.etcd.words import Times, Tls
from watcher.service import systemd
from watcher.service.unhandled import Unhandled

if TYPE_CHECKING:
    from collections.abc import Callable

    from watcher.config.load import Source
    from watcher.config.settings import Config
    from watcher.log.logger import Log

_CHANGES: Final = Times(answer=2.0)
"""Starts wait for what is changed. A member whose leader has gone answers nothing for longer."""

_STATUS_EVERY: Final = 2.0
"""Seconds between two looks whether the status that the manager shows has changed."""


async def serve(config: Config, again: Callable[[], Source], log: Log) -> int:
    """Take part in the cluster until SIGTERM or SIGINT; returns the exit status.

    Args:
        config: the configuration.
        again: reads it again.
        log: the log.
    """
    loop = asyncio.get_running_loop()
    unhandled = Unhandled(log)
    loop.set_exception_handler(unhandled)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _tell_of_reload, log)
    cluster = config.cluster
    tls = Tls(cluster.ca, cluster.cert, cluster.key)
    etcd = Etcd(cluster.etcd, tls, cluster.user, cluster.password_file, log)
    changing = Etcd(cluster.etcd, tls, cluster.user, cluster.password_file, log, _CHANGES)
    async with etcd, changing:
        agent = Agent(cluster, config.run_dir, etcd, changing, log)
        endpoints = Endpoints(config, again, agent, loop, log)
        agent.follow(endpoints, endpoints)
        running = asyncio.create_task(_run(agent, endpoints))
        telling = asyncio.create_task(_tell_status(agent))
        stopping = asyncio.create_task(stop.wait())
        systemd.notify_if_there("READY=1")
        log.info("ready", etcd=", ".join(cluster.etcd))
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        log.info("stopping")
        systemd.notify_if_there("STOPPING=1")
        error = None if not running.done() or running.cancelled() else running.exception()
        for task in (running, telling, stopping):
            task.cancel()
        await asyncio.gather(running, telling, stopping, return_exceptions=True)
    if error is None:
        return 0
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    unhandled(loop, {"exception": error})
    return 1


async def _run(agent: Agent, endpoints: Endpoints) -> None:
    """Do all of it, until this is cancelled or something of it fails."""
    async with asyncio.TaskGroup() as group:
        group.create_task(agent.run())
        group.create_task(endpoints.run())


async def _tell_status(agent: Agent) -> None:
    """Have the manager show how this host stands."""
    shown = ""
    while True:
        if agent.text != shown:
            shown = agent.text
            systemd.notify_if_there(f"STATUS={shown}")
        await asyncio.sleep(_STATUS_EVERY)


def _tell_of_reload(log: Log) -> None:
    log.info(
        "[cluster] is read at the start alone; restart `watcher cluster` to have it read again"
    )
