"""The network driver: everything that differs between one `mode` and another.

A driver holds its network's settings and no other state. For the sandbox's end of a link and for
the firewall it only returns data; code that is the same for all modes carries that out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from handlers.handler import Difference
from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink
from handlers.kernel.nft import Element
from handlers.settings import Sysctl
from watcher.model.address import Address, AddressWithPrefix, Subnet
from watcher.model.network import Network
from watcher.model.sandbox import Interface


@dataclass(frozen=True, slots=True)
class Way:
    """How a sandbox sends from one of its addresses.

    Attributes:
        address: the address with the prefix length that the interface gets.
        on_link: what is reachable without a next hop. If it is the network of `address`, the
            kernel adds that route itself.
        hop: the next hop for everything else; `None` if the network has no subnet of the family.
        hop_mac: the MAC of `hop` if nobody answers ARP or ND for it; else empty.
        beyond: what is routed through `hop` even if the default route is not.
    """

    address: AddressWithPrefix
    on_link: Subnet | None
    hop: Address | None
    hop_mac: str = ""
    beyond: Subnet | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What table `inet watcher` needs in addition if any network has this mode.

    Attributes:
        sets: more sets.
        guard: rules for incoming packets, at priority `raw`.
        localhost: rules for what the host sends to its own published ports.
        forward: rules that find what goes to sandboxes and what comes from them.
        owners: the names of the sets, in either table, whose keys start with a host end and end
            with an address that the guard allows it.
    """

    sets: tuple[str, ...] = ()
    guard: tuple[str, ...] = ()
    localhost: tuple[str, ...] = ()
    forward: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Driver(ABC):
    """How one network works. Each method may run again over what is already there.

    Attributes:
        network: the network's settings.
        rules: what the firewall needs in addition for this mode.
    """

    network: Network
    rules: ClassVar[Rules] = Rules()

    @property
    def master(self) -> str:
        """The bridge that the host ends are ports of; empty if there is none.

        The firewall recognises the network's packets by this bridge, or else by their subnets.
        """
        return ""

    @abstractmethod
    def host_side(self, netlink: Netlink, settings: Sysctl) -> Iterator[Difference]:
        """What is wrong on the host with the part that all sandboxes of the network share.

        Each difference is looked for after the ones before it are closed. In the end there is an
        interface called :attr:`Network.bridge`; a new index means that the part was lost.

        Raises:
            OSError: it cannot be put right.
        """

    @abstractmethod
    def make(self, netlink: Netlink, interface: Interface, netns: int, *, alias: str) -> None:
        """Make a pair with one end in the namespace of the descriptor `netns`; set up its host end.

        Raises:
            NetlinkError: EEXIST if the name of either end is taken; nothing was made.
            OSError: the kernel refused.
        """

    @abstractmethod
    def adopt(self, netlink: Netlink, interface: Interface, *, alias: str) -> None:
        """Put an existing host end right, whatever its state.

        Raises:
            OSError: the kernel refused.
        """

    @abstractmethod
    def wrong(self, netlink: Netlink, link: rtnl.Link, interface: Interface) -> str:
        """What is wrong with the host end `link`, which exists and is up; empty if nothing is."""

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
        """The set elements that limit `interface` to its addresses, or exempt it."""
