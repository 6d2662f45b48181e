"""Each address of a sandbox, with the way that packets to it and from it take on the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from handlers.networks.driver import Driver, Way
from watcher.model.network import Network, gateway
from watcher.model.sandbox import Interface

if TYPE_CHECKING:
    from collections.abc import Mapping

    from watcher.model.address import Address
    from watcher.model.sandbox import Sandbox


class Leg(Struct, frozen=True):
    """One address of a sandbox.

    Attributes:
        interface: the interface that has it.
        driver: the driver of its network.
        way: how packets leave from it.
    """

    interface: Interface
    driver: Driver
    way: Way

    @property
    def network(self) -> Network:
        """Its network."""
        return self.driver.network

    @property
    def address(self) -> Address:
        """The address."""
        return self.way.address.ip

    @property
    def version(self) -> int:
        """Its IP version."""
        return self.way.address.version

    @property
    def gateway(self) -> Address | None:
        """The gateway's address, which the host has; `None` if the subnet has gone."""
        subnet = self.network.subnet_of(self.version)
        return None if subnet is None else gateway(subnet)

    @property
    def leads_out(self) -> bool:
        """Whether its network has a way out, and publishes ports."""
        return not self.network.internal

    @property
    def link(self) -> str:
        """The interface of the host that its packets come by."""
        return self.driver.master or self.interface.host_name


def legs_of(sandbox: Sandbox, drivers: Mapping[str, Driver]) -> tuple[Leg, ...]:
    """The addresses of `sandbox`, in the order of its interfaces."""
    return tuple(
        Leg(interface, drivers[interface.network], way)
        for interface in sandbox.interfaces
        for way in drivers[interface.network].ways(interface)
    )
