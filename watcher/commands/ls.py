"""`watcher ls`: a table of containers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from watcher.commands.output import print_json, print_table, terminal_width
from watcher.commands.status import Entry, entries_with_ports
from watcher.config.settings import Config
from watcher.containers.ports import format_ports
from watcher.model.errors import quoted
from watcher.model.naming import SHORT_ID, short_id
from watcher.model.network import Network
from watcher.store.reading import read_store

HEADER: Final = ("ID", "NAME", "PID", "STATUS", "NETWORK", "ADDRESS", "PORTS", "VETH")
REASON: Final = "REASON"
"""The last column, if any container has one."""

_PATIENCE: Final = 0.1
"""Seconds in which a name service takes a connection."""

_LEAST: Final = {
    REASON: 16, "PORTS": 8, "NAME": 8, "NETWORK": 7, "VETH": 8, "ADDRESS": 15, "ID": SHORT_ID,
}  # fmt: skip
"""What is shortened to fit a terminal, in this order, and to how many characters."""


def run(config: Config, options: argparse.Namespace) -> int:
    """Print every container of every root, and with `--all` or `--json` those refused lately."""
    with read_store(config) as store:
        found = list(entries_with_ports(config, store))
    if options.json:
        print_json([as_json(entry) for entry in found])
        return 0
    used = _used(config, found)
    _tell_if_nobody_answers(config, used)
    _tell_if_no_cluster_runs(config, used)
    shown = [as_json(entry) for entry in found if options.all or not entry.refused]
    for item in shown:  # the line begins with its id
        item["reason"] = str(item["reason"]).removeprefix(f"container {quoted(item['id'])}: ")
    header = (*HEADER, REASON) if any(item["reason"] for item in shown) else HEADER
    if options.no_trunc:
        print_table(header, [_row(item, header) for item in shown])
        return 0
    for item in shown:
        item["id"] = short_id(str(item["id"]))
    rows = [_row(item, header) for item in shown]
    print_table(header, rows, within=terminal_width(), least=_LEAST)
    return 0


def _used(config: Config, entries: Sequence[Entry]) -> list[Network]:
    """The configured networks that containers are in, by name."""
    used = {i.network for entry in entries if entry.sandbox for i in entry.sandbox.interfaces}
    return [config.networks[name] for name in sorted(used & config.networks.keys())]


def _tell_if_nobody_answers(config: Config, used: Sequence[Network]) -> None:
    """Say on stderr if containers have names, and no name service runs."""
    named = [network.name for network in used if network.named]
    if not named:
        return
    from watcher.observe.name_service import is_there

    if not is_there(config.run_dir, _PATIENCE):
        sys.stderr.write(
            f"watcher: no name service runs: containers of {', '.join(named)} resolve no names;"
            " run `systemctl enable --now watcher-names`, or set names = false in"
            f" [network.{named[0]}]\n"
        )


def _tell_if_no_cluster_runs(config: Config, used: Sequence[Network]) -> None:
    """Say on stderr if containers are in clustered networks, and no `watcher cluster` runs."""
    clustered = [network.name for network in used if network.cluster]
    if not clustered:
        return
    from watcher.cluster.endpoints.reading import is_there

    if not is_there(config.run_dir):
        sys.stderr.write(
            "watcher: no `watcher cluster` runs: this host and the others hear of no changes in"
            f" {', '.join(clustered)}; run `systemctl enable --now watcher-cluster`\n"
        )


def as_json(entry: Entry) -> dict[str, object]:
    """A container as `--json` shows it."""
    interfaces = entry.sandbox.interfaces if entry.sandbox else ()
    return {
        "id": entry.id,
        "name": list(entry.names),
        "pid": entry.pid,
        "status": str(entry.status),
        "network": [interface.network for interface in interfaces],
        "address": [str(a.ip) for interface in interfaces for a in interface.addresses],
        "ports": format_ports(entry.member.ports).split(",")
        if entry.member and entry.member.ports
        else [],
        "veth": [interface.host_name for interface in interfaces],
        "root": entry.root,
        "reason": entry.reason,
        "refused": entry.refused,
    }


def _row(item: dict[str, object], header: tuple[str, ...]) -> list[str]:
    cells = []
    for name in header:
        value = item[name.lower()]
        cells.append(",".join(value) if isinstance(value, list) else str(value or ""))
    return cells
