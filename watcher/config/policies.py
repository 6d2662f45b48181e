"""Checks that the lists of a configuration can be kept to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watcher.config.rules import ConfigKeyError, KeyPath
from watcher.model.policy.access import access
from watcher.model.policy.entries import DIRECTIONS
from watcher.model.policy.holding import cannot_hold
from watcher.model.policy.limits import UNLIMITED

if TYPE_CHECKING:
    from watcher.config.settings import Config
    from watcher.model.network import Network
    from watcher.model.policy.entries import Direction


def check_policies(config: Config) -> None:
    """Check the lists of networks, and those that roots force upon their containers.

    Raises:
        ConfigKeyError: for the first that cannot be kept to.
    """
    for network in config.networks.values():
        for direction in DIRECTIONS:
            if getattr(network, direction) is not None:
                _check(network, direction)
    for index, root in enumerate(config.roots):
        if root.limits.policy:
            _check_forced(config, ("root", index, "limits", "policy"), root.limits.policy)


def _check(network: Network, direction: Direction) -> None:
    at: KeyPath = ("network", network.name, direction)
    if key := cannot_hold(network):
        raise ConfigKeyError(
            at,
            f"nobody can be held to a list with {key}",
            f"remove {key}, or the list",
        )
    if network.internal:
        what = "its sandboxes have no way out" if direction == "egress" else "it publishes nothing"
        raise ConfigKeyError(at, f"{what} with internal = true", "remove one of the two")
    held = access(direction, UNLIMITED, network, None)
    assert held is not None
    if held.too_large:
        raise ConfigKeyError(
            at, held.too_large, "write fewer ranges of ports, or fewer prefixes in others"
        )
    if held.named and not network.names:
        raise ConfigKeyError(
            at, "has a name, which no sandbox can ask for with names = false", "remove one of them"
        )


def _check_forced(config: Config, at: KeyPath, name: str) -> None:
    if not config.networks[name].policed:
        raise ConfigKeyError(
            at, "that network has no list", f"write egress or ingress in [network.{name}]"
        )
