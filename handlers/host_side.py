"""The host's part of each network, as its driver wants it: the bridge, the gateway, forwarding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from handlers.context import Context
from handlers.handler import Handler, apply
from handlers.kernel import rtnl
from handlers.networks import forwarding
from handlers.networks.driver import Driver
from handlers.networks.gateway_bridge import find, renamed
from handlers.settings import Sysctl
from watcher.model.network import Network
from watcher.model.repair import Repair
from watcher.model.sandbox import Sandbox


class HostSideHandler(Handler):
    """Owns the host's part of each network; it stays until `network rm` or `down`."""

    def __init__(self, context: Context) -> None:
        self._netlink = context.netlink
        self._drivers = context.drivers
        self._cluster = context.cluster
        self._settings = Sysctl(context.notes)
        self._whole: dict[str, int] = {}
        """The index of each complete bridge; a bridge that is made anew has another index."""

    def appear(self, sandbox: Sandbox) -> None:
        """Make or repair the host's part of the networks of `sandbox`.

        Raises:
            OSError: that is impossible, e.g. because another interface has the bridge's name.
        """
        for interface in sandbox.interfaces:
            driver = self._drivers[interface.network]
            index = self._whole.get(interface.network)
            if index is None or self._netlink.index(driver.network.bridge) != index:
                self._close(driver, dry_run=False)

    def prepare(self, network: Network) -> None:
        """Make the bridge of `network`, though no sandbox uses it yet.

        Raises:
            OSError: that is impossible.
        """
        driver = self._drivers[network.name]
        apply(driver.reserve(self._netlink, self._settings), dry_run=False)

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:
        """Repair the host's part of all networks in use, and the bridges of those with blocks."""
        used = {interface.network for sandbox in sandboxes for interface in sandbox.interfaces}
        repairs: list[Repair] = []
        for name in sorted(used):
            found = self._close(self._drivers[name], dry_run=dry_run)
            repairs += [one for one in found if one not in repairs]  # a dry run repairs none
        with_blocks = {block.network for block in self._cluster.blocks()} & self._drivers.keys()
        for name in sorted(with_blocks - used):  # the host's own address is on the bridge
            reserved = self._drivers[name].reserve(self._netlink, self._settings)
            repairs += apply(reserved, dry_run=dry_run)
        return repairs

    def remove(self, networks: Iterable[Network]) -> list[str]:
        """Delete the bridges of `networks`, and restore forwarding if it was turned on here."""
        done = [f"removed {network.bridge}" for network in networks if self.remove_one(network)]
        return done + [f"restored {name}" for name in forwarding.give_back(self._settings)]

    def exists(self, network: Network) -> bool:
        """Whether the bridge of `network` exists."""
        index = self._netlink.index(network.bridge)
        if index == self._whole.get(network.name):  # as for nearly every container
            return True
        if index:
            return not self._is_of_another(network.bridge, network)
        former = renamed(network, self._netlink)
        return former is not None and not self._is_of_another(former.name, network)

    def remove_one(self, network: Network) -> bool:
        """Delete the bridge of `network` if this program made it; returns whether it did."""
        self._whole.pop(network.name, None)
        link = find(network, self._netlink)
        if network.managed and (link is None or not link.ours):
            link = renamed(network, self._netlink)
        if link is None or not link.ours or self._is_of_another(link.name, network):
            return False
        self._netlink.send([rtnl.gone(link.index)])
        return True

    def _is_of_another(self, name: str, network: Network) -> bool:
        """Whether `name` is the bridge of another network than `network`, a former one.

        That one has the name or the subnet now, and the bridge with it.
        """
        networks = (driver.network for driver in self._drivers.values())
        return any(name == one.bridge and network.name != one.name for one in networks)

    def _close(self, driver: Driver, *, dry_run: bool) -> list[Repair]:
        """Repair what is wrong; returns what that was."""
        repairs = apply(driver.host_side(self._netlink, self._settings), dry_run=dry_run)
        if not dry_run:
            network = driver.network
            self._whole[network.name] = self._netlink.index(network.bridge)
        return repairs
