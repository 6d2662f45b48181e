"""Puts the guard on a link, compares it, and takes it off.

The program is the first of the link's filters, and the only one of its priority: of two, the kernel
asks the newer one first. Filters of other priorities stay as they are.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

from handlers.bandwidth import shapers
from handlers.guard.program import Facts, addresses_in, program
from handlers.kernel.netlink import Netlink, NetlinkError
from handlers.kernel.rtnl import traffic_control
from handlers.kernel.rtnl.traffic_control import ALL_PROTOCOLS, Filter
from watcher.model.address import Address

PRIORITY: Final = 1
"""The first of all: a filter with a lower number cannot be made."""

_HANDLE: Final = 1


class NoGuard(OSError):
    """The kernel cannot run a program on a link."""


def put(netlink: Netlink, index: int, facts: Facts) -> None:
    """Hold the link `index` to `facts` from now on; no frame passes in between.

    Raises:
        NoGuard: the kernel lacks what the guard needs.
        OSError: it refused for another reason, or the guard's program is too long.
    """
    text = program(facts)
    if len(text) > MAX_PROGRAM:
        raise OSError(
            errno.E2BIG, "its network has more static routes by it than the guard can tell apart"
        )
    code = traffic_control.program(index, PRIORITY, _HANDLE, text)
    try:
        netlink.send([traffic_control.ingress(index), code])
    except NetlinkError as error:
        if error.errno == errno.EINVAL and error.index == 0:
            netlink.send([code])  # the qdisc `clsact` is in the place of `ingress`
            return
        if error.errno in _LACKING:
            raise NoGuard(
                errno.ENOPKG, f"the kernel cannot guard a link: {error.strerror}"
            ) from error
        raise


def prepare(netlink: Netlink, index: int) -> None:
    """Do the part of :func:`put` after which the kernel has to wait; it need not have been done.

    A link takes its first filter only after a grace period of RCU (`mini_qdisc_pair_swap` in
    `net/sched/sch_generic.c`). If many links are prepared before, one such period serves all.

    Raises:
        NetlinkError: the kernel refused.
    """
    netlink.send([traffic_control.ingress(index)])


MAX_PROGRAM: Final = 4096 * 8
"""Bytes of the longest program of the kernel's (BPF_MAXINSNS)."""

_LACKING: Final = (errno.ENOENT, errno.EOPNOTSUPP)
"""How the kernel says that it knows no such qdisc or filter, or no traffic control at all."""


def put_back(netlink: Netlink, index: int, facts: Facts) -> None:
    """Like :func:`put`, for a link that may have any filters. Those of its priority are removed."""
    while before := list(filter(may_be_first, of_others(netlink, index))):
        netlink.send([traffic_control.no_filter(index, before[0])])  # may remove the others as well
    put(netlink, index, facts)


def take_off(netlink: Netlink, index: int) -> None:
    """Take the guard off the link `index`, if it has one; filters of others stay."""
    found = list(_filters(netlink, index))
    guard = next(filter(_is_guard, found), None)
    if guard is None:
        return
    if len(found) == 1:
        try:
            netlink.send([traffic_control.no_ingress(index)])
        except NetlinkError as error:
            if error.errno != errno.EINVAL:  # not `ingress`, but another program's qdisc
                raise
        else:
            return
    netlink.send([traffic_control.no_filter(index, guard)])


def wrong(netlink: Netlink, index: int, facts: Facts | None) -> str:
    """What is wrong with the guard of the link `index`; empty if nothing is."""
    found = list(_filters(netlink, index))
    guard = next(filter(_is_guard, found), None)
    if facts is None:
        return "" if guard is None else "the link was guarded"
    if guard is None:
        return "the link was not guarded"
    if not guard.direct or guard.program != program(facts):
        return "the link had another guard"
    before = any(map(may_be_first, (one for one in found if one is not guard)))
    return "the guard was not the only filter of its priority" if before else ""


def addresses(netlink: Netlink, index: int) -> tuple[Address, ...] | None:
    """The addresses that its guard allows the link `index`; `None` if it has none."""
    found = _guard(netlink, index)
    return None if found is None else addresses_in(found.program)


def is_guarded(netlink: Netlink, name: str) -> bool:
    """Whether the link `name` has a guard, whatever it allows."""
    index = netlink.index(name)
    return bool(index) and _guard(netlink, index) is not None


def may_be_first(other: Filter) -> bool:
    """Whether another program's filter may be asked before the guard."""
    return other.priority == PRIORITY and other.chain == 0


def of_others(netlink: Netlink, index: int) -> list[Filter]:
    """The filters of other programs at the ingress of the link `index`."""
    found = _filters(netlink, index)
    return [one for one in found if not (_is_guard(one) or shapers.is_last(one))]


def _guard(netlink: Netlink, index: int) -> Filter | None:
    return next(filter(_is_guard, _filters(netlink, index)), None)


def _is_guard(found: Filter) -> bool:
    return (found.priority, found.handle, found.chain, found.kind, found.protocol) == (
        PRIORITY, _HANDLE, 0, "bpf", ALL_PROTOCOLS,
    )  # fmt: skip


def _filters(netlink: Netlink, index: int) -> Iterator[Filter]:
    return traffic_control.read_filters(netlink.dump(traffic_control.filters(index)))
