"""Adds elements to hash sets and maps of nftables and removes them, without libnftables.

That parses text, and reads all sets of the kernel before each transaction, which takes several
times as long as the kernel's work. Only plain elements are known here: those of other sets
(intervals, statements, timeouts) are left to :mod:`handlers.kernel.nft`.

Sources: `include/uapi/linux/netfilter/nf_tables.h`, `nf_tables_newsetelem` in
`net/netfilter/nf_tables_api.c`, `nfnetlink_rcv_batch` in `net/netfilter/nfnetlink.c`.
"""

from __future__ import annotations

import errno
import re
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

from handlers.kernel.messages import HEADER, NLM_F_CREATE, NLM_F_REQUEST, attribute
from handlers.kernel.netlink import Netlink, NetlinkError
from handlers.kernel.nft import Element, NftError, NotThere

MOST: Final = 32 << 10
"""The most bytes of a transaction; the kernel takes one in a single message of the socket."""

_BEGIN, _END = 16, 17
"""NFNL_MSG_BATCH_BEGIN and NFNL_MSG_BATCH_END."""
_NFTABLES: Final = 10
"""NFNL_SUBSYS_NFTABLES."""
_VERBS: Final = {
    "add": (_NFTABLES << 8 | 12, NLM_F_REQUEST | NLM_F_CREATE),
    "destroy": (_NFTABLES << 8 | 30, NLM_F_REQUEST),
}
"""NFT_MSG_NEWSETELEM and NFT_MSG_DESTROYSETELEM, each with its flags."""
_GENERIC: Final = struct.Struct("!BBH")
"""`struct nfgenmsg`."""
_FAMILIES: Final = {"inet": 1}
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS, _LIST_ELEMENT = 1, 2, 3, 1
_KEY, _DATA, _DATA_VALUE = 1, 2, 1
_NESTED: Final = 0x8000
_TABLE: Final = attribute(_LIST_TABLE, b"watcher\0")
_PROTOCOLS: Final = {"tcp": b"\6", "udp": b"\x11", "sctp": b"\x84"}


type _Encoder = Callable[[str], bytes]
type _Part = tuple[_Encoder, bytes]


class Types(NamedTuple):
    """What the elements of a set or map are.

    Attributes:
        key, value: of what types; a set has no values.
        more: whether they have more than that, so that they are not added here.
    """

    key: tuple[str, ...]
    value: tuple[str, ...] = ()
    more: bool = False


def types_in(declarations: Iterable[str]) -> dict[str, Types]:
    """The types of the sets and maps that are declared so (nft(8)), without those of intervals."""
    found = {}
    for declaration in declarations:
        match = _DECLARATION.fullmatch(declaration)
        if match is not None and "interval" not in match["more"]:
            key, value = ((match[part] or "").split(" . ") for part in ("key", "value"))
            found[match["name"]] = Types(
                tuple(key), tuple(value) if match["value"] else (), bool(match["more"])
            )
    return found


_DECLARATION: Final = re.compile(
    r"(?:set|map) (?P<name>\w+) \{ type (?P<key>[\w .]+?)(?: : (?P<value>[\w .]+?))?;"
    r"(?P<more>.*) \}"
)


def encoded(
    verb: str, elements: Iterable[Element], types: Mapping[str, Types]
) -> list[bytearray] | None:
    """The messages that `verb` (`add`, `destroy`) `elements`; `None` if any of them is not plain.

    Neighbours of one set or map share a message.
    """
    kind, flags = _VERBS[verb]
    found = []
    for (family, name), some in groupby(elements, key=_SET):
        of = types.get(name)
        if of is None or family not in _FAMILIES or (of.more and verb == "add"):
            return None
        try:
            layout = _layout(of.key, of.value if verb == "add" else ())
            list_ = b"".join([layout.written(element) for element in some])
        except (KeyError, ValueError, OSError, struct.error):
            return None
        if len(list_) > MOST:
            return None
        content = (
            _GENERIC.pack(_FAMILIES[family], 0, 0)
            + _TABLE
            + attribute(_LIST_SET, name.encode() + b"\0")
            + attribute(_LIST_ELEMENTS | _NESTED, list_)
        )
        header = HEADER.pack(HEADER.size + len(content), kind, flags, 0, 0)
        found.append(bytearray(header + content))
    return found


_SET: Final = itemgetter(0, 1)
"""The family and the name of an element's set or map."""


def carry_out(netlink: Netlink, messages: list[bytearray]) -> None:
    """Carry out `messages` as one transaction.

    `netlink` is a socket of NETLINK_NETFILTER.

    Raises:
        NotThere: they name something that is missing.
        NftError: the kernel refused for another reason.
    """
    try:
        netlink.transaction([_edge(_BEGIN), *messages, _edge(_END)])
    except NetlinkError as error:
        kind = NotThere if error.errno == errno.ENOENT else NftError
        raise kind(str(error.strerror)) from error


def _edge(kind: int) -> bytearray:
    """The message with which a batch begins or ends."""
    content = _GENERIC.pack(0, 0, _NFTABLES)
    return bytearray(HEADER.pack(HEADER.size + len(content), kind, NLM_F_REQUEST, 0, 0) + content)


class _Layout(NamedTuple):
    """How the elements of some types are written, which all are of one size.

    Attributes:
        key, value: the encoder of each part, and the bytes behind it that fill whole words.
        before, between, behind: the bytes around key and value.
    """

    key: tuple[_Part, ...]
    value: tuple[_Part, ...]
    before: bytes
    between: bytes
    behind: bytes

    def written(self, element: Element) -> bytes:
        """The attribute of `element`.

        Raises:
            KeyError, ValueError, OSError, struct.error: it is not plain.
        """
        key = _written(element.key, self.key)
        value = _written(element.value, self.value) if self.value else b""
        return self.before + key + self.between + value + self.behind


def _written(texts: tuple[str, ...], parts: tuple[_Part, ...]) -> bytes:
    return b"".join(
        [encode(text) + fill for text, (encode, fill) in zip(texts, parts, strict=True)]
    )


@cache
def _layout(key: tuple[str, ...], value: tuple[str, ...]) -> _Layout:
    of_key, of_value = _parts(key), _parts(value)
    first = attribute(_KEY | _NESTED, attribute(_DATA_VALUE, bytes(_size(key))))
    second = attribute(_DATA | _NESTED, attribute(_DATA_VALUE, bytes(_size(value))))
    if not value:
        second = b""
    whole = attribute(_LIST_ELEMENT | _NESTED, first + second)
    heads = 2 * _HEAD
    return _Layout(
        of_key, of_value, whole[:_HEAD] + first[:heads],
        bytes(-_size(key) % 4) + second[:heads], bytes(-_size(value) % 4),
    )  # fmt: skip


_HEAD: Final = 4
"""Bytes of the header of an attribute."""


def _parts(types: tuple[str, ...]) -> tuple[_Part, ...]:
    """The encoders of `types`; each of several values fills whole words."""
    fills = (bytes(-_TYPES[one].size % 4 if len(types) > 1 else 0) for one in types)
    return tuple((_TYPES[one].encode, fill) for one, fill in zip(types, fills, strict=True))


def _size(types: tuple[str, ...]) -> int:
    return sum(
        _TYPES[one].size + len(fill) for one, (_, fill) in zip(types, _parts(types), strict=True)
    )


def _name(text: str) -> bytes:
    name = text.strip('"').encode()
    if len(name) >= _NAME_SIZE:
        raise ValueError("longer than a name")
    return name.ljust(_NAME_SIZE, b"\0")


_NAME_SIZE: Final = 16
"""IFNAMSIZ."""


def _port(text: str) -> bytes:
    return struct.pack("!H", int(text))


def _classid(text: str) -> bytes:
    high, low = text.split(":")
    return struct.pack("=I", int(high, 16) << 16 | int(low, 16))


class _Type(NamedTuple):
    """How values of a type are stored, in so many bytes."""

    size: int
    encode: _Encoder


_TYPES: Final = {
    "ipv4_addr": _Type(4, partial(socket.inet_pton, socket.AF_INET)),
    "ipv6_addr": _Type(16, partial(socket.inet_pton, socket.AF_INET6)),
    "inet_proto": _Type(1, _PROTOCOLS.__getitem__),
    "inet_service": _Type(2, _port),
    "ifname": _Type(_NAME_SIZE, _name),
    "classid": _Type(4, _classid),
}
"""Those that are known here; all numbers but that of a class are in network order."""
