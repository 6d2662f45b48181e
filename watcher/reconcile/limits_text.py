"""What a sandbox is limited to in its networks, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watcher.model.policy.access import access
from watcher.model.policy.entries import DIRECTIONS
from watcher.model.policy.limits import RATES, bound, rate_in_force
from watcher.model.policy.rates import rate_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from watcher.model.network import Network
    from watcher.model.policy.limits import SandboxLimits


def described(
    limits: SandboxLimits, networks: Collection[Network], configured: Mapping[str, Network]
) -> list[str]:
    """What counts in `networks`; where they differ, with the network's name.

    Each list is as its author wrote it, sorted; several count together.
    """
    each = {one.name: dict(_in(limits, one, configured)) for one in networks}
    found = []
    for what in dict.fromkeys(what for one in each.values() for what in one):
        said = {name: one.get(what) for name, one in each.items()}
        if len(set(said.values())) == 1:
            found += [f"{what} {value}" for value in list(said.values())[:1]]
        else:
            found += [f"{what} in network {name} {value}" for name, value in said.items() if value]
    if (most := bound(limits, networks)) is not None:
        found.append(f"connections {most}")
    return found


def _in(
    limits: SandboxLimits, network: Network, configured: Mapping[str, Network]
) -> Iterator[tuple[str, str]]:
    for direction in DIRECTIONS:
        held = access(direction, limits, network, configured.get(limits.policy))
        if held is not None:
            yield direction, " and ".join(",".join(one) or "none" for one in held.lists)
    for name in RATES:
        value = rate_in_force(limits, network, name)
        if value is not None:
            yield name.replace("_", "-"), rate_text(value)
