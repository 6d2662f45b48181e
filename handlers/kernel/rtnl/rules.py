"""Requests about the rules that choose a routing table, and a reader of the answers.

Sources: ip-rule(8), `include/uapi/linux/fib_rules.h`, `net/core/fib_rules.c`.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Final

from msgspec import Struct

from handlers.kernel.messages import NLM_F_CREATE, NLM_F_DUMP, attributes, encode
from handlers.kernel.rtnl.messages import fibmsg
from handlers.kernel.rtnl.numbers import RTM_DELRULE, RTM_GETRULE, RTM_NEWRULE, family
from watcher.model.address import Subnet

TO_TABLE, GOTO, NOP, BLACKHOLE = 1, 2, 3, 6
"""Actions (FR_ACT_…)."""


class Rule(Struct, frozen=True):
    """A rule.

    Attributes:
        version: the IP version.
        priority: rules of a lower one come first; of the same one, those that were made first.
        action: what becomes of a packet that matches.
        table: the table of :data:`TO_TABLE`.
        target: the priority at which :data:`GOTO` goes on.
        iif: the interface that packets come from; `lo` for those of the host itself.
        source: where they come from.
        to: where they go.
        unmarked: bits of the packet mark of which none may be set.
        protocol: who made the rule (RTPROT_…).
        plain: whether it has nothing that is not said here.
    """

    version: int
    priority: int
    action: int
    table: int = 0
    target: int = 0
    iif: str = ""
    source: Subnet | None = None
    to: Subnet | None = None
    unmarked: int = 0
    protocol: int = 0
    plain: bool = True


def rule(wanted: Rule) -> bytes:
    """Make a rule, behind all of the same priority, even if there is one like it."""
    return encode(_message(wanted), RTM_NEWRULE, NLM_F_CREATE)


def no_rule(gone: Rule) -> bytes:
    """Remove the first of the rules like `gone`."""
    return encode(_message(gone), RTM_DELRULE)


def rules(version: int) -> bytes:
    """Ask for all rules of an IP version, in the order in which the kernel asks them."""
    message = fibmsg()
    message["family"] = family(version)
    return encode(message, RTM_GETRULE, NLM_F_DUMP)


def read_rules(bodies: Iterable[memoryview]) -> list[Rule]:
    """The rules in `bodies`, RTM_NEWRULE messages."""
    return list(map(read_rule, bodies))


def read_rule(body: memoryview) -> Rule:
    """The rule in `body`, an RTM_NEWRULE or RTM_DELRULE message."""
    its = {kind: bytes(value) for kind, value in attributes(body, _HEADER_SIZE)}
    source, to = its.get(_FRA_SRC), its.get(_FRA_DST)
    return Rule(
        version=4 if body[0] == socket.AF_INET else 6,
        priority=_number(its, _FRA_PRIORITY),
        action=body[_ACTION],
        table=_number(its, _FRA_TABLE) if body[_ACTION] == TO_TABLE else 0,
        target=_number(its, _FRA_GOTO),
        iif=its.get(_FRA_IIFNAME, b"").rstrip(b"\0").decode(errors="replace"),
        source=None if source is None else _network(source, body[_SOURCE_LENGTH]),
        to=None if to is None else _network(to, body[_TO_LENGTH]),
        unmarked=0 if _number(its, _FRA_FWMARK) else _number(its, _FRA_FWMASK),
        protocol=_number(its, _FRA_PROTOCOL),
        plain=not _number(its, _FRA_FWMARK)
        and not body[_FLAGS] & _FIB_RULE_INVERT
        and not body[_TOS]
        and its.get(_FRA_SUPPRESS_PREFIXLEN, _NONE) == _NONE
        and its.keys() <= _READ,
    )


def _network(address: bytes, length: int) -> Subnet:
    """A rule's prefix. The kernel keeps the bits behind it, and does not compare them."""
    return ip_network((address, length), strict=False)


_TO_LENGTH, _SOURCE_LENGTH, _TOS, _ACTION, _FLAGS = 1, 2, 3, 7, 8
"""Offsets in `struct fib_rule_hdr`; the last one is that of the flags' lowest byte."""

_HEADER_SIZE: Final = 12
_FIB_RULE_INVERT: Final = 2
_FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_GOTO, _FRA_PRIORITY, _FRA_FWMARK = 1, 2, 3, 4, 6, 10
_FRA_SUPPRESS_PREFIXLEN, _FRA_TABLE, _FRA_FWMASK, _FRA_PROTOCOL = 14, 15, 16, 21
_READ: Final = {
    _FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_GOTO, _FRA_PRIORITY, _FRA_FWMARK,
    _FRA_SUPPRESS_PREFIXLEN, _FRA_TABLE, _FRA_FWMASK, _FRA_PROTOCOL,
}  # fmt: skip

_NONE: Final = b"\xff" * 4
"""The suppressed prefix length of a rule without one, which is listed as well."""


def _message(one: Rule) -> fibmsg:
    message = fibmsg()
    message["family"], message["action"] = family(one.version), one.action
    message["table"] = one.table
    message["attrs"] = [["FRA_PRIORITY", one.priority], ["FRA_PROTOCOL", one.protocol]]
    if one.target:
        message["attrs"].append(["FRA_GOTO", one.target])
    if one.iif:
        message["attrs"].append(["FRA_IIFNAME", one.iif])
    if one.source is not None:
        message["src_len"] = one.source.prefixlen
        message["attrs"].append(["FRA_SRC", str(one.source.network_address)])
    if one.to is not None:
        message["dst_len"] = one.to.prefixlen
        message["attrs"].append(["FRA_DST", str(one.to.network_address)])
    if one.unmarked:
        message["attrs"] += [["FRA_FWMARK", 0], ["FRA_FWMASK", one.unmarked]]
    return message


def _number(its: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(its.get(kind, b""), "little")
