"""What the service, its rules and the name service have to agree on about names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from watcher.model.network import gateway

if TYPE_CHECKING:
    from collections.abc import Mapping

    from watcher.model.address import Address
    from watcher.model.network import Network
    from watcher.model.sandbox import Member, Sandbox

PORT: Final = 29053
"""The port of the gateways' addresses on which the name service listens, by UDP and TCP.

It is no port that the kernel chooses (`ip_local_port_range` begins at 32768), and none of
Kubernetes' (30000 to 32767).
"""

DNS_PORT: Final = 53
"""The port on which a sandbox asks its gateway; nftables sends that to :data:`PORT`."""

HOST: Final = "host"
"""The name of the host, in the domain."""


def asks_in(
    sandbox: Sandbox, member: Member, networks: Mapping[str, Network]
) -> tuple[Network, int] | None:
    """The network in which `member` asks, and the version of IP by which it does: 4 if it can.

    It is the sandbox's first network, whatever was connected later. `None` if that has no names, or
    the container wants none (`io.watcher.dns: none`).
    """
    for first in sandbox.interfaces:
        if first.member is None:
            break
    else:
        return None
    network = networks.get(first.network)
    if network is None or not network.named or member.asked.dns == ():
        return None
    return network, min([address.version for address in first.addresses])


def asks_at(
    sandbox: Sandbox, member: Member, networks: Mapping[str, Network]
) -> tuple[Network, Address] | None:
    """The network in which `member` asks, as :func:`asks_in` says, and its gateway there."""
    found = asks_in(sandbox, member, networks)
    if found is None:
        return None
    network, version = found
    subnet = network.subnet_of(version)
    assert subnet is not None
    return network, gateway(subnet)


def resolv_conf(server: Address, domain: str) -> str:
    """The `/etc/resolv.conf` of a container (resolv.conf(5)).

    Without `search`, glibc would take the domain of the container's hostname for it. There are no
    options: with `ndots` of 1, which glibc and musl have by default, a name without a dot is asked
    for in the domain first. One server only: musl asks all at once.
    """
    return f"# Made by watcher: docs/names.md\nsearch {domain}\nnameserver {server}\n"
