"""Whether anybody has changed rules of ip-rule(8), told by the kernel without a list of them."""

from __future__ import annotations

import errno
import socket
from typing import Final

_GROUPS: Final = 1 << 7 | 1 << 18
"""RTNLGRP_IPV4_RULE and RTNLGRP_IPV6_RULE (`include/uapi/linux/rtnetlink.h`)."""


class RuleChanges:
    """Hears of each change in the namespace of the thread that makes it.

    The kernel tells of a change before it answers the request for it. What is not read is dropped,
    which counts as a change.
    """

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind)
        self._socket.bind((0, _GROUPS))

    def any(self) -> bool:
        """Whether there was one since the last call."""
        found = False
        while True:
            try:
                self._socket.recv(1)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
            found = True
