"""Puts token buckets on a sandbox's link, compares them, and takes them off.

What the sandbox receives waits in a bucket on the host end. What it sends is redirected, as it
enters by the host end, to a device of its own (`ifb`), waits in a bucket there, and comes back to
where it was. The redirection is the last of the link's filters, as no filter sees a frame behind
it: the guard, which is the first, and those of other programs see it before.

The buckets go with their links. While its device is missing, a link drops what it would redirect.
"""

from __future__ import annotations

import errno
from typing import Final, NoReturn

from handlers.bandwidth.rates import Rates, bucket_for
from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink, NetlinkError
from handlers.kernel.rtnl import shaping, traffic_control
from handlers.kernel.rtnl.shaping import Bucket
from handlers.kernel.rtnl.traffic_control import ALL_PROTOCOLS, EVERY, Filter
from handlers.renaming import rename
from watcher.model.alias import alias_of
from watcher.model.errors import SHAPER_REMEDY
from watcher.model.naming import SHAPER_NAME, shaper_of

PRIORITY: Final = 0xFFFF
"""The last of all."""

_HANDLE: Final = 1


class NoShaper(OSError):
    """The kernel cannot hold a link to a rate."""

    remedy = SHAPER_REMEDY


class ShaperTaken(OSError):
    """A device that is not ours has the name of one that is needed."""


def put(netlink: Netlink, host_name: str, rates: Rates, id_: str) -> None:
    """Hold the new host end `host_name` of the sandbox `id_` to `rates`.

    It costs least while that is down.

    Raises:
        NoShaper: the kernel lacks what it takes.
        ShaperTaken: a device that is not ours is in the way.
        OSError: the kernel refused for another reason.
    """
    link = _link(netlink, host_name)
    if rates.receive is not None:
        _hold(netlink, link.index, bucket_for(rates.receive, link.mtu))
    if rates.send is not None:
        shaper = _made(netlink, shaper_of(host_name))
        _redirect(netlink, link.index, shaper, bucket_for(rates.send, link.mtu), id_)


def put_back(netlink: Netlink, host_name: str, rates: Rates, id_: str) -> None:
    """Like :func:`put`, for a host end in any state; what is not needed is taken off."""
    link = _link(netlink, host_name)
    filter_ = _filter(netlink, link.index)
    shaper = _found(netlink, shaper_of(host_name), filter_, id_)
    if rates.receive is not None:
        _hold(netlink, link.index, bucket_for(rates.receive, link.mtu))
    elif _bucket(netlink, link.index) is not None:
        netlink.send([shaping.no_qdisc(link.index)])
    if filter_ is not None and (rates.send is None) == _is_redirect(filter_):
        netlink.send([traffic_control.no_filter(link.index, filter_)])
    if rates.send is not None:
        shaper = shaper or _made(netlink, shaper_of(host_name))
        _redirect(netlink, link.index, shaper, bucket_for(rates.send, link.mtu), id_)
    elif shaper:
        netlink.send([rtnl.gone(shaper)])


def wrong(netlink: Netlink, link: rtnl.Link, rates: Rates, id_: str) -> str:
    """What is wrong with how the host end `link` of the sandbox `id_` is held to `rates`."""
    name = shaper_of(link.name)
    asked = [shaping.qdisc_of(link.index), rtnl.link(name)]
    qdisc, body = netlink.answers(asked)
    found = None if qdisc is None else shaping.read_bucket(qdisc)
    shaper = None if body is None else rtnl.read_link(body)
    filter_ = _filter(netlink, link.index)
    return _wrong_bucket(found, rates.receive, link.mtu, "receives") or _wrong_way(
        netlink, link, shaper, filter_, rates.send, id_
    )


def is_shaper(link: rtnl.Link) -> bool:
    """Whether `link`, a link of the host, is such a device of this program."""
    return link.ours and link.kind == "ifb"


def is_of(link: rtnl.Link, id_: str) -> bool:
    """Whether `link` is such a device of the sandbox `id_`, or was left half made."""
    return (
        is_shaper(link)
        and link.alias in ("", alias_of(id_))
        and SHAPER_NAME.fullmatch(link.name) is not None
    )


def is_last(found: Filter) -> bool:
    """Whether the filter `found` of a link has the place of a redirection to such a device."""
    return (found.priority, found.handle, found.chain, found.kind) == (PRIORITY, _HANDLE, 0, "bpf")


def _wrong_bucket(found: Bucket | None, bits: int | None, mtu: int, does: str) -> str:
    if bits is None:
        return "" if found is None else f"what it {does} was limited"
    if found is None:
        return f"what it {does} was not limited"
    return "" if found.like(bucket_for(bits, mtu)) else f"what it {does} had another limit"


def _wrong_way(
    netlink: Netlink,
    link: rtnl.Link,
    shaper: rtnl.Link | None,
    filter_: Filter | None,
    bits: int | None,
    id_: str,
) -> str:
    redirected = filter_ is not None and _is_redirect(filter_)
    if bits is None:
        there = redirected or (shaper is not None and is_of(shaper, id_))
        return "what it sends was limited" if there else ""
    if shaper is None or not is_of(shaper, id_):
        return "what it sends was not limited: its device was missing"
    if not shaper.up:
        return "what it sends was dropped: its device was down"
    if filter_ is None or not redirected or filter_.target != shaper.index:
        return "what it sends was not limited"
    return _wrong_bucket(_bucket(netlink, shaper.index), bits, link.mtu, "sends")


def _redirect(netlink: Netlink, index: int, shaper: int, bucket: Bucket, id_: str) -> None:
    """Have the device `shaper` send what enters by the link `index`, at the rate of `bucket`."""
    _hold(netlink, shaper, bucket)
    redirect = traffic_control.redirect(index, PRIORITY, _HANDLE, shaper)
    netlink.send([shaping.shaper_up(shaper, alias_of(id_))])
    try:
        netlink.send([traffic_control.ingress(index)])
    except NetlinkError as error:
        if error.errno != errno.EINVAL:  # the qdisc `clsact` is in the place of `ingress`
            _raise(error, "sch_ingress")
    try:
        netlink.send([redirect])
    except NetlinkError as error:
        _raise(error, "cls_bpf or act_mirred")


def _hold(netlink: Netlink, index: int, bucket: Bucket) -> None:
    """Give the link `index` that bucket, whatever it has."""
    request = shaping.bucket(index, bucket)
    try:
        netlink.send([request])
    except NetlinkError as error:
        if error.errno != errno.EINVAL:
            _raise(error, "sch_tbf")
        netlink.send([shaping.no_qdisc(index), request])  # one of another kind had its handle


def _made(netlink: Netlink, name: str) -> int:
    """The index of the device of that name, which is made if it is missing."""
    try:
        netlink.send([shaping.shaper(name)])
    except NetlinkError as error:
        if error.errno != errno.EEXIST:
            _raise(error, "ifb")
        return _own(_link(netlink, name), name).index
    return netlink.index(name)


def _found(netlink: Netlink, name: str, filter_: Filter | None, id_: str) -> int:
    """The index of the device of that name; 0 without one.

    One that somebody has renamed, to which the link still redirects, gets its name back.
    """
    body = netlink.get(rtnl.link(name))
    found = None if body is None else _own(rtnl.read_link(body), name)
    if found is not None and found.name == name:
        return found.index
    body = netlink.get(rtnl.link_at(filter_.target)) if filter_ and filter_.target else None
    renamed = None if body is None else rtnl.read_link(body)
    if renamed is None or not is_shaper(renamed) or renamed.alias != alias_of(id_):
        return 0
    rename(netlink, renamed, name)
    return renamed.index


def _own(link: rtnl.Link, name: str) -> rtnl.Link:
    if not is_shaper(link):
        raise ShaperTaken(errno.EEXIST, f"a link {name} that is not ours is in the way")
    return link


def _link(netlink: Netlink, name: str) -> rtnl.Link:
    body = netlink.get(rtnl.link(name))
    if body is None:
        raise OSError(errno.ENODEV, f"link {name} is missing")
    return rtnl.read_link(body)


def _bucket(netlink: Netlink, index: int) -> Bucket | None:
    (body,) = netlink.answers([shaping.qdisc_of(index)])
    return None if body is None else shaping.read_bucket(body)


def _filter(netlink: Netlink, index: int) -> Filter | None:
    """The filter in the place of the redirection of the link `index`."""
    found = traffic_control.read_filters(netlink.dump(traffic_control.filters(index)))
    return next(filter(is_last, found), None)


def _is_redirect(found: Filter) -> bool:
    return found.target != 0 and found.program == EVERY and found.protocol == ALL_PROTOCOLS


_LACKING: Final = (errno.ENOENT, errno.EOPNOTSUPP)
"""How the kernel says that it has no such qdisc, device, filter or action."""


def _raise(error: NetlinkError, part: str) -> NoReturn:
    if error.errno in _LACKING:
        raise NoShaper(
            errno.ENOPKG,
            f"the kernel cannot hold a link to a rate for want of {part}: {error.strerror}",
        ) from error
    raise error
