"""Which host of the cluster has an address that no container here has."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from watcher.cluster.known import from_store
from watcher.model.errors import WatcherError

if TYPE_CHECKING:
    from watcher.config.settings import Config
    from watcher.store.leases import LeaseStore


def elsewhere(config: Config, store: LeaseStore, text: str) -> WatcherError | None:
    """The error about `text`, if it is an address that another host has; else `None`."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if not config.cluster.etcd:
        return None
    known = from_store(config, store)
    for network in config.networks.values():
        host = known.holder(network.name, address) if network.cluster else None
        if host is None:
            continue
        if host.state == "this":
            where = f"in a block of this host, of network {network.name}"
            return WatcherError(f"{text} is {where}", "see `watcher ls` for who has it")
        where = f"an address of host {host.name} ({host.address}), of network {network.name}"
        return WatcherError(f"{text} is {where}", "run `watcher ls` there for who has it")
    return None
