"""No packet leaves the host with a sandbox's own address where the network masquerades."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import packets
from tests.support.host import BEYOND, BEYOND6, UPLINK, UPLINK6
from tests.support.packets import ACK, IPV4, IPV6, RST, Wire, ether

if TYPE_CHECKING:
    from tests.support.host import HostMaker

DUAL = '[network.default]\nmode = "{}"\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n'
ANYWHERE = (0, 1 << 30, 2 << 30, 3 << 30)
"""Sequence numbers of which at least three are outside of any window."""


@pytest.mark.parametrize("mode", ["bridge", "routed"])
def test_what_no_connection_has_room_for_does_not_leave(make_host: HostMaker, mode: str) -> None:
    host = make_host(DUAL.format(mode))
    host.beyond.serve(tcp=(80,), udp=(80,))
    web = host.attach("web")
    (link,) = web.place.ip("link", "show", "dev", "eth0")
    (next_hop,) = host.here.ip("link", "show", "dev", "netns0" if mode == "bridge" else web.veth)
    wire, beyond = Wire(host, web.place), Wire(host, host.beyond, "uplink")
    for own, there, seen, kind in (
        (web.address, BEYOND, UPLINK, IPV4),
        (web.place.addresses()[-1].split("/")[0], BEYOND6, UPLINK6, IPV6),
    ):
        stream = web.place.stream(there, 80)
        assert stream.answer.seen == seen
        end = packets.mark()
        port = stream.port
        sent = (
            packets.tcp(own, there, 80, RST),
            *(packets.tcp(own, there, 80, ACK, source_port=port, sequence=n) for n in ANYWHERE),
            packets.udp(own, there, 80, end),
        )
        wire.send(*(ether(link["address"], next_hop["address"], kind, one) for one in sent))
        heard = beyond.until(lambda frame, end=end: end in frame)  # type: ignore[misc]
        assert not [frame for frame in heard if packets.ip(own) in frame]
        assert stream.say("still there") == "still there"
