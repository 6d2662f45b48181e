"""Requests about token buckets, the devices that shape what is received, and readers of answers.

pyroute2 encodes a table of rates that no kernel since Linux 3.13 needs, so these messages are
written out here. Sources: tc-tbf(8), `include/uapi/linux/pkt_sched.h`, `net/sched/sch_tbf.c` and
`drivers/net/ifb.c` of the kernel.
"""

from __future__ import annotations

import struct
import sys
from functools import cache
from typing import Final

from msgspec import Struct

from handlers.kernel import template
from handlers.kernel.messages import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    attribute,
    chosen,
    encode,
    request,
)
from handlers.kernel.netlink import IFF_UP
from handlers.kernel.rtnl.messages import ifinfmsg
from handlers.kernel.rtnl.numbers import (
    IFLA_IFALIAS,
    NOTHING,
    OURS,
    RTM_DELQDISC,
    RTM_GETQDISC,
    RTM_NEWLINK,
    RTM_NEWQDISC,
)
from handlers.kernel.rtnl.traffic_control import (
    NLM_F_ECHO,
    TCA_KIND,
    TCA_OPTIONS,
    TCMSG,
    message,
)
from handlers.kernel.template import Template
from watcher.model.alias import MAX_ALIAS

_ROOT: Final = 0xFFFFFFFF
"""TC_H_ROOT"""

_HANDLE: Final = 0x10000
"""The handle `1:` of each bucket. A request with it changes the bucket that is there."""

_KIND: Final = attribute(TCA_KIND, b"tbf\0")
_PARMS, _RATE64, _BURST = 1, 4, 6
_TBF: Final = struct.Struct("=xBHhHI12xIII")
"""`struct tc_tbf_qopt`: of the rate, the link layer, overhead, alignment, least size and bytes a
second; no peak rate; limit, buffer, MTU."""

_ETHERNET: Final = 1
"""TC_LINKLAYER_ETHERNET: the kernel needs no table of rates."""

_MOST: Final = 2**32 - 1
_TICK: Final = 64
"""Nanoseconds (PSCHED_SHIFT in `include/net/pkt_sched.h`)."""


class Bucket(Struct, frozen=True):
    """A token bucket, which holds back what a link sends beyond a rate.

    Attributes:
        rate: bytes a second, with the Ethernet header of each frame.
        burst: bytes that may be sent at once after a rest; more in one piece is dropped.
        limit: bytes that wait at the most; what comes beyond is dropped.
    """

    rate: int
    burst: int
    limit: int

    def like(self, other: Bucket) -> bool:
        """Whether it is `other`, but for the kernel's rounding of the burst."""
        near = abs(self.burst - other.burst) <= other.burst // 64
        return near and (self.rate, self.limit) == (other.rate, other.limit)


def bucket(index: int, wanted: Bucket) -> bytes:
    """Hold the link `index` to the bucket `wanted`; one that is there is changed without a gap.

    EINVAL if another qdisc has its handle.
    """
    options = _TBF.pack(_ETHERNET, 0, 0, 0, min(wanted.rate, _MOST), min(wanted.limit, _MOST), 0, 0)
    attributes = attribute(_PARMS, options) + attribute(_BURST, struct.pack("=I", wanted.burst))
    if wanted.rate > _MOST:
        attributes += attribute(_RATE64, struct.pack("=Q", wanted.rate))
    return message(
        RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, index, _HANDLE, _ROOT, 0,
        _KIND + attribute(TCA_OPTIONS, attributes),
    )  # fmt: skip


def no_qdisc(index: int) -> bytes:
    """Remove the qdisc that somebody has given the link `index`; ENOENT if nobody has."""
    return message(RTM_DELQDISC, 0, index, 0, _ROOT, 0)


def qdisc_of(index: int) -> bytes:
    """Ask for the qdisc of the link `index`; :func:`read_bucket` reads the answer."""
    return message(RTM_GETQDISC, NLM_F_ECHO, index, 0, _ROOT, 0)


def read_bucket(body: memoryview) -> Bucket | None:
    """The bucket in `body`, an RTM_NEWQDISC message; `None` if it is another qdisc."""
    _, _, handle, parent, _ = TCMSG.unpack_from(body)
    values = chosen(body, TCMSG.size, (TCA_KIND, TCA_OPTIONS))
    if (handle, parent) != (_HANDLE, _ROOT) or bytes(values.get(TCA_KIND, b"")) != b"tbf\0":
        return None
    options = chosen(values.get(TCA_OPTIONS, NOTHING), 0, (_PARMS, _RATE64))
    if _PARMS not in options:
        return None
    _, _, _, _, rate, limit, buffer, _ = _TBF.unpack_from(options[_PARMS])
    rate = int.from_bytes(options.get(_RATE64, b""), sys.byteorder) or rate
    return Bucket(rate, buffer * _TICK * rate // 10**9, limit)


def shaper(name: str) -> bytes:
    """Make an `ifb`: a device that hands what it sends back to the link that has received it."""
    return _shaper().filled(name=name.encode())


@cache
def _shaper() -> Template:
    made = ifinfmsg()
    made["attrs"] = [
        ["IFLA_IFNAME", template.NAME],
        ["IFLA_GROUP", OURS],
        ["IFLA_MTU", _WITHOUT_IPV6],
        ["IFLA_NUM_TX_QUEUES", 1],
        ["IFLA_NUM_RX_QUEUES", 1],
        ["IFLA_LINKINFO", {"attrs": [["IFLA_INFO_KIND", _DEVICE]]}],
    ]
    return Template(
        encode(made, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL), name=template.NAME.encode()
    )


_DEVICE: Final = "ifb"
_WITHOUT_IPV6: Final = 1279
"""An MTU with which a device never has IPv6 (`addrconf_notify` in `net/ipv6/addrconf.c`). What is
redirected to a device may be longer than its MTU."""


def shaper_up(index: int, alias: str) -> bytes:
    """Set the device `index` up, and give it an `alias`."""
    text = alias.encode()[:MAX_ALIAS] + b"\0"
    body = _IFINFO.pack(0, 0, index, IFF_UP, IFF_UP) + attribute(IFLA_IFALIAS, text)
    return request(RTM_NEWLINK, body)


_IFINFO: Final = struct.Struct("=BxHiII")
