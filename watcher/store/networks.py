"""All known networks: the configured ones, and those that sandboxes still use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import msgspec

from watcher.model.errors import UsageError
from watcher.model.network import Network, Route
from watcher.model.policy.holding import not_held

if TYPE_CHECKING:
    from watcher.config.settings import Config
    from watcher.store.leases import LeaseStore

_NOTE: Final = "network "
"""The prefix of the names of notes, each with the settings of a network."""


def known_networks(config: Config, store: LeaseStore) -> Mapping[str, Network]:
    """The configured networks and those in use, by name; `store` has notes of the latter.

    Raises:
        UsageError: a changed setting of a network in use contradicts what its sandboxes have, or
            another network now has what they have.
    """
    known = dict(config.networks)
    noted: dict[str, Network] = {}
    users = store.users()
    for name, ids in users.items():
        before = noted_network(store, name)
        if before is None:
            continue
        noted[name] = before
        now = known.setdefault(name, before)
        if name not in config.networks:
            _refuse_in_place_of(before, ids, config.networks.values())
        for key in ("bridge", "subnets", "cluster", "block"):
            if getattr(before, key) != getattr(now, key):
                raise UsageError(
                    f"network.{name}.{key} was changed from {_shown(getattr(before, key))} while"
                    f" {len(ids)} sandboxes use it, e.g. {ids[0]}",
                    "change it back, or stop them first",
                )
    if any(noted.get(name) != known.get(name) for name in users):  # seldom, and it reads many
        _refuse_to_let_go(store, noted, known)
    for name, network in known.items():
        if (noted.get(name) or noted_network(store, name)) != network:
            note_network(store, network)
    return known


def networks_in_use(store: LeaseStore) -> Mapping[str, Network]:
    """The networks that sandboxes use, by name, as they were then."""
    found = {name: noted_network(store, name) for name in store.users()}
    return {name: network for name, network in found.items() if network is not None}


def _refuse_to_let_go(
    store: LeaseStore, noted: Mapping[str, Network], known: Mapping[str, Network]
) -> None:
    """Refuse changed networks in which a sandbox would be held to its own lists no more."""
    for sandbox in store.limited():
        limits = sandbox.limits
        for name in noted.keys() & set(sandbox.networks):
            why = not_held(limits, known[name], known.get(limits.policy))
            if why and not not_held(limits, noted[name], noted.get(limits.policy)):
                changed, there = name, "a list there"
                if known[name] == noted[name]:
                    changed, there = limits.policy, f"its lists in network {name}"
                raise UsageError(
                    f"network.{changed} was changed while {sandbox.id} is held to {there}: {why}",
                    "change it back, or stop that container first",
                )


def _refuse_in_place_of(former: Network, ids: Sequence[str], configured: Iterable[Network]) -> None:
    """Refuse one of the `configured` networks that has the bridge or addresses of a `former` one.

    Each network leases addresses for itself, so two sandboxes would have the same.
    """
    for network in configured:
        taken = [("bridge", network.bridge)] if network.bridge == former.bridge else []
        taken += [
            ("subnets", str(one))
            for one, other in product(network.subnets, former.subnets)
            if one.version == other.version and one.overlaps(other)
        ]
        for key, value in taken:
            raise UsageError(
                f"network.{network.name}.{key} = {value}: network {former.name}, which is in the"
                f" configuration no more, has that, and {len(ids)} sandboxes use it, e.g. {ids[0]}",
                f"put [network.{former.name}] back, or stop them first",
            )


def noted_network(store: LeaseStore, name: str) -> Network | None:
    """The settings with which the network `name` was last used."""
    text = store.noted(_NOTE + name)
    if text is None:
        return None
    values: dict[str, Any] = msgspec.json.decode(text)
    values["subnets"] = tuple(map(ip_network, values["subnets"]))
    for key in ("reach", "egress", "ingress"):
        if values.get(key) is not None:
            values[key] = tuple(values[key])
    values["routes"] = tuple(
        Route(ip_network(route["to"]), ip_address(route["via"])) for route in values["routes"]
    )
    return Network(**{key: values[key] for key in Network.__struct_fields__ if key in values})


def note_network(store: LeaseStore, network: Network) -> None:
    """Note the settings of `network`, so that they are known after it leaves the configuration."""
    store.note(_NOTE + network.name, msgspec.json.encode(network, enc_hook=str).decode())


def noted_networks(store: LeaseStore) -> list[Network]:
    """All networks that were ever used and not removed."""
    names = [n.removeprefix(_NOTE) for n in store.notes() if n.startswith(_NOTE)]
    return [network for name in names if (network := noted_network(store, name)) is not None]


def erase_network(store: LeaseStore, name: str) -> None:
    """Forget the settings of the network `name`."""
    store.erase(_NOTE + name)


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
