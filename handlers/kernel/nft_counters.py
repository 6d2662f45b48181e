"""Reads what the elements of a set of nftables have counted, without libnftables.

That would read the whole table first. Sources: `include/uapi/linux/netfilter/nf_tables.h`,
`nf_tables_dump_set` in `net/netfilter/nf_tables_api.c`.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from handlers.kernel.messages import HEADER, NLM_F_DUMP, NLM_F_REQUEST, attribute, attributes
from handlers.kernel.netlink import NetlinkError

if TYPE_CHECKING:
    from handlers.kernel.netlink import Netlink

_GET_ELEMENTS: Final = (10 << 8) | 13
"""NFNL_SUBSYS_NFTABLES with NFT_MSG_GETSETELEM."""
_GENERIC: Final = struct.pack("!BBH", 1, 0, 0)
"""`struct nfgenmsg` of the family inet."""
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_KEY, _EXPRESSION, _EXPRESSIONS, _DATA_VALUE = 1, 7, 11, 1
_EXPR_NAME, _EXPR_DATA, _COUNTER_PACKETS = 1, 2, 2
_COUNTER: Final = b"counter\0"


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
            for kind, elements in attributes(body, len(_GENERIC)):
                if kind == _LIST_ELEMENTS:
                    for _, element in attributes(elements, 0):
                        yield _of_element(element)
    except NetlinkError as error:
        if error.errno != errno.ENOENT:
            raise


def _of_element(element: memoryview) -> tuple[bytes, int]:
    key, count = b"", 0
    for kind, value in attributes(element, 0):
        if kind == _KEY:
            key = bytes(dict(attributes(value, 0))[_DATA_VALUE])
        elif kind == _EXPRESSION:
            count = max(count, _count(value))
        elif kind == _EXPRESSIONS:
            count = max(count, *(_count(one) for _, one in attributes(value, 0)))
    return key, count


def _count(expression: memoryview) -> int:
    found = dict(attributes(expression, 0))
    if bytes(found.get(_EXPR_NAME, b"")) != _COUNTER:
        return 0
    return int.from_bytes(dict(attributes(found[_EXPR_DATA], 0)).get(_COUNTER_PACKETS, b""))
