"""`watcher network ls` and `watcher network rm NAME`."""

from __future__ import annotations

import argparse
import socket
from typing import Any, Final

from watcher.commands.output import print_json, print_table
from watcher.config.settings import Config
from watcher.model.errors import WatcherError, quoted
from watcher.model.network import Network, gateway
from watcher.service.assemble import assembled
from watcher.store.networks import erase_network, noted_networks
from watcher.store.reading import read_store
from watcher.store.room import room

HEADER: Final = ("NAME", "BRIDGE", "SUBNETS", "SANDBOXES", "CONFIGURED", "EXISTS")
CLUSTERED: Final = ("BLOCKS", "FREE")
"""The last columns, if any network is clustered."""


def run(config: Config, options: argparse.Namespace) -> int:
    """Print the networks, or remove one.

    Raises:
        WatcherError: there is no such network, it is in use, or its bridge is not ours.
    """
    if options.action == "rm":
        return _remove(config, options)
    rows = _rows(config)
    if options.json:
        print_json(rows)
        return 0
    header = HEADER + (CLUSTERED if any(row["cluster"] for row in rows) else ())
    print_table(header, [_cells(row)[: len(header)] for row in rows])
    return 0


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        str(row["name"]), str(row["bridge"]), " ".join(row["subnets"]),
        str(row["sandboxes"]), _yes(row["configured"]), _yes(row["exists"]),
        " ".join(row["blocks"]), " ".join(map(str, row["free"])),
    ]  # fmt: skip


def _rows(config: Config) -> list[dict[str, Any]]:
    with read_store(config) as store:
        noted = {network.name: network for network in noted_networks(store)}
        users = store.users()
        used, lent = store.cluster.used(), store.cluster.lent()
    there = {name for _, name in socket.if_nameindex()}
    networks = config.networks | {n: v for n, v in noted.items() if n not in config.networks}
    return [
        {
            "name": name,
            "bridge": network.bridge,
            "subnets": [str(subnet) for subnet in network.subnets],
            "gateways": [str(gateway(subnet)) for subnet in network.subnets],
            "sandboxes": len(users.get(name, ())),
            "configured": name in config.networks,
            "exists": network.bridge in there,
            "egress": network.egress,
            "ingress": network.ingress,
            "ingress_bandwidth": network.ingress_bandwidth,
            "egress_bandwidth": network.egress_bandwidth,
            "connections": network.connections,
            "cluster": network.cluster,
            "blocks": [
                str(block.prefix)
                for block, _ in used
                if block.network == name and block.state == "held" and not block.is_claim
            ],
            "free": [
                room(network, subnet, used, lent.get(name, ())).free for subnet in network.subnets
            ]
            if network.cluster
            else [],
        }
        for name, network in sorted(networks.items())
        if name in config.networks or name in users or network.bridge in there
    ]


def _remove(config: Config, options: argparse.Namespace) -> int:
    from watcher.log.logger import make_log

    with assembled(config, make_log("warning", options.log_format)) as (_, store, host):
        noted = {network.name: network for network in noted_networks(store)}
        network: Network | None = config.networks.get(options.name) or noted.get(options.name)
        if network is None:
            raise WatcherError(
                f"there is no network {quoted(options.name)}", "see `watcher network ls`"
            )
        users = store.users().get(network.name)
        if users:
            raise WatcherError(
                f"network {quoted(network.name)} is in use by {', '.join(users[:5])}"
                + (f" and {len(users) - 5} more" if len(users) > 5 else ""),
                "stop or disconnect them first",
            )
        if host.host_sides.exists(network) and not host.host_sides.remove_one(network):
            raise WatcherError(
                f"bridge {network.bridge} was not made by watcher", "remove it with `ip link del`"
            )
        if options.name not in config.networks:
            erase_network(store, network.name)
    return 0


def _yes(value: object) -> str:
    return "yes" if value else "no"
