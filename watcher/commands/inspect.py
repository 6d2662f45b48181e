"""`watcher inspect CONTAINER`: everything that is known about one container, as JSON."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from handlers.host import is_guarded
from handlers.kernel.netlink import Netlink
from watcher.checks import leases
from watcher.commands import limits, opened
from watcher.commands.lookup import look_up
from watcher.commands.ls import as_json
from watcher.commands.output import print_json
from watcher.commands.resolving import resolving
from watcher.commands.status import Entry, entries_with_ports
from watcher.config.settings import Config
from watcher.model.cluster import Block
from watcher.model.network import Network
from watcher.store.reading import read_store


def run(config: Config, options: argparse.Namespace) -> int:
    """Print the container with the given id, name, or beginning of an id.

    Raises:
        WatcherError: there is none, or several.
    """
    with read_store(config) as store:
        found = look_up(config, options.container, entries_with_ports(config, store))
        networks = leases.networks(config)  # which writes nothing down
        lists = opened.lists_of(found.sandbox, networks, store)
        blocks = store.cluster.blocks()
    print_json(_known(config, found, networks, blocks) | {"opened": opened.by_names(lists)})
    return 0


def _known(
    config: Config, entry: Entry, networks: Mapping[str, Network], blocks: Sequence[Block]
) -> dict[str, object]:
    container, sandbox = entry.container, entry.sandbox
    with Netlink() as netlink:
        guarded = {
            interface.host_name: is_guarded(netlink, interface.host_name)
            for interface in (sandbox.interfaces if sandbox else ())
        }
    return as_json(entry) | {
        "bundle": container.bundle if container else "",
        "annotations": {k: v for k, v in container.annotations.items() if k != "bundle"}
        if container
        else {},
        "started": container.init.start if container else None,
        "netns": container.netns if container else None,
        "sandbox": sandbox.id if sandbox else None,
        "members": [member.id for member in sandbox.members] if sandbox else [],
        "pins": [f"{config.netns_dir}/{name}" for name in sandbox.pins] if sandbox else [],
        "interfaces": [
            {
                "name": interface.name,
                "network": interface.network,
                "veth": interface.host_name,
                "mac": interface.mac,
                "addresses": [str(address) for address in interface.addresses],
                "blocks": [
                    str(block.prefix)
                    for block in blocks
                    if block.network == interface.network
                    and any(address.ip in block.prefix for address in interface.addresses)
                ],
                "guarded": guarded[interface.host_name],
                "connected": None if interface.member is None else interface.member[1],
            }
            for interface in (sandbox.interfaces if sandbox else ())
        ],
        "dns": resolving(config, entry),
        "limits": limits.in_force(sandbox, networks),
        "port_maps": [
            str(port) for ports in (sandbox.ports if sandbox else ()) for port in ports.singles()
        ],
    }
