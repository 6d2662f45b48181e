"""The network driver: everything that differs between the modes of networks.

A driver holds its network's settings and no other state. For the sandbox end and the firewall it
only returns data, which code common to all modes applies.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from msgspec import Struct

from handlers.handler import Difference
from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink
from handlers.kernel.nft import Element
from handlers.settings import Sysctl
from watcher.model.address import Address, AddressWithPrefix, Subnet
from watcher.model.network import Network
from watcher.model.sandbox import Interface


class Way(Struct, frozen=True):
    """How a sandbox sends from one of its addresses.

    Attributes:
        address: the address with the prefix length that the interface gets.
        on_link: what is reachable without a next hop. The kernel adds this route itself if it is
            the network of `address`.
        hop: the next hop for everything else; `None` if the network has no subnet of the family.
        hop_mac: the MAC of `hop` if nothing answers ARP or ND for it; else empty.
        beyond: the subnet routed through `hop` even if the default route is not.
    """

    address: AddressWithPrefix
    on_link: Subnet | None
    hop: Address | None
    hop_mac: str = ""
    beyond: Subnet | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What the mode adds to table `inet watcher` if any network has it.

    Attributes:
        sets: more sets.
        guard: rules for incoming packets, at priority `raw`.
        localhost: rules for packets from the host to its own published ports.
        forward: rules that match packets to and from sandboxes.
        owners: the sets, in either table, whose keys start with a host end and end with an
            address that the guard allows it.
    """

    sets: tuple[str, ...] = ()
    guard: tuple[str, ...] = ()
    localhost: tuple[str, ...] = ()
    forward: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Driver(ABC):
    """How one network works. Every method may be repeated.

    Attributes:
        network: the network's settings.
        rules: what this mode adds to the firewall.
    """

    network: Network
    rules: ClassVar[Rules] = Rules()

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

    @abstractmethod
    def make(self, netlink: Netlink, interface: Interface, netns: int, *, alias: str) -> None:
        """Make a pair with one end in the namespace `netns` (a descriptor); set up its host end.

        Raises:
            NetlinkError: EEXIST if the name of either end is taken; then nothing was made.
            OSError: the kernel refused.
        """

    @abstractmethod
    def adopt(self, netlink: Netlink, interface: Interface, *, alias: str) -> None:
        """Repair an existing host end, whatever its state; `OSError` if the kernel refused."""

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

    @abstractmethod
    def guards(self, interface: Interface) -> Iterable[Element]:
        """The set elements that limit `interface` to its addresses, or exempt it from the guard."""
