"""The main thread of the service: takes signals and feeds systemd's watchdog.

The service itself runs in another thread, which may wait in the kernel for a file system. The main
thread waits only for messages. It passes signals to the service's event loop, and checks that the
loop answers in time. Unless systemd wants to hear of that, it rests while the loop does.
"""

from __future__ import annotations

import math
import os
import queue
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from watcher.service import systemd
from watcher.service.selector import Selector

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from watcher.log.backlog import Backlog
    from watcher.log.logger import Log

GRACE: Final = 5.0
"""Seconds from SIGTERM until the main thread kills a service that has not ended."""

DRAIN: Final = 1.0
"""Seconds to wait at the end for the log to be written."""

BEAT: Final = 5.0
"""Seconds between two checks of a service that works, if systemd does not set them."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCONT, signal.SIGHUP)


class Stopped(Exception):
    """A signal to stop arrived while the service waited."""


class MainThread:
    """Runs a service in a thread, until SIGTERM or SIGINT.

    Args:
        log: reports long waits of the service.
        backlog: the unwritten lines of that log.
    """

    def __init__(self, log: Log, backlog: Backlog) -> None:
        self._log = log
        self._backlog = backlog
        # Only this kind of queue lets a signal handler interrupt the reader.
        self._news: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._ended = False
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: Callable[[], object]
        self._resume: Callable[[], object]
        self._reload: Callable[[], object]
        self._to_reload = False  # SIGHUP arrived before the service could take it
        self._well: Callable[[], bool]
        self._asked = False
        self._selector = Selector(self._loop_works)
        self._beaten = 0  # the loop's rounds at its last answer
        self._rests = False
        self._waits = 0  # checks in a row that found the service waiting in the kernel

    def run(self, serve: Callable[[MainThread], None]) -> None:
        """Run `serve` in a thread, and raise what it raises. Call it in the main thread.

        `serve` gets this object, for :meth:`rest` and :meth:`attend`.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._news.put(self._told_to_stop))
        signal.signal(signal.SIGCONT, lambda *_: self._news.put(self._resumed))
        signal.signal(signal.SIGHUP, lambda *_: self._news.put(self._told_to_reload))
        # Threads inherit the mask: signals are to interrupt only the main thread.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        thread = threading.Thread(target=self._serve, args=(serve,), name="service", daemon=True)
        thread.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        self._watch(thread)
        if self._error is not None:
            raise self._error

    @property
    def selector(self) -> Selector:
        """For the service's event loop."""
        return self._selector

    def rest(self, seconds: float) -> None:
        """Wait in the service's thread; raises :class:`Stopped` if the service has to stop."""
        if self._stopping.wait(seconds):
            raise Stopped

    def attend(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        stop: Callable[[], object],
        resume: Callable[[], object],
        reload: Callable[[], object],
        well: Callable[[], bool],
    ) -> None:
        """Pass signals to `loop` from now on, and check that it is alive. Call in its thread.

        Args:
            loop: the service's event loop.
            stop: called when the service has to stop.
            resume: called after SIGCONT.
            reload: called after SIGHUP.
            well: called regularly; returns whether the watchdog may be fed.

        Raises:
            Stopped: the service already has to stop.
        """
        self._stop, self._resume, self._reload, self._well = stop, resume, reload, well
        self._loop = loop
        self._news.put(self._attended)
        self.rest(0)

    def _serve(self, serve: Callable[[MainThread], None]) -> None:
        try:
            serve(self)
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 (it is raised in the main thread)
            self._error = error
        self._news.put(self._has_ended)

    def _watch(self, thread: threading.Thread) -> None:
        watchdog = systemd.watchdog_interval()
        interval = watchdog or BEAT
        due = time.monotonic() + interval
        end: float | None = None
        while not self._ended:
            now = time.monotonic()
            if end is None and self._stopping.is_set():
                end = now + GRACE
            if end is not None and now >= end:
                self._give_up()
            if now >= due and watchdog is None and self._may_rest():
                due = math.inf
            elif now >= due or (due == math.inf and not self._rests):
                due = now + interval
                self._look(thread)
            until = min(due, end or due)
            try:
                self._news.get(timeout=None if until == math.inf else max(0.0, until - now))()
            except queue.Empty:
                continue
        thread.join()

    def _may_rest(self) -> bool:
        """Whether the loop has done nothing since its last answer, and waits."""
        self._rests = True  # first: the loop may begin to work just now, and then makes it false
        selector = self._selector
        if selector.waits and selector.rounds == self._beaten and not self._asked:
            return True
        self._rests = False
        return False

    def _loop_works(self) -> None:
        """Called in the loop's thread, each time that it goes to work."""
        if self._rests:
            self._rests = False
            self._news.put(lambda: None)

    def _told_to_stop(self) -> None:
        self._stopping.set()
        self._have(lambda: self._stop())  # noqa: PLW0108 (it may not be set yet)

    def _resumed(self) -> None:
        self._have(lambda: self._resume())  # noqa: PLW0108

    def _told_to_reload(self) -> None:
        self._to_reload = not self._have(lambda: self._reload())  # noqa: PLW0108

    def _attended(self) -> None:
        if self._to_reload:
            self._told_to_reload()

    def _has_ended(self) -> None:
        self._ended = True

    def _have(self, call: Callable[[], object]) -> bool:
        """Have the service's loop call `call`; false if there is no loop."""
        if self._loop is None:
            return False
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _look(self, thread: threading.Thread) -> None:
        """Let the service feed the watchdog if it makes progress; else log what it waits for.

        A process that waits uninterruptibly cannot be killed, so systemd must not try: the gate and
        the log work, and everything else continues after the wait.
        """
        if self._loop is not None and not self._asked:
            self._asked = True  # first, because the answer may come before the call returns
            if not self._have(self._beat):
                self._asked = False
            return
        if not _waits_in_the_kernel(thread):
            self._waits = 0
            return
        self._waits += 1
        _feed()
        if self._waits == (1 if self._asked else 2):
            self._log.error(
                "the service waits for a file system that does not answer; until it does, no"
                " container gets a network",
                remedy="see whether one is frozen or its server away, that of state_dir first",
            )

    def _beat(self) -> None:
        """Note that the service's loop is alive; called in that loop."""
        self._asked = False
        self._beaten = self._selector.rounds
        if self._waits:
            self._waits = 0
            self._log.warning("the service goes on, the file system answers again")
        if self._well():
            _feed()

    def _give_up(self) -> None:
        """Kill a service that does not end, whatever it waits for: the kernel frees held runcs."""
        self._log.error(
            "the service does not stop, and is ended", after=GRACE,
            remedy="see what the host was busy with; nothing is lost, the next start repairs",
        )  # fmt: skip
        self._backlog.drain(DRAIN)
        os._exit(1)


def _waits_in_the_kernel(thread: threading.Thread) -> bool:
    """Whether `thread` waits uninterruptibly: state D of proc_pid_stat(5)."""
    try:
        stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return False
    return stat.rpartition(b")")[2].split()[0] == b"D"


def _feed() -> None:
    """Feed systemd's watchdog; if that fails, the watchdog notices by itself."""
    with suppress(OSError):
        systemd.notify("WATCHDOG=1", wait=False)
