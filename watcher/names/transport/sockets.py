"""Where the name service listens: one socket of each kind for each gateway of a named network.

The manager keeps a duplicate of every socket (the file descriptor store; systemd.service(5),
`FileDescriptorStoreMax=`). So what is sent while this process is started anew, or has been killed,
waits in them, and nobody is refused. `systemctl stop` closes them: then the kernel refuses quickly.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, Self

from msgspec import Struct

from watcher.model.errors import message_of
from watcher.model.names import PORT
from watcher.service import systemd

if TYPE_CHECKING:
    from watcher.log.logger import Log

_IP_FREEBIND: Final = 15
_IPV6_FREEBIND: Final = 78
"""From linux/in.h and linux/in6.h: the address may come later, with its bridge."""

_BUFFER: Final = 4 << 20
"""Bytes of questions that wait, and of answers that are on their way, as far as the host allows it
(rmem_max, wmem_max; socket(7)). Answers to a neighbour that does not answer ARP wait there, too."""
_STREAM_BUFFER: Final = 64 << 10
"""Bytes in each direction of a connection. The kernel would take 4 MiB and more by itself, at the
expense of this process (`tcp_wmem`, tcp(7))."""
_BACKLOG: Final = 256
_NAME: Final = re.compile(r"(udp|tcp)-([0-9a-f._]+)", re.ASCII)


type Kind = Literal["udp", "tcp"]
KINDS: Final[tuple[Kind, ...]] = ("udp", "tcp")


class Endpoint(Struct, frozen=True):
    """A socket's protocol and address."""

    kind: Kind
    address: str

    @property
    def name(self) -> str:
        """What the manager calls it: a name there has no colon."""
        return f"{self.kind}-{self.address.replace(':', '_')}"

    @classmethod
    def named(cls, name: str) -> Self | None:
        """The one that the manager calls `name`; `None` if it is none of ours."""
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        kind, address = found.groups()
        return cls("udp" if kind == "udp" else "tcp", address.replace("_", ":"))


class Sockets:
    """The sockets, whether they are read or not.

    Args:
        log: gets each failure once.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._kept: dict[Endpoint, socket.socket] = {}
        self._problems: dict[Endpoint, str] = {}
        self._take_back()

    @property
    def kept(self) -> list[Endpoint]:
        """Those that there are."""
        return list(self._kept)

    def open(self, endpoint: Endpoint) -> socket.socket | None:
        """The socket of `endpoint`, made if there is none yet; `None` if that fails."""
        kept = self._kept.get(endpoint)
        if kept is not None:
            return kept
        try:
            made = _made(endpoint)
        except OSError as error:
            self._tell(endpoint, error)
            return None
        if self._problems.pop(endpoint, ""):
            self._log.info(
                "listening again", protocol=endpoint.kind, address=endpoint.address, port=PORT
            )
        self._kept[endpoint] = made
        self._notify(f"FDSTORE=1\nFDPOLL=0\nFDNAME={endpoint.name}", made.fileno())
        return made

    def close(self, endpoint: Endpoint) -> None:
        """Close the socket of `endpoint`, for good."""
        self._problems.pop(endpoint, None)
        kept = self._kept.pop(endpoint, None)
        if kept is not None:
            self._notify(f"FDSTOREREMOVE=1\nFDNAME={endpoint.name}")
            # Whoever has a duplicate, the kernel refuses from now on.
            with suppress(OSError):
                kept.shutdown(socket.SHUT_RDWR)
            kept.close()

    def _take_back(self) -> None:
        """Take what the manager has kept."""
        for name, descriptor in systemd.passed():
            endpoint = Endpoint.named(name)
            if endpoint is None or endpoint in self._kept:
                self._notify(f"FDSTOREREMOVE=1\nFDNAME={name}")
                os.close(descriptor)
                continue
            kept = socket.socket(fileno=descriptor)
            kept.setblocking(False)
            self._kept[endpoint] = kept

    def _notify(self, state: str, *descriptors: int) -> None:
        """Tell the manager; without it, sockets end with this process."""
        try:
            systemd.notify(state, descriptors)
        except OSError as error:
            self._log.warning("the sockets cannot be kept", reason=message_of(error))

    def _tell(self, endpoint: Endpoint, error: OSError) -> None:
        reason = message_of(error)
        if self._problems.get(endpoint) == reason:
            return
        self._problems[endpoint] = reason
        remedy = "run `watcher check`; it is tried again"
        if error.errno == errno.EADDRINUSE:
            remedy = f"end the program that has port {PORT} there, see `ss -lnup` and `ss -lntp`"
        self._log.error(
            "cannot listen", protocol=endpoint.kind, address=endpoint.address, port=PORT,
            reason=reason, remedy=remedy,
        )  # fmt: skip


def _made(endpoint: Endpoint) -> socket.socket:
    """A socket that is bound to `endpoint`; one for TCP listens."""
    six = ":" in endpoint.address
    family = socket.AF_INET6 if six else socket.AF_INET
    kind = socket.SOCK_DGRAM if endpoint.kind == "udp" else socket.SOCK_STREAM
    made = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if six:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        else:
            made.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        if kind == socket.SOCK_DGRAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        else:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _STREAM_BUFFER)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _STREAM_BUFFER)
        made.bind((endpoint.address, PORT))
        if kind == socket.SOCK_STREAM:
            made.listen(_BACKLOG)
    except BaseException:
        made.close()
        raise
    return made
