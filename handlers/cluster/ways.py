"""How this host reaches the addresses of other hosts: on a link of its own, or beyond a router."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import batched
from typing import Final

from msgspec import Struct

from handlers.kernel import rtnl
from handlers.kernel.messages import chosen
from handlers.kernel.netlink import Netlink
from handlers.kernel.rtnl.numbers import RTA_GATEWAY, RTA_OIF, RTA_VIA, RTN_UNICAST
from watcher.model.address import Address

_RTMSG_SIZE: Final = 12
_TYPE: Final = 7
_READ: Final = frozenset((RTA_GATEWAY, RTA_VIA, RTA_OIF))
_LOOPBACK, _POINT_TO_POINT, _NOARP = 0x8, 0x10, 0x80
"""Flags of links on which nobody answers who has an address (netdevice(7))."""

_TOGETHER: Final = 64
"""Requests to send together: the answers have to fit into the buffer of the socket."""


class Way(Struct, frozen=True):
    """How an address is reached.

    Attributes:
        link: the index of the link by which its packets leave; 0 if there is no route to it.
        common: whether it is on that link, so that what is sent to its MAC gets there.
    """

    link: int = 0
    common: bool = False


NOWHERE: Final = Way()


def ways(netlink: Netlink, addresses: Iterable[Address]) -> dict[Address, Way]:
    """The way to each of `addresses`, by one look at the routes for each.

    A tunnel counts as no common link: WireGuard takes only what is configured for the other end.
    Links of this program lead to no host.
    """
    found: dict[Address, Way] = {}
    for some in batched(addresses, _TOGETHER):
        requests = [rtnl.path_to(address.version, address.packed) for address in some]
        for address, body in zip(some, netlink.answers(requests), strict=True):
            found[address] = _read(body)
    fit = {link: _carries(netlink, link) for link in {way.link for way in found.values()} - {0}}
    for address, way in found.items():
        if way.link:
            carries, resolves = fit[way.link]
            found[address] = Way(way.link, way.common and resolves) if carries else NOWHERE
    return found


def _read(body: memoryview | None) -> Way:
    if body is None or body[_TYPE] != RTN_UNICAST:
        return NOWHERE
    values = chosen(body, _RTMSG_SIZE, _READ)
    link = int.from_bytes(values.get(RTA_OIF, b""), "little")
    return Way(link, RTA_GATEWAY not in values and RTA_VIA not in values)


def _carries(netlink: Netlink, index: int) -> tuple[bool, bool]:
    """Whether the link `index` leads to other hosts, and whether these answer by their MACs."""
    body = netlink.get(rtnl.link_at(index))
    if body is None:
        return False, False
    flags = int.from_bytes(body[8:12], "little")
    ours = rtnl.read_link(body).ours
    return not (ours or flags & _LOOPBACK), not flags & (_POINT_TO_POINT | _NOARP)
