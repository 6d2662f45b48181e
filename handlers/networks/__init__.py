"""Network drivers: what a network's `mode` decides, one module per mode.

To add a mode, add its name and facts to :data:`watcher.model.network.MODES`, and a module of that
name here with a `DRIVER`, a :class:`handlers.networks.driver.Driver`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from handlers.networks.driver import Driver
from watcher.model.network import Network


def drivers_of(networks: Mapping[str, Network]) -> dict[str, Driver]:
    """The driver of each of `networks`, by the network's name."""
    return {name: driver_of(network) for name, network in networks.items()}


def driver_of(network: Network) -> Driver:
    """The driver of `network`."""
    return _driver(network.mode)(network)


def _driver(mode: str) -> type[Driver]:
    driver: type[Driver] = import_module(f"{__name__}.{mode}").DRIVER
    return driver
