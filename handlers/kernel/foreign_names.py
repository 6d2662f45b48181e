"""Interfaces by names that others have chosen, as those inside of containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers.kernel import rtnl

if TYPE_CHECKING:
    from handlers.kernel.netlink import Netlink


def index_of(netlink: Netlink, name: str) -> int:
    """The index of the interface `name` (15 bytes at the most); 0 if there is none.

    By RTM_GETLINK: if an ioctl(2) such as that of :meth:`Netlink.index` names a missing interface,
    the kernel loads the module of that name for a process with CAP_SYS_MODULE, as a root shell has
    (net/core/dev_ioctl.c, dev_load).
    """
    body = netlink.get(rtnl.link(name))
    return 0 if body is None else rtnl.read_state(body)[0]
