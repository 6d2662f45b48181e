"""Requests that ask the kernel for links, and the reader of its answers.

Sources: rtnetlink(7), `include/uapi/linux/if_link.h` and `net/core/rtnetlink.c` of the kernel.
"""

from __future__ import annotations

import socket
from functools import cache
from typing import Final

from msgspec import Struct

from handlers.kernel import template
from handlers.kernel.messages import NLM_F_DUMP, chosen, encode
from handlers.kernel.netlink import IFF_UP
from handlers.kernel.rtnl.messages import ifinfmsg
from handlers.kernel.rtnl.numbers import (
    DEVCONF_DISABLE_IPV6,
    IFI_SIZE,
    IFLA_ADDRESS,
    IFLA_AF_SPEC,
    IFLA_GROUP,
    IFLA_IFALIAS,
    IFLA_IFNAME,
    IFLA_INET6_CONF,
    IFLA_INFO_KIND,
    IFLA_LINK,
    IFLA_LINK_NETNSID,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_MTU,
    OURS,
    RTEXT_FILTER_SKIP_STATS,
    RTM_GETLINK,
)
from handlers.kernel.template import Template


class Link(Struct, frozen=True):
    """An interface, as the kernel describes it.

    `peer` is the index of a veth pair's other end. `master`, `group` and `peer` are 0 if absent.
    `peer_netns` is the number of the peer's namespace (:func:`handlers.kernel.rtnl.read_netns`),
    or -1 if it is the link's own.
    """

    index: int
    name: str
    kind: str
    up: bool
    master: int
    group: int
    mtu: int
    mac: str
    alias: str
    peer: int
    peer_netns: int

    @property
    def ours(self) -> bool:
        """Whether this program made it."""
        return self.group == OURS


def link(name: str) -> bytes:
    """Ask for the interface `name`; :func:`read_link` reads the answer."""
    return _link().filled(name=name.encode())


@cache
def _link() -> Template:
    message = ifinfmsg()
    message["attrs"] = [["IFLA_IFNAME", template.NAME], ["IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS]]
    return Template(encode(message, RTM_GETLINK, 0), name=template.NAME.encode())


def link_at(index: int) -> bytes:
    """Ask for the interface `index`."""
    message = ifinfmsg()
    message["index"] = index
    message["attrs"] = [["IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS]]
    return encode(message, RTM_GETLINK, 0)


def links(kind: str = "") -> bytes:
    """Ask for all interfaces, or all of one `kind`."""
    return _links(kind).filled()


@cache
def _links(kind: str) -> Template:
    message = ifinfmsg()
    message["attrs"] = [["IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS]]
    if kind:
        message["attrs"].append(["IFLA_LINKINFO", {"attrs": [["IFLA_INFO_KIND", kind]]}])
    return Template(encode(message, RTM_GETLINK, NLM_F_DUMP))


def read_link(body: memoryview) -> Link:
    """The interface in `body`, an RTM_NEWLINK message without its header."""
    index = int.from_bytes(body[4:8], "little", signed=True)
    flags = int.from_bytes(body[8:12], "little")
    values = chosen(body, IFI_SIZE, _READ)
    info = chosen(values.get(IFLA_LINKINFO, _NOTHING), 0, (IFLA_INFO_KIND,))
    return Link(
        index,
        name=_text(values.get(IFLA_IFNAME, _NOTHING)),
        kind=_text(info.get(IFLA_INFO_KIND, _NOTHING)),
        up=bool(flags & IFF_UP),
        master=int.from_bytes(values.get(IFLA_MASTER, _NOTHING), "little"),
        group=int.from_bytes(values.get(IFLA_GROUP, _NOTHING), "little"),
        mtu=int.from_bytes(values.get(IFLA_MTU, _NOTHING), "little"),
        mac=values.get(IFLA_ADDRESS, _NOTHING).hex(":"),
        alias=_text(values.get(IFLA_IFALIAS, _NOTHING)),
        peer=int.from_bytes(values.get(IFLA_LINK, _NOTHING), "little"),
        peer_netns=int.from_bytes(values.get(IFLA_LINK_NETNSID, _NOWHERE), "little", signed=True),
    )


def read_state(body: memoryview) -> tuple[int, bool]:
    """The index of the interface in `body`, and whether it is up: what its header tells."""
    index = int.from_bytes(body[4:8], "little", signed=True)
    return index, bool(int.from_bytes(body[8:12], "little") & IFF_UP)


def read_ipv6(body: memoryview) -> bool:
    """Whether the interface in `body` can have IPv6: the kernel has it, and nobody turned it off.

    Source: `inet6_fill_link_af` in `net/ipv6/addrconf.c`.
    """
    spec = chosen(body, IFI_SIZE, (IFLA_AF_SPEC,)).get(IFLA_AF_SPEC, _NOTHING)
    of_ipv6 = chosen(spec, 0, (socket.AF_INET6,)).get(socket.AF_INET6, _NOTHING)
    settings = chosen(of_ipv6, 0, (IFLA_INET6_CONF,)).get(IFLA_INET6_CONF, _NOTHING)
    offset = 4 * DEVCONF_DISABLE_IPV6
    return len(settings) >= offset + 4 and not any(settings[offset : offset + 4])


_READ: Final = frozenset(
    (
        IFLA_IFNAME, IFLA_MASTER, IFLA_LINK, IFLA_MTU, IFLA_GROUP, IFLA_ADDRESS, IFLA_IFALIAS,
        IFLA_LINKINFO, IFLA_LINK_NETNSID,
    )
)  # fmt: skip


_NOTHING: Final = memoryview(b"")


_NOWHERE: Final = memoryview(b"\xff\xff\xff\xff")


def _text(value: memoryview) -> str:
    return bytes(value).rstrip(b"\0").decode(errors="replace")
