"""Gives a link of this program its name back, after somebody has renamed it.

Source: `dev_change_name` in `net/core/dev.c`. Since Linux 6.2 a link may be up meanwhile.
"""

from __future__ import annotations

import errno

from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink, NetlinkError


class NameTaken(OSError):
    """Another program's link has the name that a renamed link of this program had."""


def rename(netlink: Netlink, link: rtnl.Link, name: str) -> None:
    """Name `link`, which is ours, `name` again; it keeps its index, its ports and its filters.

    If another link of ours has that name, as after an exchange of names, that one gets another
    name first, and its own when its turn comes.

    Raises:
        NameTaken: a link of another program has the name.
        OSError: the kernel refused.
    """
    body = netlink.get(rtnl.link(name))
    holder = None if body is None else rtnl.read_link(body)
    if holder is not None and holder.index == link.index:
        netlink.send([rtnl.no_other_name(link.index, name)])  # it has the name beside its own
    elif holder is not None:
        if not holder.ours or holder.name != name:
            raise NameTaken(
                errno.EEXIST,
                f"link {link.name} was renamed, and the name {name} is now that of another link"
                f" ({holder.name}, number {holder.index}); rename or delete that one",
            )
        _rename(netlink, holder.index, f"netnsr{holder.index}")
    _rename(netlink, link.index, name)


def _rename(netlink: Netlink, index: int, name: str) -> None:
    try:
        netlink.send([rtnl.renamed(index, name)])
    except NetlinkError as error:
        if error.errno != errno.EBUSY:
            raise
        netlink.send([rtnl.down(index), rtnl.renamed(index, name), rtnl.up(name)])
