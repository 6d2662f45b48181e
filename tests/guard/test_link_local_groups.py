"""Frames that no bridge forwards (IEEE 802.1D, table 7-10) are held to the lease as any other.

A bridge hands them to the host as if they had come by no bridge, some without a netfilter hook.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support import packets
from tests.support.frames import ETHERTYPES, Identity, identity
from tests.support.guarded import DUAL, GATEWAY6, router_of, two, unaided
from tests.support.hearing import END, PORT, Neighbour, Sockets, Stack, heard
from tests.support.host import GATEWAY, Host
from tests.support.packets import BROADCAST, IPV4, IPV6, Wire, ether

if TYPE_CHECKING:
    from tests.support.hearing import Listener
    from tests.support.host import HostMaker

GROUPS: Final = tuple(f"01:80:c2:00:00:{last:02x}" for last in (*range(16), 0x20, 0x21))
GUARDS = pytest.mark.parametrize("guard", ["true", "false"])


def is_forwarded(group: str) -> bool:
    """Whether a bridge without the spanning tree protocol forwards what is sent to a group."""
    return group.endswith((":00", ":20", ":21"))


def in_both_families(me: Identity, gateway: Identity) -> list[bytes]:
    """The end: honest, for the host by both families."""
    return [
        ether(me.mac, gateway.mac, kind, packets.udp(source, to, PORT, END))
        for kind, source, to in ((IPV4, me.ip4, GATEWAY), (IPV6, me.ip6, GATEWAY6))
    ]


@GUARDS
def test_the_host_takes_no_datagram_of_another_from_them(make_host: HostMaker, guard: str) -> None:
    """Where `rp_filter` is 0; without the guard, the host itself takes it."""
    host = make_host(f"{DUAL}guard = {guard}\n")
    unaided(host)
    web, thief = two(host)
    me, of_web = identity(thief), identity(web)
    forged, own = {}, {}
    for group in GROUPS:
        for mac in (me.mac, of_web.mac):
            name = f"as web by {mac} to {group}"
            packet = packets.udp(of_web.ip4, GATEWAY, PORT, f"{name}.".encode())
            forged[name] = ether(mac, group, IPV4, packet)
        name = f"as itself to {group}"
        own[name] = ether(
            me.mac, group, IPV4, packets.udp(me.ip4, GATEWAY, PORT, f"{name}.".encode())
        )
    gateway = router_of(host, thief, "bridge")
    found = heard(
        host,
        forged | own,
        thief.place,
        {"host": Sockets(host, host.here)},
        in_both_families(me, gateway),
    )
    heard_of = {name for name, who in found.items() if who}
    assert {name for name in heard_of if is_handed_on(name)} == (
        {name for name in own if is_handed_on(name)}
        if guard == "true"
        else {name for name in forged | own if is_handed_on(name)}
    )
    assert guard == "false" or not heard_of & forged.keys()


def is_handed_on(name: str) -> bool:
    """Whether the host gets what is sent to this group; pauses go nowhere."""
    return not is_forwarded(name) and not name.endswith(":01")


@GUARDS
def test_no_protocol_of_a_bridge_or_a_switch_is_spoken_to_the_host(
    make_host: HostMaker, guard: str
) -> None:
    host = make_host(f"{DUAL}guard = {guard}\n")
    unaided(host)
    web, thief = two(host)
    me = identity(thief)
    frames = {
        f"{name} to {group}": ether(me.mac, group, kind, f"{name} to {group}.".encode())
        for name, kind in ETHERTYPES.items()
        for group in GROUPS
    }
    last = [
        ether(me.mac, to, IPV4, packets.udp(me.ip4, GATEWAY, PORT, END))
        for to in (BROADCAST, GROUPS[0x0E])
    ]
    listeners: dict[str, Listener] = {
        "web": Neighbour(host, web.place),
        "host": Neighbour(host, host.here, "netns0"),
        "stack": Stack(host, host.here, thief.veth),
    }
    found = heard(host, frames, thief.place, listeners, last)
    anywhere = {name for name, who in found.items() if who}
    assert anywhere == (set() if guard == "true" else {n for n in frames if not n.endswith(":01")})


@GUARDS
def test_a_mac_is_not_learned_from_frames_that_no_bridge_forwards(
    make_host: HostMaker, guard: str
) -> None:
    """A bridge of ours learns nothing from link-local frames, even without the guard."""
    host = make_host(f"{DUAL}guard = {guard}\n")
    unaided(host)
    web, thief = two(host)
    of_web, me = identity(web), identity(thief)
    host.command("ip", "neigh", "flush", "dev", "netns0")
    web.serve(tcp=(80,))
    assert host.here.reach(web.address, 80) is not None
    groups = [g for g in GROUPS if guard == "true" or not is_forwarded(g)]
    if guard == "true":
        groups += [BROADCAST, identity(thief).mac]
    packet = packets.udp(of_web.ip4, GATEWAY, PORT, b"as web.")
    wire, end = Wire(host, thief.place), packets.mark()
    listener = Wire(host, host.here, "netns0")
    for group in groups:
        wire.send(
            ether(of_web.mac, group, packets.LLDP, b""), ether(of_web.mac, group, IPV4, packet)
        )
    wire.send(ether(me.mac, BROADCAST, IPV4, packets.udp(me.ip4, GATEWAY, PORT, end)))
    listener.until(lambda frame: end in frame)
    assert ports_of(host, of_web.mac) == {web.veth}


def ports_of(host: Host, mac: str) -> set[str]:
    """The ports of the bridge behind which it takes a MAC to be."""
    entries = host.command("bridge", "fdb", "show", "br", "netns0").stdout.splitlines()
    return {line.split()[2] for line in entries if line.startswith(mac)}
