"""What `watcher inspect` says of limits: those in force, where they are from, what was rejected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers.host import rejected
from watcher.model.policy.entries import DIRECTIONS
from watcher.model.policy.limits import RATES, bound, rate_in_force
from watcher.model.policy.origins import origins

if TYPE_CHECKING:
    from collections.abc import Mapping

    from watcher.model.network import Network
    from watcher.model.sandbox import Interface, Sandbox


def in_force(sandbox: Sandbox | None, networks: Mapping[str, Network]) -> list[dict[str, object]]:
    """The limits of each interface whose network is known, as JSON has them.

    `null` means no limit. Rejected packets are `null` without CAP_NET_ADMIN.
    """
    if sandbox is None:
        return []
    counts: dict[str, dict[str, int]] | None
    try:
        counts = rejected()
    except OSError:
        counts = None
    return [
        _of(sandbox, interface, networks, counts)
        for interface in sandbox.interfaces
        if interface.network in networks
    ]


def _of(
    sandbox: Sandbox,
    interface: Interface,
    networks: Mapping[str, Network],
    counts: Mapping[str, Mapping[str, int]] | None,
) -> dict[str, object]:
    limits, network = sandbox.limits, networks[interface.network]
    addresses = [str(address.ip) for address in interface.addresses]
    lists: dict[str, object] = {
        direction: [
            {"from": source.where, "entries": source.entries}
            for source in origins(direction, limits, network, networks.get(limits.policy))
        ]
        or None
        for direction in DIRECTIONS
    }
    return {
        "interface": interface.name,
        "network": interface.network,
        **lists,
        **{key: rate_in_force(limits, network, key) for key in RATES},
        "connections": bound(limits, (networks[n] for n in sandbox.networks if n in networks)),
        "rejected": counts
        and {
            direction: sum(of.get(address, 0) for address in addresses)
            for direction, of in counts.items()
        },
    }
