"""What joins the hosts of a cluster: two links, and the router between them.

::

    a ─┐                       ┌─ c
    b ─┼─ lan ── router ── far ┘
    etcd ─┘        │
                 beyond 192.0.2.1

Each link is a bridge in a namespace of its own, the switch, where packets can be cut off. The
router is the host of the class :class:`Underlay` itself. What is beyond it is the machine beyond of
every host.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from types import MappingProxyType
from typing import ClassVar, Final

from tests.support.host.machine import LINKS, Machine
from tests.support.host.place import Place

MTU: Final = 1500
"""Of a link, unless a test wants another."""

_ROUTER: Final = 1
_CUT: Final = """
destroy table bridge cut
table bridge cut {
  set ipv4 { type ipv4_addr . ipv4_addr; }
  set ipv6 { type ipv6_addr . ipv6_addr; }
  set macs { type ether_addr . ether_addr; }
  chain forward {
    type filter hook forward priority 0;
    ip saddr . ip daddr @ipv4 drop
    ip6 saddr . ip6 daddr @ipv6 drop
    ether saddr . ether daddr @macs drop
  }
}
"""


@dataclass(frozen=True)
class Link:
    """A link of the underlay.

    Attributes:
        name: that of its bridge on the switch, and of the router's interface.
        ipv4, ipv6: its subnets; the router has the first address of each.
    """

    name: str
    ipv4: IPv4Network
    ipv6: IPv6Network


LAN: Final = Link("lan", IPv4Network("198.51.100.0/24"), IPv6Network("2001:db8:1::/64"))
FAR: Final = Link("far", IPv4Network("203.0.113.0/24"), IPv6Network("2001:db8:2::/64"))


@dataclass(frozen=True)
class Station:
    """A machine on a link.

    Attributes:
        place: its network namespace, where its interface is `uplink`.
        link: the link.
        number: of it on the link; its addresses and its MAC follow from that.
    """

    place: Place
    link: Link
    number: int

    @property
    def ipv4(self) -> IPv4Address:
        """Its IPv4 address."""
        return self.link.ipv4[self.number]

    @property
    def ipv6(self) -> IPv6Address:
        """Its IPv6 address."""
        return self.link.ipv6[self.number]

    @property
    def addresses(self) -> tuple[str, str]:
        """Both, as text."""
        return str(self.ipv4), str(self.ipv6)

    @property
    def mac(self) -> str:
        """The MAC of its interface."""
        third = 1 if self.link is LAN else 2
        return f"02:00:{third:02x}:00:00:{self.number:02x}"

    @property
    def port(self) -> str:
        """The name of its port on the switch."""
        return f"{self.link.name}{self.number}"


class Underlay(Machine):
    """See the module's docstring.

    Args:
        mtus: the MTU of each link by its name, where it is not :data:`MTU`.
    """

    links: ClassVar[str] = f"""{LINKS}
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
nsenter --net="$base/beyond" ip route add default via 192.0.2.2
nsenter --net="$base/beyond" ip route add default via 2001:db8::2
touch "$base/switch"
unshare --net="$base/switch" true
"""

    def __init__(self, mtus: Mapping[str, int] = MappingProxyType({})) -> None:
        self._mtus = dict(mtus)
        self._cuts: list[tuple[str, str, str]] = []
        super().__init__()
        try:
            self.switch = self.add_place("switch", self.seen(self.base / "switch"))
            for link in (LAN, FAR):
                bridge = f"mtu {self._mtu(link)} address 02:00:00:00:00:01 type bridge"
                _batch(
                    self.switch,
                    f"link add {link.name} {bridge} mcast_snooping 0",
                    f"link set {link.name} up",
                )
                self._plug(Station(self.here, link, _ROUTER), link.name)
        except BaseException:
            self.close()
            raise

    def _mtu(self, link: Link) -> int:
        return self._mtus.get(link.name, MTU)

    def station(self, place: Place, link: Link, number: int) -> Station:
        """Puts a machine on a link by its interface `uplink`; the router has its default routes."""
        station = Station(place, link, number)
        self._plug(station, "uplink")
        _batch(
            place,
            f"route add default via {link.ipv4[_ROUTER]}",
            f"route add default via {link.ipv6[_ROUTER]}",
        )
        return station

    def new_station(self, name: str, link: Link, number: int) -> Station:
        """Makes a machine that is a network namespace only, and puts it on a link."""
        file = self.base / name
        self.command("sh", "-ec", f"touch {file}; unshare --net={file} ip link set lo up")
        return self.station(self.add_place(name, self.seen(file)), link, number)

    def _plug(self, station: Station, name: str) -> None:
        link, port = station.link, station.port
        mtu = f"mtu {self._mtu(link)}"
        peer = f"peer name {name} {mtu} address {station.mac} netns {station.place.file}"
        _batch(
            self.switch,
            f"link add {port} {mtu} type veth {peer}",
            f"link set {port} master {link.name} up",
        )
        _batch(
            station.place,
            f"link set {name} addrgenmode none",  # the kernel's address is tentative for a second
            f"link set {name} up",
            f"addr add fe80::{station.number}/64 dev {name} nodad",
            f"addr add {station.ipv4}/{link.ipv4.prefixlen} dev {name}",
            f"addr add {station.ipv6}/{link.ipv6.prefixlen} dev {name} nodad",
        )
        _batch(self.switch, f"link show dev {port}")  # so that it loses nothing, as LINKS says

    def cut(self, one: Station, other: Station) -> None:
        """Has the switch drop all packets between two machines, silently, until :meth:`heal`."""
        self._cuts += _pairs(one, other)
        elements = [
            f"add element bridge cut {kind} {{ {source} . {to} }}"
            for kind, source, to in self._cuts
        ]
        self.switch.run("nft", "--file", "-", stdin="\n".join((_CUT, *elements, "")))

    def heal(self) -> None:
        """Takes back each :meth:`cut`."""
        self._cuts = []
        self.switch.run("nft", "destroy", "table", "bridge", "cut")

    def unplug(self, station: Station) -> None:
        """Takes the carrier of a machine's interface, until :meth:`replug`."""
        _batch(self.switch, f"link set {station.port} down")

    def replug(self, station: Station) -> None:
        """Gives it back."""
        _batch(self.switch, f"link set {station.port} up", f"link show dev {station.port}")


def _pairs(one: Station, other: Station) -> Iterator[tuple[str, str, str]]:
    """What of their packets tells them: each set with a source and a destination.

    The packets of containers that are routed from one host to another have their own addresses, but
    the MACs of the hosts.
    """
    for source, to in ((one, other), (other, one)):
        yield "ipv4", str(source.ipv4), str(to.ipv4)
        yield "ipv6", str(source.ipv6), str(to.ipv6)
        if source.link is to.link:
            yield "macs", source.mac, to.mac


def _batch(place: Place, *lines: str) -> None:
    """Runs lines of ip(8) in a network namespace, with the paths of this process."""
    done = subprocess.run(
        ["nsenter", f"--net={place.file}", "--", "ip", "-batch", "-"],
        input="\n".join((*lines, "")), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{lines}: {done.stderr}"
