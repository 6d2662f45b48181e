"""What `watcher inspect` says of names: the addresses that are open because of them at present."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers.host import opened_by_names
from watcher.model.policy.access import access

if TYPE_CHECKING:
    from collections.abc import Mapping

    from watcher.model.network import Network
    from watcher.model.sandbox import Sandbox
    from watcher.store.leases import LeaseStore


def lists_of(
    sandbox: Sandbox | None, networks: Mapping[str, Network], store: LeaseStore
) -> dict[str, int]:
    """By the name of an interface, the number of the list with names that it is held to."""
    found = {}
    for interface in () if sandbox is None else sandbox.interfaces:
        network = networks.get(interface.network)
        if sandbox is not None and network is not None:
            forced = networks.get(sandbox.limits.policy)
            held = access("egress", sandbox.limits, network, forced)
            number = store.known_number(held.document) if held is not None and held.named else None
            if number is not None:
                found[interface.name] = number
    return found


def by_names(lists: Mapping[str, int]) -> list[dict[str, object]] | None:
    """What is open for these lists, as JSON has it; `None` if this user may not see it."""
    if not lists:
        return []
    try:
        opened = opened_by_names(lists.values())
    except OSError:
        return None
    return [
        {
            "interface": interface,
            "address": str(one.address),
            "names": list(one.names),
            "seconds": one.seconds,
        }
        for interface, number in lists.items()
        for one in opened.get(number, ())
    ]
