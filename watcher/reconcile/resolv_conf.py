"""Which `/etc/resolv.conf` a container gets, and which ones there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers.resolv_conf import DIRECTORY, ResolvConf
from watcher.containers.annotations import parse_request
from watcher.model.keys import SHARE
from watcher.model.names import resolv_conf
from watcher.model.network import gateway

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from watcher.config.settings import Config
    from watcher.model.container import Container
    from watcher.model.network import Network
    from watcher.model.sandbox import Member, Sandbox


def wanted(
    sandbox: Sandbox, member: Member, config: Config, networks: Mapping[str, Network]
) -> ResolvConf | None:
    """What `member` of `sandbox` gets; `None` if its network has no names, or it wants none.

    It is that of the sandbox's first network, whatever was connected to it later.
    """
    if member.asked.dns == ():
        return None
    first = next((one for one in sandbox.interfaces if one.member is None), None)
    network = None if first is None else networks.get(first.network)
    if first is None or network is None or not network.named:
        return None
    return _file(config, network, min(address.version for address in first.addresses))


def expected(
    container: Container, config: Config, networks: Mapping[str, Network]
) -> ResolvConf | None:
    """What a container will get that is being attached; `None` if that is yet to be seen.

    :func:`wanted` has the last word.
    """
    if not container.has_own_netns or SHARE in container.annotations:
        return None
    request = parse_request(container.annotations, container.hostname)
    names = ("default",) if request.networks is None else request.networks
    network = networks.get(names[0]) if names else None
    if network is None or not network.named or request.dns == ():
        return None
    return _file(config, network, min(subnet.version for subnet in network.subnets))


def all_of(config: Config, networks: Iterable[Network]) -> Iterator[ResolvConf]:
    """All that containers of `networks` may get."""
    for network in networks:
        if network.named:
            for subnet in network.subnets:
                yield _file(config, network, subnet.version)


def _file(config: Config, network: Network, version: int) -> ResolvConf:
    """The file for those whose first address is of that IP `version`.

    No network's name ends one of the two suffixes so that it looks like the other.
    """
    first = min(subnet.version for subnet in network.subnets)
    suffix = "conf" if version == first else "conf6"
    subnet = network.subnet_of(version)
    assert subnet is not None
    path = f"{config.run_dir}/{DIRECTORY}/{network.name}.{suffix}"
    return ResolvConf(path, resolv_conf(str(gateway(subnet)), config.names.domain))
