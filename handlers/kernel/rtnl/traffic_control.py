"""Requests about the programs on the ingress of a link, and the reader of the answers.

pyroute2 knows programs of bpf(2) only, so these messages are written out here. Sources: tc(8),
tc-bpf(8), `include/uapi/linux/pkt_sched.h`, `pkt_cls.h` and `rtnetlink.h`, `net/sched/cls_api.c`
and `net/sched/cls_bpf.c` of the kernel.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from socket import htons
from typing import Final

from msgspec import Struct

from handlers.kernel import template
from handlers.kernel.messages import (
    NLM_F_CREATE,
    NLM_F_DUMP,
    attribute,
    attributes,
    chosen,
    request,
)
from handlers.kernel.rtnl.numbers import (
    RTM_DELQDISC,
    RTM_DELTFILTER,
    RTM_GETQDISC,
    RTM_GETTFILTER,
    RTM_NEWQDISC,
    RTM_NEWTFILTER,
)
from handlers.kernel.template import Template

TCMSG: Final = struct.Struct("=BxxxiIII")
"""`struct tcmsg`: family, interface, handle, parent, info."""

_QDISC: Final = 0xFFFF0000
"""TC_H_INGRESS without its lower half: the handle of the qdisc `ingress`."""

_AT_INGRESS: Final = 0xFFFFFFF1
_FILTERS: Final = 0xFFFFFFF2
"""The parent of a filter at the ingress. The qdisc `clsact`, which another program may have put in
the place of `ingress`, has the same."""

ALL_PROTOCOLS: Final = 3
"""ETH_P_ALL"""

TCA_KIND, TCA_OPTIONS, _TCA_CHAIN = 1, 2, 11
_INGRESS: Final = attribute(TCA_KIND, b"ingress\0")
_OPS_LENGTH, _OPS, _FLAGS = 4, 5, 8
_DIRECT: Final = struct.pack("=I", 1)
"""TCA_BPF_FLAG_ACT_DIRECT: what the program returns is the verdict."""

_INSTRUCTION_SIZE: Final = 8

_ACT: Final = 1
"""TCA_BPF_ACT: what is done with a frame that the program chooses."""

EVERY: Final = struct.pack("=HBBI", 0x06, 0, 0, 0xFFFFFFFF)
"""The program that chooses every frame (BPF_RET)."""

_REDIRECTION: Final = b"mirred\0"
_MIRRED: Final = struct.Struct("=8xi8xiI")
"""`struct tc_mirred`: verdict, what is done, interface."""
_MIRRED_PARMS, _STOLEN, _EGRESS_REDIR = 2, 4, 1

NLM_F_ECHO: Final = 0x8
_TCA_STATS2, _TCA_STATS_QUEUE = 7, 3
_DROPS: Final = slice(8, 12)
"""Where `struct gnet_stats_queue` has the number of dropped frames (`gen_stats.h`)."""


class Filter(Struct, frozen=True):
    """A filter at the ingress of a link.

    Attributes:
        priority: the lowest one is asked first.
        handle: its number among those of its priority.
        kind: what it is, for example `bpf` or `u32`.
        protocol: the ethertype of the frames that it is asked about, or :data:`ALL_PROTOCOLS`.
        program: its program of classic BPF; empty if it has none.
        direct: whether what its program returns is the verdict.
        chain: the number of its chain; only chain 0 is asked for every frame.
        target: the interface that it redirects to; 0 if it is none of :func:`redirect`.
    """

    priority: int
    handle: int
    kind: str
    protocol: int
    program: bytes
    direct: bool
    chain: int
    target: int = 0


def ingress(index: int) -> bytes:
    """Let the link `index` have filters at its ingress; no effect if it can."""
    return message(RTM_NEWQDISC, NLM_F_CREATE, index, _QDISC, _AT_INGRESS, 0, _INGRESS)


def no_ingress(index: int) -> bytes:
    """Undo :func:`ingress`; EINVAL if another qdisc is in that place."""
    return message(RTM_DELQDISC, 0, index, _QDISC, _AT_INGRESS, 0, _INGRESS)


def program(index: int, priority: int, handle: int, code: bytes) -> bytes:
    """Run `code` (classic BPF) on each frame that enters by the link `index`.

    What it returns is the verdict. It takes the place of one of that priority and handle.
    """
    layout = _program(priority, handle, len(code))
    return layout.filled(index=template.number(index), code=code)


@lru_cache(256)
def _program(priority: int, handle: int, size: int) -> Template:
    code = b"\x03" * size
    options = (
        attribute(_OPS_LENGTH, struct.pack("=H", size // _INSTRUCTION_SIZE))
        + attribute(_OPS, code)
        + attribute(_FLAGS, _DIRECT)
    )
    filter_ = message(
        RTM_NEWTFILTER, NLM_F_CREATE, template.NUMBER, handle, _FILTERS, _info(priority),
        attribute(TCA_KIND, b"bpf\0") + attribute(TCA_OPTIONS, options),
    )  # fmt: skip
    return Template(filter_, index=template.number(template.NUMBER), code=code)


def redirect(index: int, priority: int, handle: int, target: int) -> bytes:
    """Have the interface `target` send each frame that enters by the link `index`.

    It takes the place of one of that priority and handle.
    """
    parms = _MIRRED.pack(_STOLEN, _EGRESS_REDIR, target)
    action = attribute(TCA_KIND, _REDIRECTION) + attribute(
        TCA_OPTIONS, attribute(_MIRRED_PARMS, parms)
    )
    options = (
        attribute(_ACT, attribute(1, action))
        + attribute(_OPS_LENGTH, struct.pack("=H", len(EVERY) // _INSTRUCTION_SIZE))
        + attribute(_OPS, EVERY)
    )
    return message(
        RTM_NEWTFILTER, NLM_F_CREATE, index, handle, _FILTERS, _info(priority),
        attribute(TCA_KIND, b"bpf\0") + attribute(TCA_OPTIONS, options),
    )  # fmt: skip


def no_filter(index: int, found: Filter) -> bytes:
    """Remove a filter of chain 0; of a kind that is not `bpf`, all of that priority."""
    handle = found.handle if found.kind == "bpf" else 0
    kind = found.kind.encode() + b"\0" if handle else b""
    return message(
        RTM_DELTFILTER, 0, index, handle, _FILTERS, found.priority << 16 | htons(found.protocol),
        attribute(TCA_KIND, kind) if kind else b"",
    )  # fmt: skip


def filters(index: int) -> bytes:
    """Ask for all filters at the ingress of the link `index`."""
    return message(RTM_GETTFILTER, NLM_F_DUMP, index, 0, _FILTERS, 0)


def read_filter(body: memoryview) -> Filter | None:
    """The filter in `body`, an RTM_NEWTFILTER message; `None` if it only begins a priority."""
    _, _, handle, _, info = TCMSG.unpack_from(body)
    if not handle:
        return None
    values = chosen(body, TCMSG.size, (TCA_KIND, TCA_OPTIONS, _TCA_CHAIN))
    kind = bytes(values.get(TCA_KIND, b"")).rstrip(b"\0").decode(errors="replace")
    options = {}
    if kind == "bpf":
        options = chosen(values.get(TCA_OPTIONS, memoryview(b"")), 0, (_ACT, _OPS, _FLAGS))
    return Filter(
        priority=info >> 16,
        handle=handle,
        kind=kind,
        protocol=htons(info & 0xFFFF),
        program=bytes(options.get(_OPS, b"")),
        direct=bytes(options.get(_FLAGS, b"")) == _DIRECT,
        chain=int.from_bytes(values.get(_TCA_CHAIN, b""), "little"),
        target=_target(options[_ACT]) if _ACT in options else 0,
    )


def _target(actions: memoryview) -> int:
    """The interface that the only one of `actions` redirects to; 0 if they do anything else."""
    found = [body for _, body in attributes(actions, 0)]
    values = chosen(found[0], 0, (TCA_KIND, TCA_OPTIONS)) if len(found) == 1 else {}
    if bytes(values.get(TCA_KIND, b"")) != _REDIRECTION:
        return 0
    parms = chosen(values.get(TCA_OPTIONS, memoryview(b"")), 0, (_MIRRED_PARMS,))
    verdict, does, target = _MIRRED.unpack_from(parms[_MIRRED_PARMS])
    return int(target) if (verdict, does) == (_STOLEN, _EGRESS_REDIR) else 0


def read_filters(bodies: Iterable[memoryview]) -> Iterator[Filter]:
    """The filters in `bodies`, RTM_NEWTFILTER messages."""
    return (one for one in map(read_filter, bodies) if one is not None)


def ingress_of(index: int) -> bytes:
    """Ask for the qdisc at the ingress of the link `index`; :func:`read_drops` reads the answer.

    Before Linux 6.7 the kernel answers only who asks for an echo (`tc_get_qdisc`).
    """
    return message(RTM_GETQDISC, NLM_F_ECHO, index, 0, _AT_INGRESS, 0)


def read_drops(body: memoryview) -> int:
    """The frames that a qdisc's filters have dropped; `body` is an RTM_NEWQDISC message."""
    stats = chosen(body, TCMSG.size, (_TCA_STATS2,)).get(_TCA_STATS2, memoryview(b""))
    queue = chosen(stats, 0, (_TCA_STATS_QUEUE,)).get(_TCA_STATS_QUEUE, b"")
    return int.from_bytes(queue[_DROPS], sys.byteorder)


def read_link_index(body: memoryview) -> int:
    """The interface that `body` is about, a message about a qdisc, a filter or a chain."""
    index: int = TCMSG.unpack_from(body)[1]
    return index


def _info(priority: int) -> int:
    return priority << 16 | htons(ALL_PROTOCOLS)


def message(
    kind: int, flags: int, index: int, handle: int, parent: int, info: int, rest: bytes = b""
) -> bytes:
    """A request about traffic control: its `struct tcmsg`, and `rest`, its attributes."""
    body = TCMSG.pack(0, index, handle, parent, info) + rest
    return request(kind, body, flags)
