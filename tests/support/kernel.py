"""What the kernel has of links, addresses, routes and nftables, read without a process.

Sources: rtnetlink(7), `include/uapi/linux/if_link.h`, `if_addr.h`, `rtnetlink.h`, `pkt_cls.h` and
`netfilter/nf_tables.h`.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

from tests.support.traffic import entered

_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_LINK: Final = struct.Struct("=BxHiII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_ROUTE: Final = struct.Struct("=BBBBBBBBI")
_FILTER: Final = struct.Struct("=BxxxiIII")
_ERROR: Final = struct.Struct("=i")
_INDEX: Final = struct.Struct("=I")

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_NEWLINK, _DELLINK, _GETLINK, _GETADDR, _GETROUTE = 16, 17, 18, 22, 26
_GETFILTER, _AT_INGRESS = 46, 0xFFFFFFF2
_TCA_KIND, _TCA_OPTIONS, _TCA_BPF_OPS, _TCA_BPF_FLAGS = 1, 2, 5, 8
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_QDISC, _IFLA_MASTER = 1, 3, 4, 6, 10
_IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_GROUP = 18, 20, 27
_IFLA_INFO_SLAVE_DATA, _IFLA_BRPORT_ISOLATED = 5, 33
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_TABLE = 1, 4, 5, 6, 15
_NFNETLINK, _NFT_GETGEN, _NFTA_GEN_ID = 12, 10 << 8 | 16, 1
_UP, _LINK_SCOPE = 1, 253
_NESTED: Final = 0x3FFF

type Attributes = dict[int, bytes]


def view(netns: int) -> list[str]:
    """A line each of the links, filters, addresses and routes in the namespace of that descriptor.

    What the kernel makes by itself of a MAC is left out, and so are the MACs of host ends and of
    the devices beside them.
    """
    with _opened(netns) as rtnetlink:
        links = {body[2]: (body, found) for body, found in _dump(rtnetlink, _GETLINK, _LINK)}
        names = {index: _text(found[_IFLA_IFNAME]) for index, (_, found) in links.items()}
        lines = [_link(names, body, found) for body, found in links.values()]
        for index, (_, found) in links.items():
            of = f"{names[index]} alias={_text(found.get(_IFLA_IFALIAS, b''))!r}"
            lines += (f"{of} {filter_}" for filter_ in _filters(rtnetlink, index))
        for body, found in _dump(rtnetlink, _GETADDR, _ADDRESS):
            if body[3] != _LINK_SCOPE:
                address = ip_address(found.get(_IFA_LOCAL) or found[_IFA_ADDRESS])
                lines.append(f"{names[body[4]]} {address}/{body[1]}")
        lines += _routes(names, _dump(rtnetlink, _GETROUTE, _ROUTE))
        return lines


def delete_group(netns: int, group: int) -> None:
    """Removes every link of that group; there may be none."""
    with _opened(netns) as rtnetlink:
        body = _LINK.pack(0, 0, 0, 0, 0) + _ATTRIBUTE.pack(8, _IFLA_GROUP) + _INDEX.pack(group)
        rtnetlink.send(_HEADER.pack(16 + len(body), _DELLINK, _REQUEST | _ACK, 1, 0) + body)
        rtnetlink.recv(1 << 16)


def nftables_generation(netns: int) -> int:
    """How often nftables was changed there: each transaction counts one, whatever is in it."""
    with _opened(netns, _NFNETLINK) as nfnetlink:
        nfnetlink.send(_HEADER.pack(20, _NFT_GETGEN, _REQUEST, 1, 0) + bytes(4))
        return int.from_bytes(_attributes(nfnetlink.recv(1 << 16)[20:])[_NFTA_GEN_ID], "big")


def _opened(netns: int, protocol: int = socket.NETLINK_ROUTE) -> socket.socket:
    with entered(netns):
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)


def _dump(
    rtnetlink: socket.socket, kind: int, form: struct.Struct, request: bytes = b""
) -> Iterator[tuple[tuple[int, ...], Attributes]]:
    request = request or bytes(form.size)
    rtnetlink.send(_HEADER.pack(16 + form.size, kind, _REQUEST | _DUMP, 1, 0) + request)
    while True:
        data = rtnetlink.recv(1 << 20)
        while data:
            length, type_, *_ = _HEADER.unpack_from(data)
            if type_ == _NLMSG_DONE:
                return
            if type_ == _NLMSG_ERROR:
                number = -_ERROR.unpack_from(data, 16)[0]
                raise OSError(number, os.strerror(number))
            message, data = data[16:length], data[(length + 3) & ~3 :]
            yield form.unpack_from(message), _attributes(message[form.size :])


def _attributes(data: bytes) -> Attributes:
    found = {}
    while len(data) >= _ATTRIBUTE.size:
        length, type_ = _ATTRIBUTE.unpack_from(data)
        found[type_ & _NESTED] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def _link(names: dict[int, str], body: tuple[int, ...], found: Attributes) -> str:
    name = names[body[2]]
    info = _attributes(found.get(_IFLA_LINKINFO, b""))
    port = _attributes(info.get(_IFLA_INFO_SLAVE_DATA, b""))
    return " ".join(
        (
            name,
            "" if name.startswith(("netnsv", "netnsi")) else found.get(_IFLA_ADDRESS, b"").hex(":"),
            f"up={bool(body[3] & _UP)}",
            f"mtu={_number(found, _IFLA_MTU)}",
            f"master={names.get(_number(found, _IFLA_MASTER))}",
            f"group={_number(found, _IFLA_GROUP)}",
            f"alias={_text(found.get(_IFLA_IFALIAS, b''))!r}",
            f"qdisc={_text(found.get(_IFLA_QDISC, b''))}",
            f"isolated={port.get(_IFLA_BRPORT_ISOLATED, b'').hex()}",
        )
    )


def _filters(rtnetlink: socket.socket, index: int) -> Iterator[str]:
    request = _FILTER.pack(0, index, 0, _AT_INGRESS, 0)
    for body, found in _dump(rtnetlink, _GETFILTER, _FILTER, request):
        if body[2]:  # not only the beginning of a priority
            options = _attributes(found.get(_TCA_OPTIONS, b""))
            yield (
                f"ingress {body[4] >> 16} {_text(found[_TCA_KIND])} {body[2]}"
                f" flags={options.get(_TCA_BPF_FLAGS, b'').hex()}"
                f" instructions={len(options.get(_TCA_BPF_OPS, b'')) // 8}"
            )


def _routes(
    names: dict[int, str], routes: Iterator[tuple[tuple[int, ...], Attributes]]
) -> Iterator[str]:
    for body, found in routes:
        to = ip_address(found[_RTA_DST]) if _RTA_DST in found else "default"
        if str(to).startswith(("fe80:", "ff00:")):
            continue
        by = ip_address(found[_RTA_GATEWAY]) if _RTA_GATEWAY in found else None
        yield (
            f"route {body[0]} {to}/{body[1]} via {by} dev {names.get(_number(found, _RTA_OIF))}"
            f" table {_number(found, _RTA_TABLE)} metric {_number(found, _RTA_PRIORITY)}"
            f" type {body[7]}"
        )


def _number(found: Attributes, type_: int) -> int:
    return _INDEX.unpack(found[type_])[0] if type_ in found else 0


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode()
