"""What a sandbox is held to in one of its networks, with what its root forces upon it."""

from __future__ import annotations

from collections.abc import Mapping

from handlers.networks.driver import Driver
from watcher.model.policy.access import AccessList, access
from watcher.model.policy.entries import Direction
from watcher.model.sandbox import Interface, Sandbox

type HeldBy = tuple[Interface, AccessList]
"""An interface, and what counts for it."""


def _access_of(
    direction: Direction, sandbox: Sandbox, interface: Interface, drivers: Mapping[str, Driver]
) -> AccessList | None:
    """What counts for `interface` of `sandbox`; `None` if nothing does.

    If nobody knows the network whose lists its root forces upon it, that is a list without entries.
    """
    network, policy = drivers[interface.network].network, sandbox.limits.policy
    if not policy:
        return access(direction, sandbox.limits, network, None)
    try:
        forced = drivers[policy].network  # not `get`: another process may have made it known
    except KeyError:
        return AccessList(direction, ((),))
    return access(direction, sandbox.limits, network, forced)


def held_interfaces(
    direction: Direction, sandbox: Sandbox, drivers: Mapping[str, Driver]
) -> list[HeldBy]:
    """The interfaces of `sandbox` for which something counts, with that."""
    found = []
    for interface in sandbox.interfaces:
        held = _access_of(direction, sandbox, interface, drivers)
        if held is not None:
            found.append((interface, held))
    return found
