"""Somebody in a sandbox who never stops trying to reach others, by TCP and UDP."""

from __future__ import annotations

import errno
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from tests.support import traffic
from tests.support.traffic import family_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.host import Place

MARK: Final = 0x10000000
"""The bit of the packet mark that this program sets on what may pass."""

_SO_MARK: Final = 36
_AT_ONCE: Final = 8
"""Connection attempts to one target that are kept open."""


class Doors:
    """Sockets at which nobody may ever arrive, by either family and either protocol.

    Args:
        places: where they are, by the names of those who have them.
        port: the port of all of them.
    """

    def __init__(self, places: Sequence[Place], port: int) -> None:
        self._doors: list[tuple[str, socket.socket]] = []
        for place in places:
            for family in (socket.AF_INET, socket.AF_INET6):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    door = traffic.make_socket(place.netns, family, kind)
                    place.host.on_close(door.close)
                    if family == socket.AF_INET6:
                        door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    door.bind(("", port))
                    if kind == socket.SOCK_STREAM:
                        door.listen(64)
                    door.setblocking(False)
                    self._doors.append((f"{kind.name} {family.name} {place.name}", door))

    def arrived(self) -> set[str]:
        """Where anybody has arrived since the last call."""
        found = set()
        for name, door in self._doors:
            with suppress(BlockingIOError):
                if door.type == socket.SOCK_STREAM:
                    door.accept()[0].close()
                else:
                    door.recv(2048)
                found.add(name)
        return found


class Tireless:
    """A thread that tries to reach all targets, again and again, until it is closed.

    Args:
        place: the sandbox.
        targets: addresses and ports.
        mark: the packet mark of what it sends, as somebody with CAP_NET_ADMIN may set it.

    Attributes:
        tries: how often it has tried.
    """

    def __init__(self, place: Place, targets: Sequence[tuple[str, int]], *, mark: int = 0) -> None:
        self._place, self._targets, self._mark = place, targets, mark
        self._stop = threading.Event()
        self.tries = 0
        self._thread = threading.Thread(target=self._try, name="tireless", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _make(self, address: str, kind: int) -> socket.socket:
        made = socket.socket(family_of(address), kind)
        made.setblocking(False)
        if self._mark:
            made.setsockopt(socket.SOL_SOCKET, _SO_MARK, self._mark)
        return made

    def _try(self) -> None:
        with traffic.entered(self._place.netns):
            talking = {target: self._make(target[0], socket.SOCK_DGRAM) for target in self._targets}
            calling: list[socket.socket] = []
            while not self._stop.is_set():
                for target, socket_ in talking.items():
                    with suppress(OSError):
                        socket_.sendto(b"?", target)
                    call = self._make(target[0], socket.SOCK_STREAM)
                    assert call.connect_ex(target) in _UNDER_WAY
                    calling.append(call)
                while len(calling) > _AT_ONCE * len(self._targets):
                    calling.pop(0).close()
                self.tries += 1
            for one in (*talking.values(), *calling):
                one.close()


_UNDER_WAY: Final = (
    errno.EINPROGRESS, errno.EHOSTUNREACH, errno.EACCES, errno.ENETUNREACH, errno.ECONNREFUSED,
    errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.EAGAIN,
)  # fmt: skip
