"""firewalld: what it would drop of our networks passes.

What comes from a bridge, or by no bridge from a subnet, is in the zone `trusted`; what other hosts
send in VXLAN is a port of the default zone. Source: firewalld.zones(5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from handlers.firewall import firewalld_bus
from handlers.firewall.firewalld_bus import Bus

if TYPE_CHECKING:
    from handlers.firewall.firewalld_bus import Kind
    from watcher.model.network import Network

ZONE: Final = "trusted"
"""The zone whose target is ACCEPT."""


class FirewalldSources:
    """Bridges and subnets in the zone `trusted`, now and after firewalld's next start.

    What an administrator put into another zone stays there. Failures are
    :class:`.firewalld_bus.FirewalldRefused`.
    """

    name = "firewalld"

    def links(self, network: Network) -> tuple[str, ...]:
        """The bridge, or the subnets if the links of the sandboxes are on none."""
        return (network.bridge,) if network.facts.on_link else tuple(map(str, network.subnets))

    def runs(self) -> bool:
        """Whether firewalld is on the system bus."""
        return firewalld_bus.runs()

    def lacks(self, link: str) -> bool:
        """Whether `link` is in no zone now, or in none after firewalld's next start."""
        with Bus.connected() as bus:
            return any(_lacking(bus, link))

    def admit(self, link: str) -> None:
        """Put `link` into the zone if it is in none."""
        add = f"add{_kind(link)}"
        with Bus.connected() as bus:
            now, later = _lacking(bus, link)
            if later:
                bus.later(ZONE, add, "s", link)
            if now:
                bus.now(ZONE, add, "s", link)

    def dismiss(self, link: str) -> None:
        """Take `link` out of the zone if it is there, even if firewalld does not run."""
        kind = _kind(link)
        if not self.runs():
            firewalld_bus.offline(f"--zone={ZONE}", f"--remove-{kind.lower()}={link}")
            return
        with Bus.connected() as bus:
            now, later = bus.zones_of(kind, link)
            if now == ZONE:
                bus.now(ZONE, f"remove{kind}", "s", link)
            if later == ZONE:
                bus.later(ZONE, f"remove{kind}", "s", link)


def _kind(link: str) -> Kind:
    return "Source" if "/" in link else "Interface"


def _lacking(bus: Bus, link: str) -> tuple[bool, bool]:
    """Whether to put `link` into the zone now, and in the permanent configuration."""
    now, later = bus.zones_of(_kind(link), link)
    free = {now, later} <= {"", ZONE}
    return free and now == "", free and later == ""


class FirewalldTunnel:
    """The port of VXLAN in the default zone, now and after firewalld's next start.

    This program's own table takes VXLAN of ours from the cluster's hosts alone. Failures are as
    above.
    """

    name = "firewalld for VXLAN"

    def __init__(self, port: int) -> None:
        self._port = port

    def links(self, network: Network) -> tuple[str, ...]:
        """The port, if the network needs it."""
        return (f"{self._port}/udp",) if network.tunnelled else ()

    def runs(self) -> bool:
        """Whether firewalld is on the system bus."""
        return firewalld_bus.runs()

    def lacks(self, link: str) -> bool:
        """Whether the zone has no such port now, or none after firewalld's next start."""
        with Bus.connected() as bus:
            return not all(_has_port(bus, bus.default_zone(), link))

    def admit(self, link: str) -> None:
        """Add the port to the zone."""
        with Bus.connected() as bus:
            zone = bus.default_zone()
            now, later = _has_port(bus, zone, link)
            if not later:
                bus.later(zone, "addPort", "ss", *link.split("/"))
            if not now:
                bus.now(zone, "addPort", "ssi", *link.split("/"), 0)

    def dismiss(self, link: str) -> None:
        """Take the port out of the zone, even if firewalld does not run."""
        if not self.runs():
            firewalld_bus.offline(f"--remove-port={link}")
            return
        with Bus.connected() as bus:
            zone = bus.default_zone()
            now, later = _has_port(bus, zone, link)
            if now:
                bus.now(zone, "removePort", "ss", *link.split("/"))
            if later:
                bus.later(zone, "removePort", "ss", *link.split("/"))


def _has_port(bus: Bus, zone: str, link: str) -> tuple[bool, bool]:
    """Whether `zone` has that port now, and in the permanent configuration."""
    words = link.split("/")
    now = bus.now(zone, "queryPort", "ss", *words)
    return bool(now), bool(bus.later(zone, "queryPort", "ss", *words))
