"""Reads what the elements of a set of nftables have counted, without libnftables.

That would read the whole table first. The kernel writes all elements of a set alike, so only the
first of each message is looked through, and the others are read at the same places.

Sources: `include/uapi/linux/netfilter/nf_tables.h`, `nf_tables_dump_set` and
`nf_tables_fill_setelem` in `net/netfilter/nf_tables_api.c`.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from handlers.kernel.messages import HEADER, NLM_F_DUMP, NLM_F_REQUEST, attribute
from handlers.kernel.netlink import NetlinkError

if TYPE_CHECKING:
    from handlers.kernel.netlink import Netlink

_GET_ELEMENTS: Final = (10 << 8) | 13
"""NFNL_SUBSYS_NFTABLES with NFT_MSG_GETSETELEM."""
_GENERIC: Final = struct.pack("!BBH", 1, 0, 0)
"""`struct nfgenmsg` of the family inet."""
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS, _LIST_ELEMENT = 1, 2, 3, 1
_KEY, _EXPRESSION, _EXPRESSIONS, _DATA_VALUE = 1, 7, 11, 1
_EXPR_NAME, _EXPR_DATA, _COUNTER_PACKETS = 1, 2, 2
_COUNTER: Final = b"counter\0"
_ATTRIBUTE: Final = struct.Struct("=HH")

type _Place = tuple[int, int]
"""Where the content of an attribute begins and ends."""


def packets(netlink: Netlink, table: str, name: str) -> Iterator[tuple[bytes, int]]:
    """Key and packets of each element of the set `name` of the inet table `table`, if it is there.

    `netlink` is a socket of NETLINK_NETFILTER. Read it to the end before another use of that.
    """
    content = attribute(_LIST_TABLE, table.encode() + b"\0")
    content += attribute(_LIST_SET, name.encode() + b"\0")
    size = HEADER.size + len(_GENERIC) + len(content)
    header = HEADER.pack(size, _GET_ELEMENTS, NLM_F_REQUEST | NLM_F_DUMP, 0, 0)
    try:
        for body in netlink.listed(bytearray(header + _GENERIC + content)):
            elements = _find(body, (len(_GENERIC), len(body)), _LIST_ELEMENTS)
            if elements is not None:
                yield from _counted(body[elements[0] : elements[1]])
    except NetlinkError as error:
        if error.errno != errno.ENOENT:
            raise


def _counted(elements: memoryview) -> Iterator[tuple[bytes, int]]:
    """Those of the elements of one message."""
    while elements:
        length, _ = _ATTRIBUTE.unpack_from(elements)
        start = bytes(elements[:2])
        stride = (length + 3) & ~3
        layout = _layout(elements[:stride])
        if layout is None:  # it has no counter
            elements = elements[stride:]
            continue
        read = 0
        whole = len(elements) // layout.size * layout.size
        for same, key, name, count in layout.iter_unpack(elements[:whole]):
            if same != start or name != _COUNTER:
                break
            yield key, count
            read += layout.size
        elements = elements[read:]


def _layout(element: memoryview) -> struct.Struct | None:
    """How an element like this one is read: its length, key, name of the expression, and count."""
    whole = 4, len(element)
    key = _find(element, _find(element, whole, _KEY), _DATA_VALUE)
    expression = _find(element, whole, _EXPRESSION)
    if expression is None:  # several: the counter is first, as in the declaration of the set
        expression = _find(element, _find(element, whole, _EXPRESSIONS), _LIST_ELEMENT)
    name = _find(element, expression, _EXPR_NAME)
    count = _find(element, _find(element, expression, _EXPR_DATA), _COUNTER_PACKETS)
    if (
        key is None
        or name is None
        or count is None
        or bytes(element[name[0] : name[1]]) != _COUNTER
    ):
        return None
    return struct.Struct(
        f">2s{key[0] - 2}x{key[1] - key[0]}s{name[0] - key[1]}x8s"
        f"{count[0] - name[1]}xQ{len(element) - count[1]}x"
    )


def _find(body: memoryview, place: _Place | None, wanted: int) -> _Place | None:
    """Where the content of the first attribute `wanted` is, among those in `place`."""
    if place is None:
        return None
    offset, end = place
    while offset + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size:
            return None
        if kind & 0x3FFF == wanted:
            return offset + _ATTRIBUTE.size, offset + length
        offset += (length + 3) & ~3
    return None
