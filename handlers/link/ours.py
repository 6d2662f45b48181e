"""Host ends: which links of the host are ours, and into which namespace the kernel says they lead.

Inside a sandbox anybody with CAP_NET_ADMIN sets a link's name, number, group and alias, so nothing
there proves anything. What the host's end says is ours to write, and where it leads is the kernel's
to tell: the number of its peer, and the namespace that has it (IFLA_LINK and IFLA_LINK_NETNSID,
`rtnl_fill_link_netnsid` in `net/core/rtnetlink.c`).
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator

from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink, NetlinkError
from watcher.model.alias import ALIAS, alias_of
from watcher.model.naming import HOST_NAME


def sandbox_id(link: rtnl.Link) -> str:
    """The id in the alias of `link`, cut off if it is a very long one."""
    return link.alias.removeprefix(ALIAS)


def is_host_end(link: rtnl.Link) -> bool:
    """Whether `link`, one of the host's, is the host end of a pair that this program made."""
    return link.ours and HOST_NAME.fullmatch(link.name) is not None


def is_of(link: rtnl.Link, id_: str) -> bool:
    """Whether `link` is a host end of the sandbox `id_`, or one whose making was cut off.

    The pid in the name says less: a sandbox may outlive the process that it was made for, and its
    number be given to another.
    """
    return link.ours and link.alias in ("", alias_of(id_))


def host_ends(netlink: Netlink) -> Iterator[rtnl.Link]:
    """Every host end, seen by a socket of the host."""
    return filter(is_host_end, map(rtnl.read_link, netlink.dump(rtnl.links("veth"))))


def find(netlink: Netlink, name: str) -> rtnl.Link | None:
    """The host's link `name`, whoever made it; `None` if there is none."""
    body = netlink.get(rtnl.link(name))
    return None if body is None else rtnl.read_link(body)


def named(netlink: Netlink, names: Iterable[str]) -> Iterator[rtnl.Link]:
    """The host ends among the links `names`."""
    found = (find(netlink, name) for name in names)
    return (link for link in found if link is not None and is_host_end(link))


def ordinal_in(link: rtnl.Link) -> int:
    """The number in the name of a host end: that of its sandbox's interface."""
    return int(link.name.removeprefix("netnsv").partition("-")[0])


def pid_in(link: rtnl.Link) -> int:
    """The pid in the name of a host end: that of the init which the sandbox was made for."""
    return int(link.name.partition("-")[2])


def number_of(netlink: Netlink, descriptor: int) -> int:
    """The host's number for the namespace that `descriptor` is of.

    It is -1 where no link of the host has ever led into it, or if it is no network namespace.
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
