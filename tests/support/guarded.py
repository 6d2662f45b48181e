"""Hosts with two sandboxes of both families, of which one, `thief`, is up to something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.support import packets
from tests.support.frames import Identity
from tests.support.hearing import END, Neighbour, Stack
from tests.support.host import GATEWAY, Container, Host
from tests.support.packets import BROADCAST, IPV4, ether

if TYPE_CHECKING:
    from tests.support.hearing import Listener

DUAL: Final = '[network.default]\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n'
GATEWAY6: Final = "fd00:19::1"
MODES: Final = ("bridge", "routed")


def in_mode(mode: str) -> str:
    """The configuration of a network of both families in that mode."""
    return f'{DUAL}mode = "{mode}"\n'


def two(host: Host) -> tuple[Container, Container]:
    """Two containers of a host, `web` and `thief`."""
    host.run("web")
    host.run("thief")
    return host.attached("web"), host.attached("thief")


def unaided(host: Host) -> None:
    """Nothing but a filter of its own drops a frame on this host."""
    for name in ("ip", "ip6", "arp"):
        host.command("sh", "-c", f"echo 0 > /proc/sys/net/bridge/bridge-nf-call-{name}tables")
    for name in ("all", "default"):
        host.command("sh", "-c", f"echo 0 > /proc/sys/net/ipv4/conf/{name}/rp_filter")


def router_of(host: Host, thief: Container, mode: str) -> Identity:
    """What the host calls itself to its sandboxes."""
    link = host.here.link("netns0" if mode == "bridge" else thief.veth)
    assert link is not None
    return Identity(link["address"], GATEWAY, GATEWAY6)


def listeners(host: Host, web: Container, thief: Container, mode: str) -> dict[str, Listener]:
    """Everybody who hears what `thief` says to all."""
    if mode == "routed":
        return {"host": Stack(host, host.here, thief.veth)}
    return {"web": Neighbour(host, web.place), "host": Neighbour(host, host.here, "netns0")}


def end_of(me: Identity, end: bytes = END) -> bytes:
    """A last, honest frame for all; see :func:`heard`."""
    return ether(me.mac, BROADCAST, IPV4, packets.udp(me.ip4, "172.19.255.255", 9, end))
