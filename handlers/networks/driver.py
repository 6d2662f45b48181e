"""What a network driver is: all that differs between one `mode` and another.

A driver is made of its network's settings and keeps nothing else. What it says of a sandbox's end
and of the firewall is data, which is the same code's for all modes to carry out.
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
        address: as its interface has it.
        on_link: what it reaches without a next hop; the kernel makes that route itself where it is
            the network of `address`.
        hop: by whom it reaches all else; `None` if the network has no subnet of that family.
        hop_mac: the MAC of `hop` where nobody answers for it; else empty.
        beyond: what is reached by `hop` even if the default route is not by it.
    """

    address: AddressWithPrefix
    on_link: Subnet | None
    hop: Address | None
    hop_mac: str = ""
    beyond: Subnet | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What table `inet watcher` has besides if any network is of a mode.

    Attributes:
        sets: its sets.
        guard: rules for what comes in, before anything else looks at it.
        localhost: rules for what the host sends to a published port of its own.
        forward: rules that tell what goes to sandboxes and what comes from them.
        owners: those sets, of either table, whose keys begin with a host end and end with an
            address that it is held to.
    """

    sets: tuple[str, ...] = ()
    guard: tuple[str, ...] = ()
    localhost: tuple[str, ...] = ()
    forward: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Driver(ABC):
    """One network, in its mode's manner. Nothing here may fail for what is there already.

    Attributes:
        network: its settings.
        rules: what the firewall has besides for this mode.
    """

    network: Network
    rules: ClassVar[Rules] = Rules()

    @property
    def master(self) -> str:
        """The bridge that host ends are ports of; empty if they are on none.

        It tells the network's packets from all others; without it, its subnets do.
        """
        return ""

    @abstractmethod
    def host_side(self, netlink: Netlink, settings: Sysctl) -> Iterator[Difference]:
        """What is not as it should be of what all sandboxes of the network have in common.

        Each is found once those before it are closed. The interface of the name
        :attr:`Network.bridge` is there behind it: by its index it is known again.

        Raises:
            OSError: it cannot be put right.
        """

    @abstractmethod
    def make(self, netlink: Netlink, interface: Interface, netns: int, *, alias: str) -> None:
        """Make the pair, its other end in the namespace of descriptor `netns`; set its host end up.

        Raises:
            NetlinkError: EEXIST, if either end's name is taken; nothing was made.
            OSError: the kernel refused.
        """

    @abstractmethod
    def adopt(self, netlink: Netlink, interface: Interface, *, alias: str) -> None:
        """Put right a host end that is there already, whatever it is like.

        Raises:
            OSError: the kernel refused.
        """

    @abstractmethod
    def wrong(self, netlink: Netlink, link: rtnl.Link, interface: Interface) -> str:
        """What is wrong with the host end `link`, which is there and up; empty if nothing is."""

    def settings_inside(self, interface: Interface) -> Mapping[str, str]:  # noqa: ARG002
        """Kernel settings of `interface` in its namespace, before it is set up."""
        return {}

    @abstractmethod
    def way(self, address: AddressWithPrefix, ordinal: int) -> Way:
        """How what is sent from `address` leaves by the interface `ordinal` of a sandbox."""

    def ways(self, interface: Interface) -> list[Way]:
        """How it leaves from each address of `interface`."""
        return [self.way(address, interface.ordinal) for address in interface.addresses]

    @abstractmethod
    def guards(self, interface: Interface) -> Iterable[Element]:
        """The elements of sets that hold `interface` to its addresses, or leave it free."""
