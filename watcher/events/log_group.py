"""Hears of what the firewall rejects: some of these packets are logged to an NFLOG group.

Nothing depends on it: a packet that is not heard of was rejected all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from handlers.kernel import nflog
from handlers.kernel.nflog import Taken
from watcher.model.errors import message_of

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable

    from handlers.kernel.nflog import Logged
    from watcher.log.logger import Log

AGAIN: Final = 60.0
"""Seconds until it is tried again to get the group."""

_AT_ONCE: Final = 4
"""Messages of the kernel, of some dozens of packets each, that are read in one go."""
_BREATH: Final = 0.005
"""Seconds until the next go, if one was not enough."""


class LogGroup:
    """Receives the packets of a group, in the thread of the loop.

    Args:
        loop: the event loop.
        log: is told why there are none.
        heard: called with each packet.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, log: Log, heard: Callable[[Logged], object]
    ) -> None:
        self._loop = loop
        self._log = log
        self._heard = heard
        self._group = 0
        self._socket: socket.socket | None = None
        self._again: asyncio.TimerHandle | None = None
        self._problem = ""
        self._buffer = bytearray(1 << 16)

    def listen(self, group: int) -> None:
        """Receive what is logged to `group` from now on; 0 means nothing. Call it once."""
        self._group = group
        if group:
            self._open()

    def close(self) -> None:
        """Receive no more."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _open(self) -> None:
        self._again = None
        try:
            self._socket = nflog.listen(self._group)
        except OSError as error:
            self._complain(error)
            self._again = self._loop.call_later(AGAIN, self._open)
        else:
            self._problem = ""
            self._loop.add_reader(self._socket, self._read)

    def _complain(self, error: OSError) -> None:
        problem = message_of(error)
        if problem == self._problem:
            return
        self._problem = problem
        self._log.warning(
            "what is rejected makes no events", reason=problem,
            remedy="end the other program, or write another firewall.log_group"
            if isinstance(error, Taken)
            else "load it, e.g. `modprobe nfnetlink_log`, or write firewall.log_group = 0",
        )  # fmt: skip

    def _read(self) -> None:
        if self._socket is None:
            return
        try:
            for _ in range(_AT_ONCE):
                for packet in nflog.read(self._socket, self._buffer):
                    self._heard(packet)
        except BlockingIOError:
            return
        except OSError:  # some were lost, because they were too many
            pass
        self._loop.remove_reader(self._socket)
        self._loop.call_later(_BREATH, self._read_on, self._socket)

    def _read_on(self, heard: socket.socket) -> None:
        if heard is self._socket:
            self._loop.add_reader(heard, self._read)
