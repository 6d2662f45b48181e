"""Which `/etc/resolv.conf` a container gets, and which ones there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers.resolv_conf import DIRECTORY, ResolvConf
from watcher.model.names import asks_at, resolv_conf
from watcher.model.network import gateway

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from watcher.config.settings import Config
    from watcher.model.address import Address, Subnet
    from watcher.model.network import Network
    from watcher.model.sandbox import Member, Sandbox


def wanted(
    sandbox: Sandbox, member: Member, config: Config, networks: Mapping[str, Network]
) -> ResolvConf | None:
    """What `member` of `sandbox` gets; `None` if its network has no names, or it wants none."""
    found = asks_at(sandbox, member, networks)
    return None if found is None else _file(config, *found)


def all_of(config: Config, networks: Iterable[Network]) -> Iterator[ResolvConf]:
    """All that containers of `networks` may get."""
    for network in networks:
        if network.named:
            for subnet in network.subnets:
                yield _file(config, network, gateway(subnet))


def _first(network: Network) -> Subnet:
    """The subnet of IPv4, if there is one."""
    return min(network.subnets, key=lambda subnet: subnet.version)


def _file(config: Config, network: Network, server: Address) -> ResolvConf:
    """The file for those who ask at the gateway `server` of `network`.

    No network's name ends one of the two suffixes so that it looks like the other.
    """
    suffix = "conf" if server.version == _first(network).version else "conf6"
    path = f"{config.run_dir}/{DIRECTORY}/{network.name}.{suffix}"
    return ResolvConf(path, resolv_conf(server, config.names.domain))
