"""The flows of a host, as the kernel lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers.kernel import flows
from handlers.kernel.messages import chosen
from handlers.kernel.netlink import NETLINK_NETFILTER, Netlink
from tests.support import traffic

if TYPE_CHECKING:
    from tests.support.host import Host

_TUPLES_AND_ID = (1, 2, 12)
"""CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID: another flow of the same tuples has another number."""


def flows_of(host: Host) -> set[bytes]:
    """What identifies each flow that there is."""
    with traffic.entered(host.here.netns), Netlink(NETLINK_NETFILTER) as netlink:
        listed = (chosen(body, 4, _TUPLES_AND_ID) for body in netlink.listed(flows.every_flow()))
        return {b"".join(bytes(found[kind]) for kind in _TUPLES_AND_ID) for found in listed}
