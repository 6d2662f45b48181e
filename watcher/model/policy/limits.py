"""What a sandbox was limited to when it was made; the lease store keeps it as a document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable

    from watcher.model.network import Network


class SandboxLimits(Struct, frozen=True, omit_defaults=True):
    """The limits of a sandbox: what was asked for, and what its root allows at the most.

    What its networks limit is not here, as that may change while it runs.

    Attributes:
        egress, ingress: the entries of its annotations; `None` without one.
        policy: the network whose `egress` and `ingress` its root forces upon it; else empty.
        ingress_bandwidth, egress_bandwidth: bits a second that it may receive and send by each
            interface; `None` means that of the network.
        connections: the most entries in the table of connections; `None` means that of the network.
        most_ingress_bandwidth, most_egress_bandwidth, most_connections: what its root allows.
    """

    egress: tuple[str, ...] | None = None
    ingress: tuple[str, ...] | None = None
    policy: str = ""
    ingress_bandwidth: int | None = None
    egress_bandwidth: int | None = None
    connections: int | None = None
    most_ingress_bandwidth: int | None = None
    most_egress_bandwidth: int | None = None
    most_connections: int | None = None

    @property
    def forced(self) -> bool:
        """Whether its frames all have to pass the host, even those to neighbours."""
        return self.egress is not None or bool(self.policy)


UNLIMITED = SandboxLimits()


def least(asked: int | None, usual: int | None, most: int | None) -> int | None:
    """What is in force: what was `asked` for, else the network's `usual`, never above `most`."""
    value = usual if asked is None else asked
    if value is None or (most is not None and most < value):
        return most
    return value


RATES: Final = ("ingress_bandwidth", "egress_bandwidth")
"""The limits of bandwidth, by their keys: what an interface receives, and what it sends."""


def rate_in_force(limits: SandboxLimits, network: Network, key: str) -> int | None:
    """The one of :data:`RATES` that is in force for an interface in `network`."""
    return least(getattr(limits, key), getattr(network, key), getattr(limits, f"most_{key}"))


def bound(limits: SandboxLimits, networks: Iterable[Network]) -> int | None:
    """The most connections of a sandbox in `networks` at once; `None` means any number.

    Of the defaults of several networks, the least counts.
    """
    usual = None
    for network in networks:
        usual = least(usual, None, network.connections)
    return least(limits.connections, usual, limits.most_connections)
