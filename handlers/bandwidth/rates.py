"""Which rates an interface is held to, and the token bucket for each.

A rate counts what full packets carry. The kernel counts whole frames, so the bucket's rate is
higher by as much as a full frame is longer than what it carries by UDP.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from handlers.kernel.rtnl.shaping import Bucket
from watcher.model.network import Network
from watcher.model.policy.limits import least
from watcher.model.sandbox import Sandbox

_HEADER: Final = 14
"""Bytes of an Ethernet header."""

_PACKET_HEADERS: Final = 28
"""Bytes of the headers of IPv4 and UDP. TCP has 24 bytes more, and IPv6 has 20 more: they get 98.4,
98.6 and together 97 % of the rate, and frames have 103 %."""

_TAG: Final = 4
"""Bytes by which a frame may be longer than its link's MTU allows (`is_skb_forwardable`)."""

_BURST: Final = 10
"""Milliseconds of the rate that may be sent at once. A processor that is late by less costs nothing
of the rate."""

_WAIT: Final = 50
"""Milliseconds that a packet waits behind others at the most, but for the least queue."""

_BURST_FRAMES: Final = 2
"""The least burst, in full frames. The kernel drops what is longer than a burst. What is sent in
one piece of many segments (GSO) is cut into them if it is longer."""

_WAIT_FRAMES: Final = 8
"""The least queue, in full frames: below, TCP loses what it needs to find its rate."""

_USUAL_MTU: Final = 1500
_MOST_BURST, _MOST_WAIT = 16 << 20, 64 << 20
"""Bytes, so that a queue does not take the host's memory."""


class Rates(Struct, frozen=True):
    """Bits a second that an interface may receive and send; `None` means as many as come."""

    receive: int | None
    send: int | None

    @property
    def limited(self) -> bool:
        """Whether there is a limit at all."""
        return self.receive is not None or self.send is not None


def rates_of(sandbox: Sandbox, network: Network) -> Rates:
    """The rates of each interface that `sandbox` has in `network`."""
    limits = sandbox.limits
    return Rates(
        least(limits.ingress_bandwidth, network.ingress_bandwidth, limits.most_ingress_bandwidth),
        least(limits.egress_bandwidth, network.egress_bandwidth, limits.most_egress_bandwidth),
    )


def bucket_for(bits: int, mtu: int) -> Bucket:
    """The bucket that holds a link with that MTU to so many bits a second."""
    rate = max(bits * (mtu + _HEADER) // (mtu - _PACKET_HEADERS) // 8, 1)
    frame = max(mtu, _USUAL_MTU) + _HEADER + _TAG
    return Bucket(
        rate,
        max(min(rate * _BURST // 1000, _MOST_BURST), _BURST_FRAMES * frame),
        max(min(rate * _WAIT // 1000, _MOST_WAIT), _WAIT_FRAMES * frame),
    )
