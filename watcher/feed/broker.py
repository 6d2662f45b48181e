"""The broker's process: started for the first reader, reaped, and started again for the next.

The service listens at the events socket but never accepts. Once that is readable, a reader waits,
and the broker (:mod:`watcher.observe.broker`) is started, which accepts it and serves all readers.
The broker ends by itself when there has been no reader for a while.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from watcher.model.errors import message_of

if TYPE_CHECKING:
    import asyncio

    from watcher.log.logger import Log

FEED: Final = 3
"""The broker's descriptor of the lines of the service."""

LISTENER: Final = 4
"""The broker's descriptor of the events socket, from which it accepts."""

PAUSES: Final = (1.0, 60.0)
"""Seconds until a broker is started after one that ended at once: first and maximum."""

LONG_ENOUGH: Final = (1.0, 10.0)
"""Seconds after which a broker has not ended at once: by itself, or otherwise."""

ENDS: Final = 1.0
"""Seconds for which a broker that reads no more may go on ending."""

_MODULE: Final = "watcher.observe.broker"
_ABOVE: Final = 10
"""Descriptors from here on are none of those that the broker gets."""

_KEPT: Final = ("PATH", "LANG", "LC_ALL", "TZ")


class Source(Protocol):
    """What the service does with a broker."""

    def began(self, end: socket.socket) -> None:
        """A broker has been started, and `end` leads to it."""

    def ended(self) -> None:
        """It has gone; nothing may be sent any more."""


class Broker:
    """Starts a broker whenever there is a reader and no broker. One thread, that of the loop.

    Args:
        loop: the event loop.
        source: told as brokers come and go.
        log: gets what goes wrong.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, source: Source, log: Log) -> None:
        self._loop = loop
        self._source = source
        self._log = log
        self._listener: socket.socket | None = None
        self._end: socket.socket | None = None
        self._pid = 0
        self._pidfd = -1
        self._began = 0.0
        self._pause = 0.0
        self._unwanted = False
        self._timer: asyncio.TimerHandle | None = None

    def listen(self, listener: socket.socket) -> None:
        """Start a broker when somebody connects to `listener`, in place of any listener before.

        A broker that has the listener before is ended: its readers connect anew.
        """
        self._rest()
        self._listener = listener
        self._unwanted = True
        self._kill()
        self._wait_for_reader()

    def lost(self) -> None:
        """The broker reads no more: it has ended, or does so now, or is ended."""
        self._hang_up()
        if self._pid and self._timer is None:
            self._timer = self._loop.call_later(ENDS, self._kill)

    def stop(self) -> None:
        """End the broker, and start none any more. It is not waited for: init reaps it."""
        self._rest()
        self._listener = None
        self._unwanted = True
        self._kill()
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _wait_for_reader(self) -> None:
        if self._listener is None or self._pid or self._timer is not None:
            return
        if self._pause:
            self._timer = self._loop.call_later(self._pause, self._paused)
        else:
            self._loop.add_reader(self._listener, self._start)

    def _paused(self) -> None:
        self._timer = None
        if self._listener is not None:
            self._loop.add_reader(self._listener, self._start)

    def _rest(self) -> None:
        """Wait for no reader."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._listener is not None:
            self._loop.remove_reader(self._listener)

    def _start(self) -> None:
        assert self._listener is not None
        self._rest()
        self._began = self._loop.time()
        try:
            self._end, theirs = socket.socketpair()
            try:
                self._pid = _spawned(theirs, self._listener)
            finally:
                theirs.close()
            self._pidfd = os.pidfd_open(self._pid)
        except OSError as error:
            self._log.error(
                "the broker of events cannot be started", reason=message_of(error),
                remedy="see what the host lacks, e.g. memory or processes",
            )  # fmt: skip
            self._kill()
            if self._pid:
                os.waitpid(self._pid, 0)
                self._pid = 0
            self._grow_pause()
            self._wait_for_reader()
            return
        self._unwanted = False
        self._loop.add_reader(self._pidfd, self._reap)
        self._end.setblocking(False)
        self._log.debug("the broker of events begins", pid=self._pid)
        self._source.began(self._end)

    def _hang_up(self) -> None:
        if self._end is not None:
            end, self._end = self._end, None
            self._source.ended()
            end.close()

    def _kill(self) -> None:
        """End the broker; :meth:`_reap` follows."""
        self._hang_up()
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        _, status = os.waitpid(self._pid, 0)
        self._pid, self._pidfd = 0, -1
        self._rest()
        self._hang_up()
        if status and not self._unwanted:
            code = os.waitstatus_to_exitcode(status)
            how = f"exit status {code}" if code >= 0 else signal.Signals(-code).name
            self._log.warning("the broker of events has ended", how=how)
        if self._unwanted or self._loop.time() - self._began >= LONG_ENOUGH[bool(status)]:
            self._pause = 0.0
        else:
            self._grow_pause()
        self._wait_for_reader()

    def _grow_pause(self) -> None:
        self._pause = min(max(self._pause * 2, PAUSES[0]), PAUSES[1])


def _spawned(feed: socket.socket, listener: socket.socket) -> int:
    """Start the broker, and return its pid.

    It has no other descriptors than those given and the standard ones, for all others are closed on
    execution (PEP 446).
    """
    feed_above, listener_above = (
        fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for end in (feed, listener)
    )
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-m", _MODULE],
            {k: v for k, v in os.environ.items() if k in _KEPT or k.startswith("PYTHON")},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, feed_above, FEED),
                (os.POSIX_SPAWN_DUP2, listener_above, LISTENER),
            ],
            setsigmask=(),  # the service's thread blocks some
        )
    finally:
        os.close(feed_above)
        os.close(listener_above)
