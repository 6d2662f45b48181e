"""Checks the rules between the keys of a configuration; `keys` checks each key by itself."""

from __future__ import annotations

from itertools import pairwise
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from handlers.kernel.rootpath import real
from watcher.model.network import Network

if TYPE_CHECKING:
    from watcher.config.settings import Config
    from watcher.model.address import Subnet

type KeyPath = tuple[str | int, ...]
"""The place of a value in the file: names of keys, and indices into lists, from 0."""

MIN_MTU_IPV6: Final = 1280
"""The least MTU of a link with IPv6 (RFC 8200, section 5)."""


class ConfigKeyError(Exception):
    """A key that is unknown or missing, or has a bad value.

    Args:
        path: the key.
        reason: what is wrong with it, on one line.
        remedy: what to do about it, as an imperative; empty if the reason says it.
    """

    def __init__(self, path: KeyPath, reason: str, remedy: str = "") -> None:
        super().__init__(path, reason, remedy)
        self.path = path
        self.reason = reason
        self.remedy = remedy


def check(config: Config) -> None:
    """Check every rule.

    Raises:
        ConfigKeyError: for the first that does not hold.
    """
    _check_roots(config)
    _check_names(config)
    _check_modes(config)
    _check_bridges(config)
    _check_subnets(config)
    for network in config.networks.values():
        _check_mtu(network)
        _check_routes(network)


def _check_roots(config: Config) -> None:
    """No root is repeated or within another: one container would become two."""
    if not config.roots:
        raise ConfigKeyError(
            ("root",), "no root to watch", 'write [[root]] with path = "/run/runc"'
        )
    # Sorted like this, a directory comes right before those within it.
    order = sorted((PurePath(real(root.path)).parts, i) for i, root in enumerate(config.roots))
    for (outer, first), (inner, second) in pairwise(order):
        if inner[: len(outer)] == outer:
            how = "is the same directory as" if inner == outer else "is within"
            raise ConfigKeyError(
                ("root", second, "path"),
                f"{how} root {config.roots[first].path}",
                "remove one of the two",
            )


def _check_names(config: Config) -> None:
    """Each network that is named somewhere exists."""
    known = f"one of {', '.join(list(config.networks)[:20])}"
    for index, root in enumerate(config.roots):
        at: KeyPath = ("root", index, "limits", "networks")
        for place, name in enumerate(root.limits.networks):
            if name not in config.networks:
                raise ConfigKeyError((*at, place), "no such network", f"write {known}")
    for network in config.networks.values():
        at = ("network", network.name, "reach")
        for place, name in enumerate(network.reach):
            if name == network.name:
                raise ConfigKeyError((*at, place), "the network itself", "remove it")
            if name not in config.networks:
                raise ConfigKeyError((*at, place), "no such network", f"write {known}")


def _check_modes(config: Config) -> None:
    for network in config.networks.values():
        if not network.managed and not network.facts.unmanaged:
            raise ConfigKeyError(
                ("network", network.name, "managed"),
                f"a {network.mode} network is no bridge of somebody else's",
                'set managed = true, or mode = "bridge"',
            )


def _check_bridges(config: Config) -> None:
    owners: dict[str, Network] = {}
    for network in _default_first(config):
        owner = owners.setdefault(network.bridge, network)
        if owner is not network:
            raise ConfigKeyError(
                ("network", network.name, "bridge"),
                f"is the bridge of network {owner.name} as well",
                "give each network a bridge of its own",
            )


def _check_subnets(config: Config) -> None:
    rank = {network.name: place for place, network in enumerate(_default_first(config))}
    # Sorted like this, a subnet comes right before one that overlaps it.
    order = sorted(
        (
            (subnet.version, int(subnet.network_address), subnet.prefixlen, rank[network.name]),
            subnet,
            network,
        )
        for network in config.networks.values()
        for subnet in network.subnets
    )
    for (_, lower, one), (_, upper, two) in pairwise(order):
        if lower.version == upper.version and upper.network_address in lower:
            (kept, other), (blamed, subnet) = sorted(
                ((one, lower), (two, upper)), key=lambda pair: rank[pair[0].name]
            )
            raise ConfigKeyError(
                ("network", blamed.name, "subnets", blamed.subnets.index(subnet)),
                f"overlaps {other}, the subnet of network {kept.name}{_by_default(kept, other)}",
                "give one of the two another subnet",
            )


def _by_default(network: Network, subnet: Subnet) -> str:
    is_default = network.name == "default" and subnet in Network().subnets
    return " (its default; [network.default] can set another)" if is_default else ""


def _check_mtu(network: Network) -> None:
    if isinstance(network.mtu, int) and network.mtu < MIN_MTU_IPV6 and network.subnet_of(6):
        raise ConfigKeyError(
            ("network", network.name, "mtu"),
            f"less than {MIN_MTU_IPV6}, which IPv6 needs",
            f'write {MIN_MTU_IPV6} or more, or "auto", or remove the IPv6 subnet',
        )


def _check_routes(network: Network) -> None:
    if network.routes and not network.facts.on_link:
        raise ConfigKeyError(
            ("network", network.name, "routes"),
            f'its sandboxes have no neighbours on their links with mode = "{network.mode}"',
            "remove it",
        )
    for index, route in enumerate(network.routes):
        path = ("network", network.name, "routes", index, "via")
        if route.via.version != route.to.version:
            raise ConfigKeyError(path, f"not of the family of {route.to}", "write both alike")
        if not any(route.via in subnet for subnet in network.subnets):
            subnets = " or ".join(map(str, network.subnets))
            raise ConfigKeyError(path, "no neighbour", f"write an address of {subnets}")


def _default_first(config: Config) -> list[Network]:
    """The networks, the default first: it exists without being written, so others are blamed."""
    return sorted(config.networks.values(), key=lambda network: network.name != "default")
