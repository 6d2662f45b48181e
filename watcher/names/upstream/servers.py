"""Servers, and which of them a question is for."""

from __future__ import annotations

import socket
from ipaddress import IPv6Address, ip_address

from msgspec import Struct


class Server(Struct, frozen=True):
    """A name server.

    Attributes:
        name: its address in the usual spelling, with the zone if it has one (`fe80::1%eth0`).
        family: as `socket` has it.
        local: it is on this host.
    """

    name: str
    family: socket.AddressFamily
    local: bool

    def address(self, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
        """What connect(2) takes. A zone is looked up anew: links come and go.

        Raises:
            OSError: there is no such link.
        """
        host, _, zone = self.name.partition("%")
        if self.family == socket.AF_INET:
            return host, port
        return host, port, 0, _link(zone) if zone else 0


class Choice(Struct, frozen=True):
    """Servers for a question.

    Attributes:
        names: their addresses, as key of what they answered.
        servers: those to ask, in this order.
        behind: those to ask if none of `servers` answers anything.
        timeout: seconds after which the next one is asked; `None`: as usual.
        rounds: how often all are asked.
        rotate: begin with another one each time.
        of_host: they are those of the host's file, which may say others by now.
    """

    names: tuple[str, ...]
    servers: tuple[Server, ...]
    behind: tuple[Server, ...] = ()
    timeout: float | None = None
    rounds: int = 2
    rotate: bool = False
    of_host: bool = False


def _link(zone: str) -> int:
    """The number of a link by its name or number (RFC 4007, section 11.2).

    Raises:
        OSError: there is none.
    """
    if zone.isascii() and zone.isdecimal() and len(zone) < len(str(1 << 32)):
        return int(zone)
    try:
        return socket.if_nametoindex(zone)
    except ValueError as error:
        raise OSError(f"no name of a link: {zone!a}") from error


def make_server(name: str) -> Server:
    """The server at an address.

    Raises:
        ValueError: it is none.
    """
    address = ip_address(name)
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return Server(str(address), family, address.is_loopback or address.is_unspecified)


def make_choice(names: tuple[str, ...]) -> Choice:
    """The choice of these servers, which a configuration or an annotation names."""
    return Choice(names, tuple(map(make_server, names)))
