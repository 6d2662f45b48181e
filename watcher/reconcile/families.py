"""Which IP versions a new sandbox can have: its namespace may have IPv6 turned off.

runc writes `net.ipv6.conf.all.disable_ipv6` of `linux.sysctl` before the container is held. Whether
it did is asked of the kernel, whatever a bundle says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from watcher.model import keys
from watcher.model.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from handlers.host import Host
    from watcher.model.container import Container
    from watcher.model.network import Network
    from watcher.model.request import Request

_OFF: Final = "IPv6 is turned off in its network namespace"
_REMEDY: Final = "remove disable_ipv6 from linux.sysctl of its config.json"


def possible(
    host: Host, container: Container, networks: Sequence[Network], request: Request
) -> Sequence[Network]:
    """`networks` with the subnets that a live `container` can have addresses of.

    Raises:
        InvalidRequest: it asks for IPv6, or has a network without another family.
        NamespaceGone: its init has ended meanwhile.
    """
    assert container.netns is not None
    for network in networks:
        if network.subnet_of(6) is not None:
            break
    else:
        return networks
    if host.links.has_ipv6(container.init.pid, container.netns):
        return networks
    _check(networks, request)
    return [
        replace(network, subnets=tuple(s for s in network.subnets if s.version == 4))
        for network in networks
    ]


def _check(networks: Sequence[Network], request: Request) -> None:
    for network in networks:
        if network.subnet_of(4) is None:
            remedy = f"name a network with an IPv4 subnet, or {_REMEDY}"
            raise InvalidRequest(keys.NETWORK, network.name, _OFF, remedy)
    for address in request.addresses:
        if address.version == 6:
            raise InvalidRequest(keys.IP, address, _OFF, f"leave it out, or {_REMEDY}")
    for port in request.ports:
        if port.host_ip is not None and port.host_ip.version == 6:
            raise InvalidRequest(keys.PORTS, port, _OFF, f"leave it out, or {_REMEDY}")
