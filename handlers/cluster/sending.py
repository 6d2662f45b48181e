"""Sends many requests about routes and entries."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from itertools import batched
from typing import Final

from handlers.cluster.plan import Delta
from handlers.kernel.netlink import Netlink, NetlinkError
from handlers.kernel.rtnl.block_routes import block_route, no_block_route
from handlers.kernel.rtnl.entries import entry, no_entry

_TOGETHER: Final = 128
"""Requests to send together: if all are refused, the answers fit into the buffer of the socket."""

_GONE: Final = (errno.ENOENT, errno.ESRCH, errno.ENODEV)
"""The answers of the kernel about something that is there no more."""


def carry_out(netlink: Netlink, delta: Delta) -> None:
    """Make `delta` so: first what routes need, and last what they no longer need.

    Raises:
        OSError: the first refusal; all else was done.
    """
    removed = [no_block_route(route) for route in delta.no_routes]
    steps: list[tuple[Iterable[bytes], tuple[int, ...]]] = [
        (map(entry, delta.entries), ()),
        (map(block_route, delta.routes), ()),
        ([*removed, *map(no_entry, delta.no_entries)], _GONE),
    ]
    refused: OSError | None = None
    for requests, done in steps:
        try:
            send_all(netlink, requests, *done)
        except OSError as error:
            refused = refused or error
    if refused is not None:
        raise refused


def send_all(netlink: Netlink, requests: Iterable[bytes], *done: int) -> None:
    """Send all `requests`, each of which may be repeated; the errors `done` are none.

    Raises:
        NetlinkError: the first refusal; all others were carried out.
    """
    refused: NetlinkError | None = None
    for some in batched(requests, _TOGETHER):
        left = list(some)
        while left:
            try:
                netlink.send(left)
            except NetlinkError as error:
                if error.errno not in done:
                    refused = refused or error
                del left[: error.index + 1]  # those behind it may have been refused as well
            else:
                break
    if refused is not None:
        raise refused
