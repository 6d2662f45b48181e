"""The name service: its parts, put together in one event loop."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from handlers.kernel import descriptors
from watcher.model.errors import WatcherError, message_with_remedy
from watcher.model.network import gateway
from watcher.names.answers import Answers
from watcher.names.counts import Counts
from watcher.names.events.known import Known
from watcher.names.garbage import Garbage
from watcher.names.hosts.follower import HostsFollower
from watcher.names.opening.openings import Openings
from watcher.names.settings import Settings
from watcher.names.status import Status
from watcher.names.transport.gateways import Gateways
from watcher.names.upstream.forwarder import Forwarder
from watcher.observe.live.follower import Follower
from watcher.service import systemd
from watcher.service.unhandled import Unhandled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from watcher.config.load import Source
    from watcher.config.settings import Config
    from watcher.log.logger import Log
    from watcher.names.zone.views import Use
    from watcher.observe.name_service import NameTotals

DRAIN: Final = 1.0
"""Seconds in which questions that are under way as it stops can still be answered."""
_DRAIN_STEP: Final = 0.01

_UNHEARD: Final = 3.0
"""Seconds without a state after which questions that wait in kept sockets are refused."""
_SWITCH: Final = 0.0005
"""Seconds for which the thread that reads the configuration may keep questions waiting."""


class Server:
    """See the module's docstring.

    Args:
        config: the configuration.
        again: reads it again.
        log: the log.
    """

    def __init__(self, config: Config, again: Callable[[], Source], log: Log) -> None:
        self._again = again
        self._log = log
        self._loop = loop = asyncio.get_running_loop()
        loop.set_exception_handler(Unhandled(log))
        self._garbage = Garbage(loop)
        self._counts = Counts()
        self._reloading: asyncio.Task[None] | None = None
        self._reload_due = False
        self._settings = settings = Settings.of(config)
        self._answers_some = False
        self._coming: Known | None = None
        """What is in use once the hosts are known, while this process has just begun."""
        self._hosts = HostsFollower(
            config.run_dir, loop, log, settled=self._use_coming, after=self._garbage.collect
        )
        self._hosts.remote.changed = self._remote_changed
        self._follower: Follower[Known] = Follower(
            config.run_dir, self._known, loop, log, replaced=self._replaced,
            learned=self._learned, reloaded=self._reload, after=self._garbage.collect,
        )  # fmt: skip
        self._forwarder = Forwarder(
            loop, self._counts, log, servers=settings.servers, is_ours=self._is_ours
        )
        self._openings = Openings(config.run_dir, loop, self._counts, log)
        self._answers = Answers(
            self._follower.known.directory, self._forwarder, self._openings, self._later,
            self._counts,
        )  # fmt: skip
        self._gateways = Gateways(self._answers, self._counts, loop, self._garbage.turn, log)
        self._gateways.bind(  # who asks from now on waits until the service has told of it
            str(gateway(subnet))
            for network in config.networks.values() if network.named
            for subnet in network.subnets
        )  # fmt: skip
        self._status = Status(config.run_dir, self._totals, loop, log)

    async def serve(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, stop.set)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload)
        sys.setswitchinterval(_SWITCH)
        self._follower.start()
        unheard = self._loop.call_later(_UNHEARD, self._serve_unheard)
        systemd.notify_if_there("READY=1")
        self._log.info("ready")
        try:
            await stop.wait()
            self._log.info("stopping")
            systemd.notify_if_there("STOPPING=1")
            unheard.cancel()
            await self._drain()
        finally:
            self._stop()

    async def _drain(self) -> None:
        """Take no more questions; they wait for the next process. Answer those under way."""
        self._gateways.pause()
        end = self._loop.time() + DRAIN
        counts, openings = self._counts, self._openings
        while counts.under_way + counts.waiting + openings.waiting and self._loop.time() < end:
            await asyncio.sleep(_DRAIN_STEP)

    def _stop(self) -> None:
        self._follower.stop()
        self._hosts.stop()
        self._gateways.close()
        self._forwarder.close()
        self._openings.close()
        self._status.close()
        self._garbage.stop()

    def _later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after `seconds` in which the service was heard; returns what prevents it.

        Who asks is told of within these, unless the service or this process has just begun.
        """
        timer: asyncio.TimerHandle
        last = self._loop.time() + max(_UNHEARD, seconds)

        def due() -> None:
            nonlocal timer
            unheard = self._follower.connected is None or self._coming is not None
            if unheard and self._loop.time() < last:
                timer = self._loop.call_later(seconds, due)
            else:
                callback()

        def cancel() -> None:
            timer.cancel()

        timer = self._loop.call_later(seconds, due)
        return cancel

    # What is known:

    def _known(self) -> Known:
        return Known(self._settings, self._hosts.remote)

    def _remote_changed(self, network: str, uses: Iterable[Use] | None) -> None:
        """Who is called what on other hosts has changed."""
        self._answers.directory.remote_changed(network, uses)

    def _replaced(self, known: Known) -> None:
        """Another directory is in use, and perhaps other networks.

        At first it is so only once the names of other hosts are known: until then questions wait.
        """
        self._coming = known
        self._hosts.want(wanted=any(n.cluster and n.names for n in known.networks.values()))
        if self._hosts.is_settled or not self._hosts.is_wanted or self._answers_some:
            self._use_coming()

    def _use_coming(self) -> None:
        known, self._coming = self._coming, None
        if known is None:
            return
        self._answers_some = True
        self._answers.directory = known.directory
        if known.networks:  # a service that is too busy tells of none yet: who asks waits
            self._gateways.serve(
                {
                    subnet.gateway: line.name
                    for line in known.networks.values() if line.names
                    for subnet in line.subnets
                }
            )  # fmt: skip
        self._learned()

    def _learned(self) -> None:
        self._answers.learned()

    def _serve_unheard(self) -> None:
        """Have who asks be refused: the service is away, and nothing is known of anybody.

        If it is the other hosts alone of which nothing is known yet, questions are answered.
        """
        self._use_coming()
        if self._follower.connected is None:
            self._gateways.serve_bound()

    def _is_ours(self, address: str) -> bool:
        return self._gateways.has(address)

    def _totals(self) -> NameTotals:
        directory = self._answers.directory
        return self._counts.totals(
            connected=self._follower.connected, domain=self._settings.domain,
            networks=self._gateways.networks,
            sandboxes=directory.sandboxes, names=directory.names, views=len(directory.views),
            others=self._hosts.totals(),
        )  # fmt: skip

    # The configuration:

    def _reload(self) -> None:
        """Read the configuration again."""
        self._openings.forget()
        if self._reloading is not None:
            self._reload_due = True
            return
        self._reload_due = False
        systemd.notify_if_there(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        self._reloading = self._loop.create_task(self._take_again())

    async def _take_again(self) -> None:
        status = ""
        try:
            source = await asyncio.to_thread(self._again)
        except (WatcherError, OSError) as error:
            reason = message_with_remedy(error)
            status = f"configuration refused: {reason}"
            self._log.error("configuration refused, the one before stays in force", reason=reason)
        else:
            settings = Settings.of(source.config)
            changed = settings != self._settings
            self._log.info("configuration read again", changed=changed)
            if changed:
                self._settings = settings
                self._forwarder.servers = settings.servers
            self._follower.anew()
        self._reloading = None
        if self._reload_due:
            self._reload()
        else:
            systemd.notify_if_there(f"READY=1\nSTATUS={status}")


def run(config: Config, again: Callable[[], Source], log: Log) -> None:
    """Serve until a signal stops it."""

    async def serve() -> None:
        await Server(config, again, log).serve()

    with suppress(OSError, ValueError):  # the unit sets it, and does not allow this
        descriptors.raise_limit()
    gc.collect()
    asyncio.run(serve())
