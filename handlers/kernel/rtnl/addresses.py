"""Requests about addresses, and readers of the answers. Source: rtnetlink(7)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from ipaddress import ip_address, ip_interface

from handlers.kernel import template
from handlers.kernel.messages import NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, chosen, encode
from handlers.kernel.rtnl.messages import ifaddrmsg
from handlers.kernel.rtnl.numbers import (
    IFA_ADDRESS,
    IFA_F_NODAD,
    IFA_LOCAL,
    RTM_DELADDR,
    RTM_GETADDR,
    RTM_NEWADDR,
    family,
)
from handlers.kernel.template import Template
from watcher.model.address import AddressWithPrefix


def address(index: int, value: AddressWithPrefix) -> bytes:
    """Give the interface `index` an address, usable at once; no effect if it has the address."""
    prefix = value.network.prefixlen
    if value.version == 6:
        return _address(6, prefix).filled(index=template.number(index), ip=value.packed)
    broadcast = int(value) | (1 << 32 - prefix) - 1  # the network's takes more time
    return _address(4, prefix).filled(
        index=template.number(index), ip=value.packed, broadcast=broadcast.to_bytes(4)
    )


@cache
def _address(version: int, prefix: int) -> Template:
    message = ifaddrmsg()
    message["family"] = family(version)
    message["prefixlen"] = prefix
    message["index"] = template.NUMBER
    ip = template.IPV4 if version == 4 else template.IPV6
    message["attrs"] = [["IFA_LOCAL", ip], ["IFA_ADDRESS", ip]]
    marks = {"index": template.number(template.NUMBER), "ip": ip_address(ip).packed}
    if version == 4:
        message["attrs"].append(["IFA_BROADCAST", template.OTHER_IPV4])
        marks["broadcast"] = ip_address(template.OTHER_IPV4).packed
    else:
        message["flags"] = IFA_F_NODAD
        message["attrs"].append(["IFA_FLAGS", IFA_F_NODAD])
    return Template(encode(message, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE), **marks)


def no_address(index: int, value: AddressWithPrefix) -> bytes:
    """Remove the address `value` from the interface `index`."""
    message = ifaddrmsg()
    message["family"] = family(value.version)
    message["prefixlen"] = value.network.prefixlen
    message["index"] = index
    message["attrs"] = [["IFA_LOCAL", str(value.ip)]]
    return encode(message, RTM_DELADDR)


def addresses(index: int) -> bytes:
    """Ask for the addresses of both families of the interface `index`, or of all if it is 0."""
    return _addresses().filled(index=template.number(index))


@cache
def _addresses() -> Template:
    message = ifaddrmsg()
    message["index"] = template.NUMBER
    index = template.number(template.NUMBER)
    return Template(encode(message, RTM_GETADDR, NLM_F_DUMP), index=index)


def read_addresses(bodies: Iterable[memoryview]) -> list[AddressWithPrefix]:
    """The addresses in `bodies`, RTM_NEWADDR messages."""
    return [ip_interface(packed) for packed in read_packed(bodies)]


def read_packed(bodies: Iterable[memoryview]) -> list[tuple[bytes, int]]:
    """Like :func:`read_addresses`, but packed, with the prefix lengths: parsing takes long."""
    found: list[tuple[bytes, int]] = []
    for body in bodies:
        values = chosen(body, 8, (IFA_LOCAL, IFA_ADDRESS))
        packed = values.get(IFA_LOCAL) or values.get(IFA_ADDRESS)
        if packed is not None:
            found.append((bytes(packed), body[1]))
    return found
