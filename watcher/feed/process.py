"""The broker's process: started for the first reader, reaped, and started again for the next.

The service listens at the events socket but never accepts. Once that is readable, a reader waits,
and the broker (:mod:`watcher.observe.broker`) is started, which accepts it and serves all readers.
The broker ends by itself when there has been no reader for a while.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Final, Protocol

from handlers.kernel.spawning import spawn
from watcher.feed.names import FEED, LISTENER
from watcher.model.errors import message_of
from watcher.model.pauses import longer

if TYPE_CHECKING:
    import asyncio

    from watcher.log.logger import Log

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


class Feeder(Protocol):
    """What sends lines to a broker."""

    def began(self, end: socket.socket) -> None:
        """A broker has been started, and `end` leads to it."""

    def ended(self) -> None:
        """It has gone; nothing may be sent any more."""


class BrokerProcess:
    """Starts a broker whenever there is a reader and no broker. One thread, that of the loop.

    Args:
        loop: the event loop.
        feeder: told as brokers come and go.
        log: gets what goes wrong.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, feeder: Feeder, log: Log) -> None:
        self._loop = loop
        self._feeder = feeder
        self._log = log
        self._listener: socket.socket | None = None
        self._end: socket.socket | None = None
        self._pid = 0
        self._pidfd = -1
        self._began = 0.0
        self._pause = 0.0
        self._unwanted = False
        self._starting: Thread | None = None
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

    def hangs(self) -> None:
        """The broker is there, but has read nothing for long: end it, and start another one."""
        self._log.warning("the broker of events hangs", pid=self._pid)
        self._kill()

    def is_awaited(self) -> bool:
        """Whether somebody waits to be accepted by the broker, which is well as a rule."""
        if self._listener is None or self._end is None:
            return False
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        return bool(poll.poll(0))

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
        busy = self._pid or self._starting is not None
        if self._listener is None or busy or self._timer is not None:
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
        self._unwanted = False
        ends: list[int] = []
        try:
            self._end, theirs = socket.socketpair()
            with theirs:
                for end in (theirs, self._listener):
                    ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _ABOVE))  # noqa: PERF401
            self._starting = Thread(target=self._spawn, args=ends, name="broker", daemon=True)
            self._starting.start()
        except (OSError, RuntimeError) as error:  # RuntimeError: there can be no more threads
            self._starting = None
            for descriptor in ends:
                os.close(descriptor)
            self._failed(error)

    def _spawn(self, feed: int, listener: int) -> None:
        """Start the process; in a thread of its own, because that may take milliseconds."""
        pid, error = 0, None
        try:
            argv = [sys.executable, "-P", "-m", _MODULE]
            env = {k: v for k, v in os.environ.items() if k in _KEPT or k.startswith("PYTHON")}
            pid = spawn(argv, env, {FEED: feed, LISTENER: listener})
        except OSError as raised:
            error = raised
        finally:
            os.close(feed)
            os.close(listener)
        with suppress(RuntimeError):  # the loop is closed, and with it the feed: the broker ends
            self._loop.call_soon_threadsafe(self._spawned, pid, error)

    def _spawned(self, pid: int, error: OSError | None) -> None:
        self._starting = None
        self._pid = pid
        try:
            if error is not None:
                raise error
            self._pidfd = os.pidfd_open(pid)
        except OSError as raised:
            self._kill()
            if pid:
                os.waitpid(pid, 0)
                self._pid = 0
            self._failed(raised)
            return
        self._loop.add_reader(self._pidfd, self._reap)
        if self._unwanted or self._end is None:
            self._kill()
            return
        self._end.setblocking(False)
        self._log.debug("the broker of events begins", pid=pid)
        self._feeder.began(self._end)

    def _failed(self, error: Exception) -> None:
        self._hang_up()
        self._log.error(
            "the broker of events cannot be started",
            reason=message_of(error) if isinstance(error, OSError) else str(error),
            remedy="see what the host lacks, e.g. memory or processes",
        )  # fmt: skip
        self._grow_pause()
        self._wait_for_reader()

    def _hang_up(self) -> None:
        if self._end is not None:
            end, self._end = self._end, None
            self._feeder.ended()
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
        self._pause = longer(self._pause, PAUSES)
