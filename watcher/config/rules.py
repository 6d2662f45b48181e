"""Checks the rules between the keys of a configuration; `keys` checks each key by itself."""

from __future__ import annotations

from itertools import pairwise
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from handlers.kernel.rootpath import real
from watcher.config.patterns import is_pattern, matches
from watcher.model.network import Network
from watcher.model.reaching import parse_reach

if TYPE_CHECKING:
    from watcher.config.settings import Config
    from watcher.model.address import Subnet

type KeyPath = tuple[str | int, ...]
"""The place of a value in the file: names of keys, and indices into lists, from 0."""

MIN_MTU_IPV6: Final = 1280
"""The least MTU of a link with IPv6 (RFC 8200, section 5)."""


_MAX_PATTERNS: Final = 64
"""The most roots by pattern: each is compared with every other root."""


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
    """No root is repeated or within another: one container would become two.

    Two patterns may match the same directory, and so may a pattern and a path.
    """
    if not config.roots:
        raise ConfigKeyError(
            ("root",), "no root to watch", 'write [[root]] with path = "/run/runc"'
        )
    paths = [real(root.path) for root in config.roots]
    # Sorted like this, a directory comes right before those within it.
    order = sorted((PurePath(path).parts, i) for i, path in enumerate(paths))
    for (outer, first), (inner, second) in pairwise(order):
        if inner[: len(outer)] == outer:
            raise _not_apart(config, first, second, same=inner == outer)
    patterns = [i for i, root in enumerate(config.roots) if is_pattern(root.path)]
    if len(patterns) > _MAX_PATTERNS:
        raise ConfigKeyError(
            ("root", patterns[_MAX_PATTERNS], "path"),
            f"more than {_MAX_PATTERNS} patterns", "write fewer that match more",
        )  # fmt: skip
    for first in patterns:
        _check_own_directories(config, first)
        depth = paths[first].count("/")
        for second, path in enumerate(paths):
            above = "/".join(path.split("/")[: depth + 1])
            if path.count("/") > depth and matches(paths[first], above):
                raise _not_apart(config, first, second, same=False)


def _not_apart(config: Config, first: int, second: int, *, same: bool) -> ConfigKeyError:
    how = "is the same directory as" if same else "is within"
    return ConfigKeyError(
        ("root", second, "path"),
        f"{how} root {config.roots[first].path}",
        "remove one of the two",
    )


def _check_own_directories(config: Config, index: int) -> None:
    """A pattern matches none of the program's own directories, nor one above them."""
    pattern = config.roots[index].path
    depth = pattern.count("/")
    for key in ("state_dir", "run_dir", "netns_dir"):
        above = "/".join(getattr(config, key).split("/")[: depth + 1])
        if matches(pattern, above):
            raise ConfigKeyError(
                ("root", index, "path"), f"matches {above}, where {key} is", "write a narrower one"
            )


def _check_names(config: Config) -> None:
    """Each network that is named somewhere exists."""
    known = f"one of {', '.join(list(config.networks)[:20])}"
    for index, root in enumerate(config.roots):
        at: KeyPath = ("root", index, "limits", "networks")
        for place, name in enumerate(root.limits.networks):
            if name not in config.networks:
                raise ConfigKeyError((*at, place), "no such network", f"write {known}")
        if (policy := root.limits.policy) and policy not in config.networks:
            at = ("root", index, "limits", "policy")
            raise ConfigKeyError(at, "no such network", f"write {known}")
    for network in config.networks.values():
        at = ("network", network.name, "reach")
        for place, text in enumerate(network.reach):
            name = parse_reach(text).network
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
