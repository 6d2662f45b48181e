"""Requests that make and change VXLAN devices, and a reader of what the kernel says of one.

Sources: RFC 7348, `include/uapi/linux/if_link.h` and `drivers/net/vxlan/vxlan_core.c` of the
kernel.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any, Final

from msgspec import Struct

from handlers.kernel.messages import NLM_F_CREATE, NLM_F_EXCL, chosen, encode
from handlers.kernel.rtnl.messages import ifinfmsg
from handlers.kernel.rtnl.numbers import (
    IFI_SIZE,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    NOTHING,
    OURS,
    RTM_NEWLINK,
)
from watcher.model.address import Address
from watcher.model.cluster import SOURCE_PORTS

KIND: Final = "vxlan"
_ID, _LOCAL, _LEARNING, _PORTS, _PORT, _LOCAL6, _METADATA = 1, 4, 7, 10, 15, 17, 25
_READ: Final = frozenset((_ID, _LOCAL, _LEARNING, _PORTS, _PORT, _LOCAL6, _METADATA))


class Vxlan(Struct, frozen=True):
    """What a VXLAN device is, which cannot change but for `local` within its family.

    Attributes:
        id: its network identifier (VNI).
        port: the UDP port that packets are sent to and taken from.
        local: the address that they are sent from.
        learning: whether it learns from packets where a MAC is.
        ports: the first and the last of the UDP ports that packets are sent from.
    """

    id: int
    port: int
    local: Address | None
    learning: bool = False
    ports: tuple[int, int] = SOURCE_PORTS


def vxlan(name: str, wanted: Vxlan, *, mac: str, mtu: int) -> bytes:
    """Make a device, which is down; it is not bound to an interface below.

    All that it sends goes where its entries say (:mod:`handlers.kernel.rtnl.entries`).
    """
    message = ifinfmsg()
    message["attrs"] = [
        ["IFLA_IFNAME", name],
        ["IFLA_ADDRESS", mac],
        ["IFLA_MTU", mtu],
        ["IFLA_GROUP", OURS],
        _info(
            ["IFLA_VXLAN_ID", wanted.id],
            _local(wanted.local),
            ["IFLA_VXLAN_PORT", wanted.port],
            ["IFLA_VXLAN_LEARNING", int(wanted.learning)],
            ["IFLA_VXLAN_PORT_RANGE", {"low": wanted.ports[0], "high": wanted.ports[1]}],
        ),
    ]
    return encode(message, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL)


def sent_from(index: int, local: Address) -> bytes:
    """Have the device `index` send from `local`, which is of the family of its address before."""
    message = ifinfmsg()
    message["index"] = index
    message["attrs"] = [_info(_local(local))]
    return encode(message, RTM_NEWLINK)


def read_vxlan(body: memoryview) -> Vxlan | None:
    """What the device in `body`, an RTM_NEWLINK message, is; `None` if it is no VXLAN device.

    The id of one that takes it from each packet is 0.
    """
    info = chosen(body, IFI_SIZE, (IFLA_LINKINFO,)).get(IFLA_LINKINFO, NOTHING)
    values = chosen(info, 0, (IFLA_INFO_KIND, IFLA_INFO_DATA))
    if bytes(values.get(IFLA_INFO_KIND, NOTHING)).rstrip(b"\0") != KIND.encode():
        return None
    data = chosen(values.get(IFLA_INFO_DATA, NOTHING), 0, _READ)
    local = data.get(_LOCAL) or data.get(_LOCAL6)
    ports = bytes(data.get(_PORTS, bytes(4)))
    by_packet = any(data.get(_METADATA, NOTHING))
    return Vxlan(
        id=0 if by_packet else int.from_bytes(data.get(_ID, NOTHING), "little"),
        port=int.from_bytes(data.get(_PORT, NOTHING), "big"),
        local=None if local is None else ip_address(bytes(local)),
        learning=any(data.get(_LEARNING, NOTHING)),
        ports=(int.from_bytes(ports[:2]), int.from_bytes(ports[2:])),
    )


def _local(address: Address | None) -> list[Any]:
    assert address is not None, "a device that is made has an address"
    return [f"IFLA_VXLAN_LOCAL{'' if address.version == 4 else '6'}", str(address)]


def _info(*data: list[Any]) -> list[Any]:
    attrs = [["IFLA_INFO_KIND", KIND], ["IFLA_INFO_DATA", {"attrs": list(data)}]]
    return ["IFLA_LINKINFO", {"attrs": attrs}]
