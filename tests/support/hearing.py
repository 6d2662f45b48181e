"""Who hears what a sandbox sends."""

from __future__ import annotations

import select
import socket
import time
from typing import TYPE_CHECKING, Final

from tests.support import packets, traffic
from tests.support.frames import ETHERTYPES
from tests.support.packets import ARP, IPV4, IPV6, VLAN, Wire
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.support.host import Host, Place

PORT: Final = 9

_802_2: Final = 0x0004
"""ETH_P_802_2: what the kernel calls the protocol of a frame with a length."""


class Stack:
    """What arrives at the protocols of a host by one link, behind its filters and its bridge."""

    def __init__(self, host: Host, place: Place, name: str) -> None:
        others = {kind if kind >= 0x600 else _802_2 for kind in ETHERTYPES.values()}
        self._ip = Wire(host, place, name, IPV4)
        self._others = [
            Wire(host, place, name, kind) for kind in (ARP, IPV6, VLAN, *sorted(others))
        ]

    def until(self, end: bytes) -> list[bytes]:
        """What has come when a frame of IPv4 with `end` in it comes."""
        heard = self._ip.until(lambda frame: end in frame)
        return heard + [frame for wire in self._others for frame in wire.so_far()]


class Neighbour:
    """What arrives at an interface."""

    def __init__(self, host: Host, place: Place, name: str = "eth0") -> None:
        self._wire = Wire(host, place, name)

    def until(self, end: bytes) -> list[bytes]:
        """What has come when a frame with `end` in it comes."""
        return self._wire.until(lambda frame: end in frame)


class Sockets:
    """What arrives at the UDP port :data:`PORT` of a place, by either family."""

    def __init__(self, host: Host, place: Place) -> None:
        self._sockets = []
        for family in (socket.AF_INET, socket.AF_INET6):
            made = traffic.make_socket(place.netns, family, socket.SOCK_DGRAM)
            host.on_close(made.close)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind(("", PORT))
            self._sockets.append(made)

    def until(self, end: bytes) -> list[bytes]:
        """What has come when datagrams with `end` in them have come by both families."""
        heard: list[bytes] = []
        waiting, deadline = list(self._sockets), time.monotonic() + PATIENCE
        while waiting:
            ready = select.select(waiting, [], [], max(0, deadline - time.monotonic()))[0]
            assert ready, f"not heard: {heard}"
            for one in ready:
                heard.append(one.recv(2048))
                if end in heard[-1]:
                    waiting.remove(one)
        return heard


END: Final = packets.mark()

type Listener = Stack | Neighbour | Sockets


def heard(
    host: Host,
    frames: Mapping[str, bytes],
    sender: Place,
    listeners: Mapping[str, Listener],
    last: Sequence[bytes],
) -> dict[str, set[str]]:
    """Which of `listeners` hear which of `frames`, by the names in them, when `sender` sends them.

    The `last` frames are honest, with :data:`END` in them, and arrive at every listener: when they
    are there, the others would have been.
    """
    Wire(host, sender).send(*frames.values(), *last)
    found: dict[str, set[str]] = {name: set() for name in frames}
    for who, listener in listeners.items():
        for frame in listener.until(END):
            for name in frames:
                if f"{name}.".encode() in frame:
                    found[name].add(who)
    return found
