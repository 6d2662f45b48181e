"""Asking an address from several network namespaces at once until it answers."""

from __future__ import annotations

import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

_PAUSE: Final = 0.0002
"""Seconds between two requests."""

_REQUEST, _REPLY = 8, 0


class Prober:
    """Sends an ICMP echo request from each namespace every 0.2 ms, in a thread of its own.

    Args:
        namespaces: the files of the namespaces.
        address: the IPv4 address.
    """

    def __init__(self, namespaces: Sequence[Path], address: str) -> None:
        self._sockets = [_socket(path) for path in namespaces]
        self._address = address
        self.first: list[float] = [0.0] * len(namespaces)
        self._thread = threading.Thread(target=self._probe, daemon=True)
        self._stop = threading.Event()

    def wait(self, seconds: float) -> list[float]:
        """When each got its first answer, by the monotonic clock; 0 if none came in time."""
        self._thread.join(seconds)
        return self.first

    def _probe(self) -> None:
        request = _echo_request()
        with selectors.DefaultSelector() as selector:
            for index, sender in enumerate(self._sockets):
                selector.register(sender, selectors.EVENT_READ, index)
            while selector.get_map() and not self._stop.is_set():
                for key in list(selector.get_map().values()):
                    sender = self._sockets[key.data]
                    try:
                        sender.sendto(request, (self._address, 0))
                    except OSError:  # there is no route yet
                        continue
                for key, _ in selector.select(_PAUSE):
                    packet = self._sockets[key.data].recv(2048)
                    if packet[20] == _REPLY:
                        self.first[key.data] = time.monotonic()
                        selector.unregister(key.fileobj)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for sender in self._sockets:
            sender.close()


def _socket(path: Path) -> socket.socket:
    """A raw socket of a network namespace, made by a thread that enters it."""
    made: list[socket.socket] = []

    def make() -> None:
        with path.open() as netns:
            os.setns(netns.fileno(), os.CLONE_NEWNET)
        sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        sender.setblocking(False)
        made.append(sender)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


def _echo_request() -> bytes:
    head = struct.pack("!BBHHH", _REQUEST, 0, 0, os.getpid() & 0xFFFF, 1)
    sum_ = sum(struct.unpack("!4H", head))
    sum_ = (sum_ & 0xFFFF) + (sum_ >> 16)
    return head[:2] + struct.pack("!H", ~sum_ & 0xFFFF) + head[4:]
