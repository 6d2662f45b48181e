"""What all probes have in common, and the loop that asks them together."""

from __future__ import annotations

import os
import selectors
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Final

_AGAIN: Final = 0.4
"""Seconds after which a question is asked again."""

_MOST: Final = 2048
"""Bytes of the longest answer that is read."""


class Probe(ABC):
    """One question.

    Its socket belongs to the network namespace in which the probe is made. What arrives there may
    be from anybody, so only a fitting answer counts, and there is an end to the waiting for it.

    Args:
        family, kind, protocol: of its socket, as in socket(2).

    Attributes:
        answer: what was answered; empty if nothing was.
        error: why the kernel gave up; empty if it did not.
    """

    def __init__(self, family: int, kind: int, protocol: int = 0) -> None:
        self._socket = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
        self._socket.setblocking(False)
        self._ready = False
        self.answer = ""
        self.error = ""

    def fileno(self) -> int:
        """The descriptor of its socket."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close its socket."""
        self._socket.close()

    @property
    def done(self) -> bool:
        """Whether there is nothing more to wait for."""
        return bool(self.answer or self.error)

    def ask(self) -> None:
        """Send the question, once more if need be."""
        try:
            if not self._ready:
                self._prepare(self._socket)
                self._ready = True
            self._send(self._socket)
        except BlockingIOError:  # its queue is full; it is asked again
            return
        except OSError as error:
            self.error = _text(error)

    def hear(self) -> None:
        """Read one message; it may be anything."""
        try:
            data = self._socket.recv(_MOST)
        except BlockingIOError:
            return
        except OSError as error:
            self.error = _text(error)
            return
        self.answer = self._read(data)

    @abstractmethod
    def _prepare(self, sock: socket.socket) -> None:
        """Set the socket up before the first question."""

    @abstractmethod
    def _send(self, sock: socket.socket) -> None:
        """Send the question."""

    @abstractmethod
    def _read(self, data: bytes) -> str:
        """The answer in `data`; empty if it is none."""


def ask_all(probes: Collection[Probe], seconds: float) -> None:
    """Ask all `probes` at the same time, and wait for their answers for `seconds` at the most."""
    now = time.monotonic()
    end, due = now + seconds, now
    with selectors.DefaultSelector() as selector:
        for probe in probes:
            selector.register(probe, selectors.EVENT_READ, probe)
        while selector.get_map() and now < end:
            if now >= due:
                for key in selector.get_map().values():
                    key.data.ask()
                due = now + _AGAIN
            else:
                for key, _ in selector.select(min(due, end) - now):
                    key.data.hear()
            for probe in [key.data for key in selector.get_map().values() if key.data.done]:
                selector.unregister(probe)
            now = time.monotonic()


def _text(error: OSError) -> str:
    number = error.errno
    return str(error) if number is None else os.strerror(number)
