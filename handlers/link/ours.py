"""Host ends: recognises our links on the host, and the namespace that each leads into.

A process with CAP_NET_ADMIN in a sandbox can set the name, number, group and alias of the links
there, so they prove nothing. Only this program writes to the host end, and the kernel says where
that leads: the index of its peer, and the number of the peer's namespace (IFLA_LINK and
IFLA_LINK_NETNSID, `rtnl_fill_link_netnsid` in `net/core/rtnetlink.c`).
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator

from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink, NetlinkError
from watcher.model.alias import ALIAS, alias_of
from watcher.model.naming import HOST_NAME, shaper_of


def sandbox_id(link: rtnl.Link) -> str:
    """The id in the alias of `link`; a very long one is shortened."""
    return link.alias.removeprefix(ALIAS)


def is_host_end(link: rtnl.Link) -> bool:
    """Whether `link`, a link of the host, is the host end of a pair of this program."""
    return link.ours and HOST_NAME.fullmatch(link.name) is not None


def is_of(link: rtnl.Link, id_: str) -> bool:
    """Whether `link` is a host end of the sandbox `id_`, or was left half made.

    The pid in the name proves less: a sandbox may outlive its first process, and another process
    may get that pid.
    """
    return link.ours and link.alias in ("", alias_of(id_))


def is_renamed(link: rtnl.Link) -> bool:
    """Whether `link`, a link of the host, is the host end of a pair and has lost its name."""
    return (
        link.ours
        and link.kind == "veth"
        and link.alias.startswith(ALIAS)
        and link.peer_netns >= 0
        and HOST_NAME.fullmatch(link.name) is None
    )


def behind(netlink: Netlink, end: rtnl.Link, number: int, id_: str) -> rtnl.Link | None:
    """The host end of the sandbox `id_` that leads to `end`, whatever its name.

    `end` is in the namespace `number`. What it says of its other end is a claim until the kernel
    says the same of the host's link.
    """
    body = netlink.get(rtnl.link_at(end.peer)) if end.peer else None
    link = None if body is None else rtnl.read_link(body)
    if link is None or not link.ours or link.kind != "veth" or link.alias != alias_of(id_):
        return None
    return link if leads_to(link, number, end.index) else None


def host_ends(netlink: Netlink) -> Iterator[rtnl.Link]:
    """Every host end; `netlink` is a socket of the host."""
    return filter(is_host_end, map(rtnl.read_link, netlink.dump(rtnl.links("veth"))))


def find(netlink: Netlink, name: str) -> rtnl.Link | None:
    """The host's link `name`, ours or not."""
    body = netlink.get(rtnl.link(name))
    return None if body is None else rtnl.read_link(body)


def host_end_and_shaper(netlink: Netlink, name: str) -> list[rtnl.Link]:
    """The link `name` of the host and the device that shapes what comes from it, as far as there.

    They are ours or not. Both are asked for at once.
    """
    bodies = netlink.answers([rtnl.link(name), rtnl.link(shaper_of(name))])
    return [rtnl.read_link(body) for body in bodies if body is not None]


def named(netlink: Netlink, names: Iterable[str]) -> Iterator[rtnl.Link]:
    """The host ends among the links `names`."""
    found = (find(netlink, name) for name in names)
    return (link for link in found if link is not None and is_host_end(link))


def ordinal_in(link: rtnl.Link) -> int:
    """The number in the name of a host end, which is the ordinal of its interface."""
    return int(link.name.removeprefix("netnsv").partition("-")[0])


def pid_in(link: rtnl.Link) -> int:
    """The pid in the name of a host end: that of the init that the sandbox was made for."""
    return int(link.name.partition("-")[2])


def number_of(netlink: Netlink, descriptor: int) -> int:
    """The host's number for the namespace of `descriptor`.

    It is -1 if no link of the host has ever led into it, or if it is no network namespace.
    """
    try:
        body = netlink.get(rtnl.netns(descriptor))
    except NetlinkError as error:
        if error.errno != errno.EINVAL:
            raise
        return -1
    return -1 if body is None else rtnl.read_netns(body)


def leads_to(link: rtnl.Link, number: int, index: int) -> bool:
    """Whether `link` of the host leads to the interface `index` of the namespace `number`."""
    return number >= 0 and link.peer_netns == number and link.peer == index
