"""The network driver: everything that differs between the modes of networks.

A driver holds its network's settings and no other state. For the sandbox end and the firewall it
only returns data, which code common to all modes applies.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Final

from msgspec import Struct

from handlers.guard import link as guard
from handlers.guard.program import Facts
from handlers.handler import Difference
from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink
from handlers.settings import Sysctl
from watcher.model.address import Address, AddressWithPrefix, Subnet
from watcher.model.network import Network, gateway
from watcher.model.sandbox import Interface


class Way(Struct, frozen=True):
    """How a sandbox sends from one of its addresses.

    Attributes:
        address: the address with the prefix length that the interface gets.
        on_link: what is reachable without a next hop. The kernel adds this route itself if it is
            the network of `address`, the same object.
        hop: the next hop for everything else; `None` if the network has no subnet of the family.
        hop_mac: the MAC of `hop` if nothing answers ARP or ND for it; else empty.
        beyond: the subnet routed through `hop` even if the default route is not.
    """

    address: AddressWithPrefix
    on_link: Subnet | None
    hop: Address | None
    hop_mac: str = ""
    beyond: Subnet | None = None


class Rules(Struct, frozen=True):
    """What the mode adds to table `inet watcher` if any network has it.

    Attributes:
        localhost: rules for packets from the host to its own published ports.
        forward: rules that match packets to and from sandboxes.
    """

    localhost: tuple[str, ...] = ()
    forward: tuple[str, ...] = ()


class Driver(ABC):
    """How one network works. Every method may be repeated.

    Attributes:
        network: the network's settings.
        gateways: the gateway of each of its subnets, by IP version.
        rules: what this mode adds to the firewall.
    """

    __slots__ = ("gateways", "network")

    rules: ClassVar[Rules] = Rules()

    def __init__(self, network: Network) -> None:
        self.network: Final = network
        self.gateways: Final[Mapping[int, Address]] = {
            subnet.version: gateway(subnet) for subnet in network.subnets
        }

    @property
    def master(self) -> str:
        """The bridge of the host ends; empty if there is none.

        The firewall matches the network's packets by this bridge, or else by their subnets.
        """
        return ""

    @abstractmethod
    def host_side(self, netlink: Netlink, settings: Sysctl) -> Iterator[Difference]:
        """What is wrong with the host's part of the network, which all its sandboxes share.

        Each difference is looked for after the earlier ones are repaired. Afterwards an interface
        named :attr:`Network.bridge` exists; if its index changes later, this part was lost.

        Raises:
            OSError: a repair is impossible.
        """

    def reserve(self, netlink: Netlink, settings: Sysctl) -> Iterator[Difference]:  # noqa: ARG002
        """The part of :meth:`host_side` that has other programs see the subnets as taken.

        It is made before any sandbox. Nothing is forwarded because of it.
        """
        return iter(())

    def make(self, netlink: Netlink, interface: Interface, netns: int, *, alias: str) -> None:
        """Make a pair with one end in the namespace `netns` (a descriptor); set up its host end.

        Raises:
            NetlinkError: EEXIST if the name of either end is taken; then nothing was made.
            NoGuard: the kernel cannot guard it.
            OSError: the kernel refused.
        """
        self.make_pair(netlink, interface, netns)
        self.finish(netlink, interface, alias=alias)

    def begin(self, netlink: Netlink, interface: Interface, netns: int) -> None:
        """The first half of :meth:`make`, for many pairs one after the other.

        The kernel then waits only once until all of them can be guarded (:func:`guard.prepare`).
        """
        self.make_pair(netlink, interface, netns)
        if self.network.guard:
            guard.prepare(netlink, netlink.index(interface.host_name))

    def finish(self, netlink: Netlink, interface: Interface, *, alias: str) -> None:
        """Guard the host end of a new pair, and set it up; the errors are those of :meth:`make`."""
        index = netlink.index(interface.host_name)
        facts = self.guarded(interface)
        if facts is not None:
            guard.put(netlink, index, facts)
        netlink.send(self.host_end(interface, index, alias))

    def adopt(self, netlink: Netlink, interface: Interface, *, alias: str) -> None:
        """Repair an existing host end, whatever its state.

        Raises:
            NoGuard: the kernel cannot guard it.
            OSError: the kernel refused.
        """
        index = netlink.index(interface.host_name)
        facts = self.guarded(interface)
        if facts is not None:
            guard.put_back(netlink, index, facts)
        else:
            guard.take_off(netlink, index)
        netlink.send([rtnl.enslaved(interface.host_name, self.port_of(netlink))])
        netlink.send(self.host_end(interface, index, alias))

    @abstractmethod
    def make_pair(self, netlink: Netlink, interface: Interface, netns: int) -> None:
        """Make the pair, its host end down; the errors are those of :meth:`make`."""

    @abstractmethod
    def host_end(self, interface: Interface, index: int, alias: str) -> list[bytes]:
        """The requests that configure the host end, the link `index`, and set it up."""

    def port_of(self, netlink: Netlink) -> int:  # noqa: ARG002
        """The index of the bridge that the host ends are ports of; 0 if there is none.

        Raises:
            OSError: that bridge is missing.
        """
        return 0

    @abstractmethod
    def wrong(self, netlink: Netlink, link: rtnl.Link, interface: Interface) -> str:
        """What is wrong with the host end `link`, which is up; empty if nothing is."""

    def settings_inside(self, interface: Interface) -> Mapping[str, str]:  # noqa: ARG002
        """Kernel settings to write in the namespace before `interface` is set up."""
        return {}

    @abstractmethod
    def way(self, address: AddressWithPrefix, ordinal: int) -> Way:
        """How packets from `address` leave through a sandbox's interface number `ordinal`."""

    def ways(self, interface: Interface) -> list[Way]:
        """The way of each address of `interface`."""
        return [self.way(address, interface.ordinal) for address in interface.addresses]

    def former_ways(self, interface: Interface) -> list[Way]:  # noqa: ARG002
        """The ways that `interface` may have had under another configuration of its network."""
        return []

    def guarded(self, interface: Interface) -> Facts | None:
        """What the guard holds `interface` to; `None` if the network has no guard.

        The neighbour that a static route leads to forwards what comes from there.
        """
        network = self.network
        if not network.guard:
            return None
        own = tuple([address.ip for address in interface.addresses])
        router = self.router_mac if interface.forced or network.policed else ""
        return Facts(interface.mac, own, self._routed(own), network.subnets, router)

    @property
    @abstractmethod
    def router_mac(self) -> str:
        """The MAC by which sandboxes reach the host."""

    def forced(self, interface: Interface) -> bool:
        """Whether even what `interface` sends to neighbours on its bridge goes by the host."""
        return (interface.forced or self.network.policed) and bool(self.master)

    def routed(self, interface: Interface) -> tuple[Subnet, ...]:
        """The subnets to which static routes of the network lead by `interface`."""
        return self._routed([address.ip for address in interface.addresses])

    def _routed(self, own: Sequence[Address]) -> tuple[Subnet, ...]:
        return tuple([route.to for route in self.network.routes if route.via in own])
