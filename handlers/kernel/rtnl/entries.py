"""Requests about permanent entries of a VXLAN device, and a reader of the answers.

An entry is of one of two tables: the neighbours, where a next hop has a MAC, or the forwarding
database, where that MAC has the address of a host. Sources: rtnetlink(7), `net/core/neighbour.c`,
`rtnl_fdb_dump` in `net/core/rtnetlink.c` and `drivers/net/vxlan/vxlan_core.c` of the kernel.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from msgspec import Struct

from handlers.kernel.messages import (
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_REPLACE,
    attribute,
    chosen,
    request,
)
from handlers.kernel.rtnl.numbers import (
    NDA_DST,
    NDA_IFINDEX,
    NDA_LLADDR,
    NTF_SELF,
    NUD_NOARP,
    NUD_PERMANENT,
    RTM_DELNEIGH,
    RTM_GETNEIGH,
    RTM_NEWNEIGH,
)

_NDMSG: Final = struct.Struct("=BxxxiHBB")
_MAC_SIZE: Final = 6
_FAMILIES: Final = {4: socket.AF_INET, 16: socket.AF_INET6, _MAC_SIZE: socket.AF_BRIDGE}
_READ: Final = frozenset((NDA_DST, NDA_LLADDR))
_NOTHING: Final = memoryview(b"")

ENTRY_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_BRIDGE)
"""The tables, by the families of their keys."""

type EntryKey = tuple[int, bytes]
"""The device, and the key there."""


class Entry(Struct, frozen=True):
    """A permanent entry of the device `index`.

    Attributes:
        index: the device.
        at: the packed next hop, or the MAC: what is looked up.
        to: the MAC, or the packed address of a host: what is found.
    """

    index: int
    at: bytes
    to: bytes

    @property
    def key(self) -> EntryKey:
        """What tells it from other entries that are wanted."""
        return self.index, self.at


def entry(wanted: Entry) -> bytes:
    """Make an entry, in place of one with the same key."""
    return request(RTM_NEWNEIGH, _body(wanted), NLM_F_CREATE | NLM_F_REPLACE)


def no_entry(gone: Entry) -> bytes:
    """Remove an entry."""
    return request(RTM_DELNEIGH, _body(gone))


def entries(index: int, family: int) -> bytes:
    """Ask for the entries of the device `index` in the table of a family."""
    if family == socket.AF_BRIDGE:
        body = _NDMSG.pack(family, index, 0, 0, 0)
    else:
        chosen_by = attribute(NDA_IFINDEX, index.to_bytes(4, "little"))
        body = _NDMSG.pack(family, 0, 0, 0, 0) + chosen_by
    return request(RTM_GETNEIGH, body, NLM_F_DUMP)


def read_entry(body: memoryview) -> Entry | None:
    """The entry in `body`, an RTM_NEWNEIGH or RTM_DELNEIGH message, if it is of one of the tables.

    What is found is empty if the entry is a neighbour that is not permanent.
    """
    family, index, state, _, _ = _NDMSG.unpack_from(body)
    values = chosen(body, _NDMSG.size, _READ)
    mac, address = values.get(NDA_LLADDR, _NOTHING), values.get(NDA_DST, _NOTHING)
    if family == socket.AF_BRIDGE:
        return Entry(index, bytes(mac), bytes(address))
    if family in (socket.AF_INET, socket.AF_INET6):
        return Entry(index, bytes(address), bytes(mac) if state & NUD_PERMANENT else b"")
    return None


def _body(one: Entry) -> bytes:
    family = _FAMILIES[len(one.at)]
    if family == socket.AF_BRIDGE:
        header = _NDMSG.pack(family, one.index, NUD_NOARP | NUD_PERMANENT, NTF_SELF, 0)
        return header + attribute(NDA_LLADDR, one.at) + attribute(NDA_DST, one.to)
    header = _NDMSG.pack(family, one.index, NUD_PERMANENT, 0, 0)
    return header + attribute(NDA_DST, one.at) + attribute(NDA_LLADDR, one.to)
