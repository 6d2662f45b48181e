"""What the service, its rules and the name service have to agree on about names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from watcher.model.network import Network
    from watcher.model.sandbox import Interface

PORT: Final = 29053
"""The port of the gateways' addresses on which the name service listens, by UDP and TCP.

It is no port that the kernel chooses (`ip_local_port_range` begins at 32768), and none of
Kubernetes' (30000 to 32767).
"""

DNS_PORT: Final = 53
"""The port on which a sandbox asks its gateway; nftables sends that to :data:`PORT`."""

HOST: Final = "host"
"""The name of the host, in the domain."""


def asks_at(network: Network, interface: Interface) -> str:
    """The address at which the sandbox with `interface` asks: its gateway's, of IPv4 if it can."""
    from watcher.model.network import gateway

    versions = sorted(address.version for address in interface.addresses)
    subnet = network.subnet_of(versions[0])
    assert subnet is not None
    return str(gateway(subnet))


def resolv_conf(server: str, domain: str) -> str:
    """The `/etc/resolv.conf` of a container (resolv.conf(5)).

    Without `search`, glibc would take the domain of the container's hostname for it. There are no
    options: with `ndots` of 1, which glibc and musl have by default, a name without a dot is asked
    for in the domain first. One server only: musl asks all at once.
    """
    return f"# Made by watcher: docs/names.md\nsearch {domain}\nnameserver {server}\n"
