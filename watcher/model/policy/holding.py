"""Where sandboxes can be held to lists, and where they would get round them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watcher.model.policy.access import access
from watcher.model.policy.words import lets_in_neighbours, spelled_out

if TYPE_CHECKING:
    from watcher.model.network import Network
    from watcher.model.policy.access import AccessList
    from watcher.model.policy.limits import SandboxLimits


def cannot_hold(network: Network) -> str:
    """The key that makes it impossible to hold sandboxes of `network` to a list; empty if none.

    Lists are looked up by addresses and by bridges. Without the guard a sandbox can send from
    another address. A bridge of somebody else's has ports that are not ours. By a route through a
    neighbour the neighbour's address stands for others.
    """
    if not network.managed:
        return "managed = false"
    if not network.guard:
        return "guard = false"
    return "routes" if network.routes else ""


def by_neighbours(network: Network, held: AccessList) -> bool:
    """Whether neighbours reach a sandbox directly that `held`, of ingress, keeps them from.

    On a bridge their frames pass by the host only if the network has a list itself.
    """
    direct = network.facts.on_link and not network.isolate and not network.policed
    subnets = network.subnets
    return direct and not lets_in_neighbours(spelled_out(held, subnets), subnets)


def not_held(limits: SandboxLimits, network: Network, forced: Network | None) -> str:
    """Why a sandbox with `limits` is not held to its own lists in `network`; empty if it is.

    `forced` is the network whose policy its root forces upon it.
    """
    own = limits.egress is not None or limits.ingress is not None or bool(limits.policy)
    if own and (key := cannot_hold(network)):
        return f"with {key} nobody is held to a list"
    held = access("ingress", limits, network, forced)
    if held is not None and by_neighbours(network, held):
        return "without a list, neighbours reach each other directly"
    return ""
