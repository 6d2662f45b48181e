"""Network drivers: what a network's `mode` decides, one module per mode.

To add a mode, add its name and facts to :data:`watcher.model.network.MODES`, and a module of that
name here with a `DRIVER`, a :class:`handlers.networks.driver.Driver`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from handlers.networks.driver import Driver
from watcher.model.network import Network
from watcher.model.sandbox import Sandbox


class Drivers(dict[str, Driver]):
    """The driver of each network by the network's name.

    Another process may have connected a sandbox to a network that this one does not know, because
    it has not read the configuration since. Such a network is looked up when it is needed.

    Args:
        networks: the known ones.
        find: finds another one by its name, with its MTU.
    """

    def __init__(
        self, networks: Mapping[str, Network], find: Callable[[str], Network | None]
    ) -> None:
        super().__init__(drivers_of(networks))
        self._find = find

    def __missing__(self, name: str) -> Driver:
        """Look the network `name` up; KeyError if nobody knows it."""
        network = self._find(name)
        if network is None:
            raise KeyError(name)
        self[name] = driver_of(network)
        return self[name]


def networks_of(sandbox: Sandbox, drivers: Mapping[str, Driver]) -> dict[str, Network]:
    """The networks of `sandbox` by name."""
    return {one.network: drivers[one.network].network for one in sandbox.interfaces}


def drivers_of(networks: Mapping[str, Network]) -> dict[str, Driver]:
    """The driver of each of `networks`, by the network's name."""
    return {name: driver_of(network) for name, network in networks.items()}


def driver_of(network: Network) -> Driver:
    """The driver of `network`."""
    return _driver("clustered" if network.cluster else network.mode)(network)


def _driver(mode: str) -> type[Driver]:
    driver: type[Driver] = import_module(f"{__name__}.{mode}").DRIVER
    return driver
