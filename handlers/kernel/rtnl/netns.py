"""Asks for the number of a network namespace in this one. Source: `net/core/net_namespace.c`.

The kernel numbers the namespaces that a namespace is connected to, for example by a veth pair. A
sandbox cannot change the host's numbers.
"""

from __future__ import annotations

import struct
from typing import Final

from handlers.kernel.messages import attribute, chosen, request
from handlers.kernel.rtnl.numbers import NETNSA_FD, NETNSA_NSID, RTM_GETNSID

_GENERIC: Final = 4
"""Bytes of a `struct rtgenmsg`, padded."""


def netns(descriptor: int) -> bytes:
    """Ask for the number of the namespace `descriptor`; EINVAL if it is no namespace."""
    body = bytes(_GENERIC) + attribute(NETNSA_FD, struct.pack("=I", descriptor))
    return request(RTM_GETNSID, body)


def read_netns(body: memoryview) -> int:
    """The number in `body`, the answer to :func:`netns`; -1 if the namespace has none here."""
    value = chosen(body, _GENERIC, (NETNSA_NSID,)).get(NETNSA_NSID)
    return -1 if value is None else int.from_bytes(value, "little", signed=True)
